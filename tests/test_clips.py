"""clip_timestamps: the seconds that are asked for are decoded, and nothing else."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_pipeline import Command, errors, write_recording
from test_asr import AUDIO, Echo, load

from whisperx import asr, transcribe
from whisperx.asr import load_model
from whisperx.audio import SAMPLE_RATE, load_audio
from whisperx.errors import ClipError, OptionError
from whisperx.schema import DecodingOptions, Span, clip_times


def borders(segments: list[Any]) -> list[tuple[float, float]]:
    return [(segment["start"], segment["end"]) for segment in segments]


def never(audio: np.ndarray) -> list[Span]:
    raise AssertionError("no speech is to be looked for")


@pytest.mark.parametrize(
    ("clips", "expected"),
    [
        (None, ()),
        ("", ()),
        ([], ()),
        ("0,30,60,90", (0, 30, 60, 90)),
        (" 0 , 30.5 , 60 ", (0, 30.5, 60)),
        ([0, 30, 60], (0, 30, 60)),
        ((0.5,), (0.5,)),
        (np.array([0.0, 30.0]), (0, 30)),
        ([{"start": 1, "end": 2.5}, {"start": 2.5, "end": 4}], (1, 2.5, 2.5, 4)),
        ("0", (0,)),
    ],
)
def test_clips_are_understood_in_each_form(clips: object, expected: tuple[float, ...]) -> None:
    assert clip_times(clips) == expected
    assert DecodingOptions(clip_timestamps=clips).clip_timestamps == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "clips",
    [
        "x",
        "0;30",
        "30,0",
        "0,0",
        "0,30,20,40",
        "-1,3",
        "nan",
        "0,inf",
        "0,,x",
        5,
        True,
        [{"start": 1}],
        [[0, 30]],
        {"start": 0, "end": 1},
    ],
)
def test_clips_that_make_no_sense_are_an_option_error(clips: object) -> None:
    with pytest.raises(
        OptionError, match="clip_timestamps is pairs of start and end in seconds that do not go back, as"
    ):
        clip_times(clips)


def test_only_the_clips_are_decoded_each_by_itself_and_without_a_detector() -> None:
    result = load(Echo(), vad=never, language="en").transcribe(AUDIO, clip_timestamps="1,2,3.5,5,5,6,40")
    assert borders(result["segments"]) == [(1, 2), (3.5, 5), (5, 6), (40, 45)]
    assert [segment["text"] for segment in result["segments"]] == [" 1 s", " 1.5 s", " 1 s", " 5 s"]


def test_clips_of_the_pipeline_hold_until_a_call_has_others() -> None:
    pipeline = load(Echo(), vad=never, language="en", asr_options={"clip_timestamps": [0, 2]})
    assert borders(pipeline.transcribe(AUDIO)["segments"]) == [(0, 2)]
    assert borders(pipeline.transcribe(AUDIO, clip_timestamps=[{"start": 4, "end": 5}])["segments"]) == [(4, 5)]
    pipeline.options = dataclasses.replace(pipeline.options, clip_timestamps="7,8")  # type: ignore[arg-type]
    assert [(chunk.start, chunk.end) for chunk in pipeline.find_speech(AUDIO)] == [(7, 8)]


def test_speech_is_found_again_where_a_call_takes_the_clips_back() -> None:
    pipeline = load(Echo(), language="en", asr_options={"clip_timestamps": "0,2"})
    assert borders(pipeline.transcribe(AUDIO, clip_timestamps=None)["segments"]) == [(1, 14.5), (40, 41)]


def test_a_long_clip_is_cut_where_it_is_quietest() -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, 45 * SAMPLE_RATE).astype(np.float32)
    audio[27 * SAMPLE_RATE : 27 * SAMPLE_RATE + 8000] = 0
    segments = load(Echo(), vad=never, language="en").transcribe(audio, clip_timestamps="2,40")["segments"]
    assert [segment["start"] for segment in segments] == [2, pytest.approx(27.25, abs=0.16)]
    assert segments[0]["end"] == segments[1]["start"]
    assert len(load(Echo(), language="en").transcribe(audio, chunk_size=10, clip_timestamps="0,20")["segments"]) > 1


def test_a_clip_ends_with_the_recording_and_cannot_begin_after_it() -> None:
    pipeline = load(Echo(), vad=never, language="en")
    assert borders(pipeline.transcribe(AUDIO, clip_timestamps="44,60")["segments"]) == [(44, 45)]
    with pytest.raises(ClipError, match=r"a clip begins at 45 s, but the recording ends at 45\.00 s"):
        pipeline.transcribe(AUDIO, clip_timestamps="0,3,45")


@pytest.mark.parametrize("backend", ["mlx", "ctranslate2"])
def test_a_clip_has_the_text_that_its_sound_has_alone(demo_model: Path, demo_audio: Path, backend: str) -> None:
    if backend == "ctranslate2":
        pytest.importorskip("ctranslate2")
    pipeline = load_model(
        str(demo_model), "cpu", vad_method="none", backend=backend, asr_options={"beam_size": 1, "temperatures": 0}
    )
    audio = load_audio(str(demo_audio))
    (clip,) = pipeline.transcribe(audio, clip_timestamps="3,9")["segments"]
    (alone,) = pipeline.transcribe(audio[3 * SAMPLE_RATE : 9 * SAMPLE_RATE])["segments"]
    assert clip["tokens"] == alone["tokens"]
    assert borders([clip]) == [(3, 9)]


# The command


@pytest.fixture
def echoing(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, **options: Any) -> Any:
        kept = {key: options[key] for key in ("asr_options", "language")}
        return load_model("", model=Echo(), vad_model=never, **kept)

    monkeypatch.setattr(transcribe, "load_model", load)
    monkeypatch.setattr(transcribe, "find_chunks", asr.find_chunks)


def test_the_command_decodes_the_clips_of_each_recording(command: Command, folder: Path, echoing: None) -> None:
    for name in ("a.wav", "b.wav"):
        write_recording(folder / name, 5)
    status, out, _ = command("a.wav", "b.wav", "--no_align", "--clip_timestamps", "1,2,3")
    assert status == 0
    assert out == "Transcript: [1.0 --> 2.0]  1 s\nTranscript: [3.0 --> 5.0]  2 s\n" * 2


def test_a_recording_that_is_too_short_for_the_clips_fails_alone(command: Command, folder: Path, echoing: None) -> None:
    for name, seconds in (("a.wav", 5), ("short.wav", 2), ("z.wav", 5)):
        write_recording(folder / name, seconds)
    status, _, err = command(".", "--no_align", "--clip_timestamps", "3,4", "-f", "txt")
    assert status == 1
    assert errors(err) == [
        "whisperx: error: short.wav: clip_timestamps: a clip begins at 3 s, but the recording ends at 2.00 s."
    ]
    assert {path.name for path in folder.glob("*.txt")} == {"a.txt", "z.txt"}


def test_clips_that_make_no_sense_are_wrong_usage(command: Command, folder: Path) -> None:
    status, _, err = command("talk.wav", "--clip_timestamps", "30,0")
    assert status == 2
    assert "--clip_timestamps: clip_timestamps is pairs of start and end" in err


def test_clips_without_decoding_are_called_without_effect(command: Command, folder: Path) -> None:
    write_recording(folder / "talk.wav", 2)
    (folder / "talk.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    err = command("talk.wav", "--align_only", "talk.srt", "--clip_timestamps", "0,1")[2]
    assert err.count("--clip_timestamps has no effect with --align_only: nothing is decoded") == 1
