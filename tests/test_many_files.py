"""Folders, patterns and stdin; what is there already; the next recording while the model works on this one."""

import io
import json
import sys
import threading
from pathlib import Path

import pytest
from fake_pipeline import SAMPLE_RATE, Command, errors, write_recording

from whisperx import transcribe
from whisperx.errors import AudioError
from whisperx.inputs import find_recordings, output_names, shown
from whisperx.schema import Meter
from whisperx.transcribe import Lookahead, TranscribeOptions, Transcriber


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.wav", "A.MP3", "notes.txt", "talk [1].wav", "deep/c.ogg", "deep/er/d.wav", "empty/readme.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("argument", "paths"),
    [
        ("b.wav", ["b.wav"]),
        ("missing.wav", ["missing.wav"]),
        ("notes.txt", ["notes.txt"]),
        ("-", ["-"]),
        (".", ["A.MP3", "b.wav", "talk [1].wav"]),
        ("deep", ["deep/c.ogg"]),
        ("*.wav", ["b.wav", "talk [1].wav"]),
        ("**/*.wav", ["b.wav", "deep/er/d.wav", "talk [1].wav"]),
        ("talk [1].wav", ["talk [1].wav"]),
        ("no\0file", ["no\0file"]),
        ("long" * 100, ["long" * 100]),
    ],
)
def test_an_argument_stands_for_recordings(argument: str, paths: list[str], tree: Path) -> None:
    assert find_recordings(argument) == paths


@pytest.mark.parametrize(
    ("argument", "message"), [("empty", "the folder 'empty' holds no recordings"), ("*.flac", "no file fits")]
)
def test_an_argument_that_stands_for_nothing_is_an_error(argument: str, message: str, tree: Path) -> None:
    with pytest.raises(AudioError, match=message):
        find_recordings(argument)


@pytest.mark.parametrize(
    ("paths", "stems"),
    [
        (["-", "x/stdin.wav"], ["stdin", "stdin-2"]),
        ([f"{'é' * 150}.wav"], ["é" * 120]),
        ([f"{'a' * 250}.wav", f"{'a' * 245}.wav"], ["a" * 240, "a" * 240 + "-2"]),
        (["talk\n🎙.wav"], ["talk\n🎙"]),
    ],
)
def test_names_that_files_cannot_have_are_changed(paths: list[str], stems: list[str]) -> None:
    assert [Path(name).stem for name in output_names(paths)] == stems


@pytest.mark.parametrize(("path", "text"), [("a b.wav", "a b.wav"), ("a\nb.wav", r"'a\nb.wav'"), ("🎙.wav", "🎙.wav")])
def test_a_name_is_shown_on_one_line(path: str, text: str) -> None:
    assert shown(path) == text


def test_a_recording_without_text_is_named_among_many(command: Command, folder: Path) -> None:
    for name, seconds in (("a.wav", 2), ("silent.wav", 0.5), ("z.wav", 1)):  # less than a second has no text
        write_recording(folder / name, seconds)
    status, _, err = command(".", "--verbose", "False", "-f", "txt")
    assert status == 0
    assert [line.partition(" - WARNING - ")[2] for line in err.splitlines()] == ["silent.wav: no text was found in it"]
    assert (folder / "silent.txt").read_text() == ""


def test_a_folder_is_done_file_by_file_and_a_file_once(command: Command, folder: Path) -> None:
    (folder / "in").mkdir()
    for seconds in (1, 2):
        write_recording(folder / "in" / f"{seconds}.wav", seconds)
    assert command("in", "in/*.wav", "-f", "txt", "-o", "out")[0] == 0
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["1.txt", "2.txt"]


def test_a_folder_without_recordings_fails_and_the_others_are_done(command: Command, folder: Path) -> None:
    (folder / "empty").mkdir()
    write_recording(folder / "talk.wav", 2)
    status, _, err = command("empty", "talk.wav", "-f", "txt")
    assert status == 1
    assert errors(err) == [
        "whisperx: error: Failed to load audio: the folder 'empty' holds no recordings; folders below it are not "
        "looked into."
    ]
    assert (folder / "talk.txt").read_text() == "2 seconds, part 1.\n2 seconds, part 2.\n"


def test_failures_are_told_once_more_at_the_end(command: Command, folder: Path) -> None:
    for name in ("a.wav", "b.wav", "c.wav"):
        write_recording(folder / name, 1)
    (folder / "a.wav").write_text("no sound")
    assert command("a.wav", "b.wav", "c.wav", "-f", "txt")[2].splitlines()[-1] == "1 of 3 recordings failed: a.wav"


def test_a_file_that_vanishes_concerns_itself_alone(command: Command, loader, folder: Path) -> None:
    for seconds in (1, 2, 3):
        write_recording(folder / f"{seconds}.wav", seconds)
    loader.on_call = lambda: (folder / "2.wav").unlink()  # after the first is read, before the second
    status, _, err = command("1.wav", "2.wav", "3.wav", "-f", "txt")
    assert status == 1
    assert len(errors(err)) == 1
    assert "2.wav" in errors(err)[0]
    assert sorted(path.name for path in folder.glob("*.txt")) == ["1.txt", "3.txt"]


def test_odd_names_get_their_files(command: Command, folder: Path) -> None:
    for stem in ("line\nbreak", "🎙 talk", "x" * 251):
        write_recording(folder / f"{stem}.wav", 1)
    status, _, err = command(".", "-f", "json")
    assert status == 0
    assert sorted(path.stem for path in folder.glob("*.json")) == sorted(["line\nbreak", "🎙 talk", "x" * 240])
    assert "INFO - Transcribing 'line\\nbreak.wav'" in err
    assert command("y" * 300 + ".wav")[0] == 1


def test_stdin_is_a_recording(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = write_recording(folder / "talk.wav", 2).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(recording)))
    assert command("-", "-f", "txt")[0] == 0
    assert (folder / "stdin.txt").read_text() == "2 seconds, part 1.\n2 seconds, part 2.\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    status, _, err = command("-", "-f", "txt")
    assert (status, errors(err)) == (1, ["whisperx: error: Failed to load audio: stdin is empty."])


def test_only_the_formats_that_are_missing_are_written(command: Command, loader, folder: Path) -> None:
    write_recording(folder / "talk.wav", 2)
    (folder / "talk.srt").write_text("mine")
    assert command("talk.wav", "--skip_existing")[0] == 0
    assert (folder / "talk.srt").read_text() == "mine"
    assert {path.suffix for path in folder.iterdir()} == {".wav", ".srt", ".txt", ".vtt", ".tsv", ".json"}
    n_calls = len(loader.pipeline.calls)
    status, _, err = command("talk.wav", "--skip_existing")
    assert (status, len(loader.pipeline.calls)) == (0, n_calls)
    assert "talk.wav: skipped, its files are there" in err


def test_batch_size_auto_is_what_the_model_says(command: Command, loader, folder: Path) -> None:
    write_recording(folder / "talk.wav", 2)
    command("talk.wav", "--batch_size", "auto")
    assert loader.pipeline.calls[0]["batch_size"] == 99


# Looking ahead


def test_the_next_recording_is_read_while_this_one_is_decoded(loader, tmp_path: Path) -> None:
    """Decoding the first waits for the speech of the second: this ends only because both go on at once."""
    heard: list[int] = []
    second_is_heard = threading.Event()

    def hear(audio) -> None:
        heard.append(len(audio) // SAMPLE_RATE)
        if len(heard) == 2:
            second_is_heard.set()

    def decode(audio) -> None:
        if len(audio) == SAMPLE_RATE:
            assert second_is_heard.wait(60)
            assert heard == [1, 2], "one recording ahead and no more"

    loader.on_speech, loader.pipeline.on_call = hear, decode
    paths = [str(write_recording(tmp_path / f"{n}.wav", n)) for n in (1, 2, 3)]
    transcriber = Transcriber(TranscribeOptions())
    with Lookahead(transcriber, paths) as lookahead:
        for i in range(3):
            prepared = lookahead.take(i, Meter())
            transcriber.load()
            lookahead.start(i + 1)
            segments = transcriber(prepared, on_segment=lambda _: None, on_progress=lambda *_: None)["segments"]
            assert len(segments) == i + 1
            assert list(prepared.ahead.seconds) == ([] if i == 0 else ["decode audio", "vad"])
    assert heard == [1, 2, 3]


def test_the_speech_of_the_first_recording_is_found_while_the_model_is_loaded(
    command: Command, loader, folder: Path
) -> None:
    """Both wait for each other: this ends only because they go on at once."""
    speech, load = threading.Event(), threading.Event()

    def hear(audio) -> None:
        speech.set()
        assert load.wait(60)

    def start_loading() -> None:
        load.set()
        assert speech.wait(60)

    loader.on_speech, loader.on_call = hear, start_loading
    write_recording(folder / "talk.wav", 2)
    assert command("talk.wav")[0] == 0


def test_stdin_is_read_by_the_thread_that_ctrl_c_can_interrupt(loader, monkeypatch: pytest.MonkeyPatch) -> None:
    readers = []
    transcriber = Transcriber(TranscribeOptions())
    monkeypatch.setattr(transcriber, "read", lambda *_: readers.append(threading.current_thread()))
    with Lookahead(transcriber, ["1.wav", "-"]) as lookahead:
        lookahead.start(1)
        lookahead.take(1, Meter())
    assert readers == [threading.main_thread()]


def test_what_is_done_ahead_is_no_part_of_the_time_of_a_recording(command: Command, folder: Path) -> None:
    for seconds in (1, 2):
        write_recording(folder / f"{seconds}.wav", seconds)
    command("1.wav", "2.wav", "--report", "report.json")
    first, second = json.loads((folder / "report.json").read_text())["recordings"]
    for recording in (first, second):
        assert list(recording["stages"]) == ["wait for audio", "decode tokens", "align", "write"]
        assert list(recording["ahead"]) == ["decode audio", "vad"]


def test_each_recording_is_read_once(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    load_audio = transcribe.load_audio

    def count(path: str):
        read.append(path)
        return load_audio(path)

    monkeypatch.setattr(transcribe, "load_audio", count)
    for seconds in (1, 2, 3):
        write_recording(folder / f"{seconds}.wav", seconds)
    assert command("1.wav", "2.wav", "3.wav")[0] == 0
    assert read == ["1.wav", "2.wav", "3.wav"]
