import inspect
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from fake_pipeline import FakeLoader, write_recording

from whisperx import asr
from whisperx.errors import AudioError, ModelError, ModelNotFoundError, OptionError
from whisperx.schema import DecodingOptions, Meter, SingleSegment
from whisperx.transcribe import TranscribeOptions, Transcriber, seconds_of_audio
from whisperx.vads import Silero


def run(transcriber: Transcriber, path: Path, meter: Meter) -> tuple[list[SingleSegment], list[tuple[float, float]]]:
    segments: list[SingleSegment] = []
    progress: list[tuple[float, float]] = []
    transcriber(path, on_segment=segments.append, on_progress=lambda *seconds: progress.append(seconds), meter=meter)
    return segments, progress


def test_recording_goes_through_all_stages(loader: FakeLoader, tmp_path: Path) -> None:
    transcriber = Transcriber(TranscribeOptions(batch_size=3, chunk_size=20))
    meter = Meter()
    segments, progress = run(transcriber, write_recording(tmp_path / "a.wav", 2.5), meter)
    assert [segment["text"] for segment in segments] == [" 2 seconds, part 1.", " 2 seconds, part 2."]
    assert progress == [(1, 2), (2, 2)]
    assert list(meter.seconds) == ["decode audio", "vad", "decode tokens", "align"]
    assert seconds_of_audio(meter) == 2.5
    assert loader.pipeline.calls == [{"batch_size": 3, "chunk_size": 20}]


def test_model_is_loaded_once_and_only_after_a_recording_was_read(loader: FakeLoader, tmp_path: Path) -> None:
    transcriber = Transcriber(TranscribeOptions())
    with pytest.raises(AudioError):
        transcriber(tmp_path / "missing.wav")
    assert loader.calls == []
    for name in ("a.wav", "b.wav"):
        run(transcriber, write_recording(tmp_path / name, 1), Meter())
    assert len(loader.calls) == 1
    assert transcriber.load_seconds > 0


def test_device_is_known_once_the_model_is_loaded(loader: FakeLoader) -> None:
    transcriber = Transcriber(TranscribeOptions())
    assert transcriber.device is None
    transcriber.load()
    assert transcriber.device == "toy"


def test_each_option_reaches_load_model_under_the_name_it_has_there(loader: FakeLoader) -> None:
    options = TranscribeOptions(
        model="tiny",
        model_dir="models",
        model_cache_only=True,
        hf_token="hf_secret",  # noqa: S106
        backend="mlx",
        device="cuda",
        device_index=1,
        compute_type="float16",
        threads=2,
        decoding=DecodingOptions(task="translate", language="de", suppress_numerals=True, seed=3),
    )
    Transcriber(options).load()
    ((model, arguments),) = loader.calls
    assert model == "tiny"
    asr_options = arguments.pop("asr_options")
    assert asr.decoding_options(asr_options, "translate") == replace(options.decoding, language=None)
    assert arguments == {
        "device": "cuda",
        "device_index": 1,
        "compute_type": "float16",
        "language": "de",
        "task": "translate",
        "download_root": "models",
        "local_files_only": True,
        "threads": 2,
        "use_auth_token": "hf_secret",
        "backend": "mlx",
    }
    inspect.signature(asr.load_model).bind(model, **arguments)


def test_each_option_reaches_what_finds_speech(loader: FakeLoader, tmp_path: Path) -> None:
    options = TranscribeOptions(
        vad_onset=0.4, vad_offset=0.3, chunk_size=10, decoding=DecodingOptions(clip_timestamps=(1.0, 2.0))
    )
    run(Transcriber(options), write_recording(tmp_path / "a.wav", 1), Meter())
    assert loader.heard == [(Silero(vad_onset=0.4, vad_offset=0.3), 10, (1.0, 2.0))]


def test_error_in_loading_is_a_model_error_whatever_it_was(loader: FakeLoader) -> None:
    transcriber = Transcriber(TranscribeOptions(model="broken"))
    loader.error = PermissionError(13, "Permission denied", "weights.npz")
    with pytest.raises(ModelError, match=r"The model 'broken' could not be loaded: PermissionError: .*weights.npz"):
        transcriber.load()
    loader.error = ModelNotFoundError("no such model")
    with pytest.raises(ModelNotFoundError, match=r"^no such model$"):
        transcriber.load()
    loader.error = None
    assert transcriber.load() is loader.pipeline


@pytest.mark.parametrize(
    ("name", "value"), [("batch_size", 0), ("batch_size", -1), ("chunk_size", 0), ("chunk_size", 31)]
)
def test_number_out_of_range_is_an_option_error_that_says_so(name: str, value: int) -> None:
    with pytest.raises(OptionError, match=f"^{name} is 1 .*, not {value}"):
        replace(TranscribeOptions(), **{name: value})


def test_options_are_frozen_and_do_not_show_the_token() -> None:
    options = TranscribeOptions(hf_token="hf_secret")  # noqa: S106
    assert "hf_secret" not in repr(options)
    with pytest.raises(FrozenInstanceError):
        options.model = "tiny"  # type: ignore[misc]
