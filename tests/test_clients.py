"""Programs written for WhisperX: what each of them imports, calls and reads, with the demo model."""

import dataclasses
import importlib
import io
import json
import shlex
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import whisperx
from whisperx.schema import Span, Turn

OPTIONS = {"beam_size": 1, "temperatures": 0.0}
LAYOUT = {"max_line_width": None, "max_line_count": None, "highlight_words": False}


@pytest.fixture(scope="module")
def audio(demo_audio: Path) -> np.ndarray:
    return whisperx.load_audio(str(demo_audio))[: 9 * 16000]


@pytest.fixture(scope="module")
def model(demo_model: Path) -> Any:
    return whisperx.load_model(str(demo_model), "cpu", compute_type="float32", language="en", asr_options=OPTIONS)


@pytest.fixture(scope="module")
def result(model: Any, audio: np.ndarray) -> dict[str, Any]:
    return model.transcribe(audio, batch_size=8)


class Sure:
    """An alignment network that hears every letter a little: what `align` makes of it is of no interest here."""

    frame_seconds = 0.02

    def emissions(self, audio: Any, batch_size: int, *, compat: bool = False) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        return [np.log(rng.dirichlet(np.ones(28), len(sound) // 320)).astype(np.float32) for sound in audio]


LETTERS = {letter: i for i, letter in enumerate("-|abcdefghijklmnopqrstuvwxyz")}
METADATA = {"language": "en", "dictionary": LETTERS, "type": "torchaudio"}


@pytest.fixture(scope="module")
def aligned(result: dict[str, Any], audio: np.ndarray) -> dict[str, Any]:
    return whisperx.align(result["segments"], Sure(), METADATA, audio, "cpu", return_char_alignments=False)


@pytest.fixture
def turns() -> list[Turn]:
    return [Turn(0.0, 5.0, "SPEAKER_00"), Turn(5.0, 9.0, "SPEAKER_01")]


# pavelzbornik/whisperX-FastAPI


def test_whisperx_fastapi(demo_model, audio, turns):
    from whisperx import align, load_align_model, load_audio, load_model

    assert callable(load_align_model)
    assert callable(load_audio)
    model = load_model(
        str(demo_model),
        device="cpu",
        device_index=0,
        compute_type="float32",
        asr_options={
            "beam_size": 1,
            "best_of": 5,
            "patience": 1.0,
            "length_penalty": 1.0,
            "temperatures": 0.0,
            "compression_ratio_threshold": 2.4,
            "log_prob_threshold": -1.0,
            "no_speech_threshold": 0.6,
            "initial_prompt": None,
            "suppress_tokens": [-1],
            "suppress_numerals": False,
            "hotwords": None,
        },
        vad_options={"vad_onset": 0.5, "vad_offset": 0.363},
        language="en",
        task="transcribe",
        threads=0,
    )
    result = model.transcribe(audio=audio, batch_size=8, chunk_size=20, language="en")
    aligned = align(
        result["segments"], Sure(), METADATA, audio, "cpu", interpolate_method="nearest", return_char_alignments=False
    )
    spoken = whisperx.assign_word_speakers(turns, aligned)
    assert all({"start", "end", "text", "words"} <= segment.keys() for segment in spoken["segments"])
    assert spoken["word_segments"]
    assert whisperx.audio.SAMPLE_RATE == 16000
    assert whisperx.utils.LANGUAGES["en"] == "english"
    with pytest.raises(ValueError, match="float16"):
        load_model(str(demo_model), device="cpu", compute_type="float16", backend="mlx")


# Nyralei/whisperx-api-server


def test_whisperx_api_server(demo_model, audio, aligned):
    from whisperx import alignment, asr, diarize, transcribe
    from whisperx.utils import WriteAudacity, WriteSRT, WriteVTT

    model = transcribe.load_model(
        whisper_arch=str(demo_model),
        device="cpu",
        device_index=0,
        compute_type="default",
        language=None,
        vad_model=None,
        vad_method="silero",
        vad_options={"vad_onset": 0.5, "vad_offset": 0.363},
        download_root=None,
        local_files_only=False,
        threads=0,
        use_auth_token=None,
    )
    assert isinstance(model, asr.FasterWhisperPipeline)
    model.options = dataclasses.replace(
        model.options, temperatures=0.0, word_timestamps=False, initial_prompt=None, hotwords=None, beam_size=1
    )
    model.suppress_numerals = False
    model._lock = "theirs"
    result = model.transcribe(audio=audio, batch_size=4, chunk_size=20, num_workers=0, language=None, task="transcribe")
    assert result["language"] == "en"
    assert callable(alignment.load_align_model)
    assert {"model_name", "token", "device"} <= set(_parameters(diarize.DiarizationPipeline))
    assert {"return_embeddings", "min_speakers", "max_speakers"} <= set(
        _parameters(diarize.DiarizationPipeline.__call__)
    )
    for writer in (WriteSRT, WriteVTT, WriteAudacity):
        file = io.StringIO()
        writer(output_dir=None).write_result({**aligned, "language": "en"}, file, LAYOUT)
        assert file.getvalue()


def _parameters(function: Any) -> list[str]:
    import inspect

    return list(inspect.signature(function).parameters)


# suitenumerique/meet-whisperx


def test_meet_whisperx_looks_at_attributes_after_a_bare_import():
    code = (
        "import whisperx\n"
        "whisperx.utils.LANGUAGES['fr']; whisperx.asr.FasterWhisperPipeline; whisperx.DiarizationPipeline\n"
        "whisperx.alignment.DEFAULT_ALIGN_MODELS_HF['ja']; whisperx.alignment.DEFAULT_ALIGN_MODELS_TORCH['fr']\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_meet_whisperx_fills_in_the_nearest_speaker(aligned):
    far = [Turn(100.0, 101.0, "SPEAKER_00")]
    spoken = whisperx.assign_word_speakers(far, json.loads(json.dumps(aligned)), fill_nearest=True)
    assert {segment["speaker"] for segment in spoken["segments"]} == {"SPEAKER_00"}
    assert "use_auth_token" in _parameters(whisperx.DiarizationPipeline)


# ahmetoner/whisper-asr-webservice


def test_whisper_asr_webservice(demo_model, audio, result):
    from whisperx.utils import ResultWriter, SubtitlesWriter, WriteJSON, WriteSRT, WriteTSV, WriteTXT, WriteVTT

    model = whisperx.load_model(
        str(demo_model), device="cpu", compute_type="float32", asr_options={"without_timestamps": False, **OPTIONS}
    )
    text = model.transcribe(audio, task="transcribe", language="en", initial_prompt="Doctor Baker")
    assert text["segments"]
    heard = model.model.detect_language(whisperx.audio.pad_or_trim(audio, whisperx.audio.N_SAMPLES))
    assert heard[0] == "en"
    assert 0 < heard[1] <= 1
    for writer in (WriteTXT, WriteTSV, WriteJSON, WriteSRT, WriteVTT):
        file = io.StringIO()
        writer(ResultWriter).write_result(result, file=file, options=LAYOUT)
        assert file.getvalue()
    assert issubclass(WriteSRT, SubtitlesWriter)
    assert _parameters(whisperx.DiarizationPipeline.__call__)[1:5] == [
        "audio", "num_speakers", "min_speakers", "max_speakers"
    ]  # fmt: skip


# mudler/LocalAI


def test_localai_joins_the_texts_of_segments(model, audio):
    segments = model.transcribe(audio, batch_size=16, language=None)["segments"]
    text = "".join(segment["text"] for segment in segments)
    assert text.startswith(" ")
    assert "  " not in text


# rishikanthc/Scriberr

SCRIBERR = (
    "{python} -m whisperx {audio} --output_dir {out} --model {model} --device cpu --device_index 0 --batch_size 8 "
    "--compute_type float32 --threads 1 --output_format all --verbose True --task transcribe --language en "
    "--vad_method pyannote --vad_onset 0.500 --vad_offset 0.363 --diarize --min_speakers 1 --max_speakers 3 "
    "--temperature 0.00 --best_of 5 --beam_size 5 --patience 1.00 --hf_token hf_none --print_progress False "
    "--model_cache_only True"
)


def test_scriberr_runs_the_module(demo_model, audio, tmp_path):
    with wave.open(str(tmp_path / "talk.wav"), "wb") as file:
        file.setparams((1, 2, whisperx.audio.SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes((audio[: 4 * 16000] * 32767).astype("<i2").tobytes())
    command = SCRIBERR.format(python=sys.executable, audio=tmp_path / "talk.wav", out=tmp_path, model=demo_model)
    done = subprocess.run(shlex.split(command), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.json")
    result = json.loads(path.read_text("utf-8"))
    assert result["language"] == "en"
    assert all({"start", "end", "text", "speaker"} <= segment.keys() for segment in result["segments"])
    assert all({"word", "start", "end", "score"} <= word.keys() for word in result["word_segments"])


# Montreal-Forced-Aligner


def test_montreal_forced_aligner_derives_from_the_pipeline(demo_model, audio):
    from whisperx.asr import FasterWhisperPipeline, TranscriptionOptions, WhisperModel
    from whisperx.vads import Silero

    class Pipeline(FasterWhisperPipeline):
        def transcribe_utterances(self, sounds: list[np.ndarray]) -> list[str]:
            inputs = [{"inputs": sound} for sound in sounds]
            return [output["text"] for output in self.__call__(inputs, batch_size=4, num_workers=0)]

    inner = WhisperModel(str(demo_model), device="cpu", device_index=0, compute_type="float32", cpu_threads=1)
    options = TranscriptionOptions(beam_size=1, temperatures=[0.0])
    pipeline = Pipeline(inner, Silero(), {"vad_onset": 0.5}, options, None, -1, "pt", "en", False)
    texts = pipeline.transcribe_utterances([audio[:48000], audio[48000:96000]])
    assert len(texts) == 2
    assert all(isinstance(text, str) for text in texts)
    assert pipeline.model.is_multilingual in (True, False)
    assert pipeline.detect_language(audio) == "en"
    assert whisperx.asr.find_numeral_symbol_tokens(pipeline.tokenizer)


# NVIDIA-NeMo/Curator


def test_nemo_curator_finds_speech_with_pyannote(audio):
    from whisperx.vads.pyannote import Pyannote, load_vad_model

    vad = load_vad_model("cuda", vad_onset=0.5, vad_offset=0.363, token=None, model_fp=None).to("cuda")
    scores = vad({"waveform": audio[None], "sample_rate": whisperx.audio.SAMPLE_RATE})
    merged = Pyannote.merge_chunks(scores, 5, onset=0.5)
    assert len(merged) >= 2
    assert all(0 <= speech["start"] < speech["end"] <= speech["start"] + 5 for speech in merged)
    assert all(speech["segments"][0][0] == speech["start"] for speech in merged)


def test_nemo_curator_may_have_sound_of_another_rate(audio):
    from whisperx.vads.pyannote import Pyannote, load_vad_model

    def speech(sound: np.ndarray, sample_rate: int) -> list[float]:
        scores = load_vad_model("cpu")({"waveform": sound[None], "sample_rate": sample_rate})
        merged = Pyannote.merge_chunks(scores, 5, onset=0.5)
        return [time for chunk in merged for time in (chunk["start"], chunk["end"])]

    assert speech(np.repeat(audio, 3), 48000) == pytest.approx(speech(audio, 16000), abs=0.1)


# absadiki/subsai


def test_subsai_reads_words_and_speakers_by_key(aligned, turns):
    spoken = whisperx.assign_word_speakers(turns, aligned)
    for segment in spoken["segments"]:
        assert segment["speaker"]
        for word in segment["words"]:
            assert word["start"] <= word["end"]


# Here and there


class Interval(NamedTuple):
    start: float
    end: float


def test_a_detector_derived_from_whisperxs_base_class_is_used(demo_model, audio):
    class WholeFile(whisperx.vads.Vad):
        def __init__(self) -> None:
            super().__init__(0.5)

        def __call__(self, audio: dict[str, Any], **_: Any) -> list[Interval]:
            return [Interval(0.0, len(audio["waveform"]) / audio["sample_rate"])]

    model = whisperx.load_model(str(demo_model), "cpu", vad_model=WholeFile(), asr_options=OPTIONS)
    assert [(chunk.start, chunk.end) for chunk in model.find_speech(audio)] == [(0.0, 9.0)]
    assert whisperx.load_model(str(demo_model), "cpu", vad_model=lambda sound: [Span(1.0, 2.0)]).find_speech(audio)
    with pytest.raises(ValueError, match="vad_onset is a decimal value between 0 and 1"):
        whisperx.vads.Vad(1.0)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("whisperx", "load_align_model align load_model load_audio assign_word_speakers setup_logging get_logger"),
        (
            "whisperx.asr",
            "WhisperModel FasterWhisperPipeline load_model find_numeral_symbol_tokens TranscriptionResult",
        ),
        ("whisperx.asr", "SingleSegment TranscriptionOptions"),
        ("whisperx.alignment", "align load_align_model DEFAULT_ALIGN_MODELS_TORCH DEFAULT_ALIGN_MODELS_HF"),
        ("whisperx.alignment", "SingleWordSegment LANGUAGES_WITHOUT_SPACES Point Segment"),
        ("whisperx.alignment", "get_trellis backtrack merge_repeats merge_words"),
        ("whisperx.transcribe", "transcribe_task load_model load_audio load_align_model align DiarizationPipeline"),
        ("whisperx.transcribe", "assign_word_speakers get_writer"),
        ("whisperx.vads", "Vad Silero Pyannote"),
        ("whisperx.vads.vad", "Vad"),
        ("whisperx.vads.pyannote", "load_vad_model Binarize VoiceActivitySegmentation Pyannote"),
        ("whisperx.vads.silero", "Silero"),
        ("whisperx.vad", "load_vad_model merge_chunks Binarize VoiceActivitySegmentation"),
        ("whisperx.utils", "LANGUAGES TO_LANGUAGE_CODE LANGUAGES_WITHOUT_SPACES PUNKT_LANGUAGES str2bool optional_int"),
        (
            "whisperx.utils",
            "optional_float exact_div make_safe compression_ratio format_timestamp ResultWriter WriteTXT",
        ),
        ("whisperx.utils", "SubtitlesWriter WriteVTT WriteSRT WriteTSV WriteAudacity WriteJSON get_writer"),
        ("whisperx.utils", "interpolate_nans"),
        ("whisperx.schema", "SegmentData TranscriptionResult AlignedTranscriptionResult"),
        ("whisperx.schema", "SingleWordSegment SingleCharSegment SingleSegment SingleAlignedSegment ProgressCallback"),
        ("whisperx.types", "TranscriptionResult AlignedTranscriptionResult"),
        ("whisperx.diarize", "DiarizationPipeline assign_word_speakers IntervalTree Segment"),
        ("whisperx.audio", "SAMPLE_RATE N_FFT HOP_LENGTH CHUNK_LENGTH N_SAMPLES N_FRAMES N_SAMPLES_PER_TOKEN"),
        (
            "whisperx.audio",
            "FRAMES_PER_SECOND TOKENS_PER_SECOND load_audio pad_or_trim mel_filters log_mel_spectrogram",
        ),
        ("whisperx.SubtitlesProcessor", "SubtitlesProcessor format_timestamp normal_round"),
        ("whisperx.conjunctions", "get_conjunctions get_comma"),
        ("whisperx.log_utils", "setup_logging get_logger"),
    ],
)
def test_every_public_name_of_whisperx_is_where_it_was(module, names):
    found = importlib.import_module(module)
    assert [name for name in names.split() if not hasattr(found, name)] == []


def test_transcribe_task_takes_the_arguments_of_whisperxs_parser(demo_model, demo_audio, tmp_path):
    from whisperx.arguments import build_parser
    from whisperx.transcribe import transcribe_task

    arguments = {"audio": [str(demo_audio)], "model": str(demo_model), "output_dir": str(tmp_path), "device": "cpu"}
    arguments |= {"output_format": "txt", "verbose": False, "no_align": True, "beam_size": 1, "suppress_tokens": "-1"}
    arguments |= {"temperature": 0, "temperature_increment_on_fallback": None, "language": "en", "fp16": True}
    transcribe_task(arguments, build_parser())
    assert (tmp_path / "demo.txt").read_text("utf-8")
