import errno
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from fake_pipeline import SAMPLE_RATE, Command, FakeLoader, errors, write_recording

from whisperx import cli, transcribe
from whisperx.arguments import build_parser
from whisperx.errors import ModelNotFoundError, OptionError
from whisperx.inputs import output_names
from whisperx.report import Recording, Run
from whisperx.schema import Audio, Meter
from whisperx.writers import WriteSRT

TEXT_OF_2_SECONDS = "2 seconds, part 1.\n2 seconds, part 2.\n"
PRINTED_OF_2_SECONDS = "Transcript: [0.0 --> 1.0]  2 seconds, part 1.\nTranscript: [1.0 --> 2.0]  2 seconds, part 2.\n"


# What it does


def test_transcript_is_printed_and_files_are_written(command: Command, folder: Path) -> None:
    write_recording(folder / "talk.wav", 2)
    status, out, err = command("talk.wav")
    assert (status, out) == (0, PRINTED_OF_2_SECONDS)
    assert {path.name for path in folder.iterdir()} == {
        *("talk.wav", "talk.json", "talk.srt", "talk.tsv", "talk.txt", "talk.vtt")
    }
    assert (folder / "talk.txt").read_text() == TEXT_OF_2_SECONDS
    assert json.loads((folder / "talk.json").read_text())["language"] == "de"
    assert "wrote talk.{txt,vtt,srt,tsv,json}" in err
    assert "2.0 s of audio" in err
    assert "75% of the rows of a batch in use" in err
    assert "device: toy" in err


def test_one_format_goes_to_the_folder_asked_for(command: Command, folder: Path) -> None:
    write_recording(folder / "talk.wav", 2)
    assert command("talk.wav", "-o", "new/one", "-f", "aud")[0] == 0
    assert [path.name for path in (folder / "new" / "one").iterdir()] == ["talk.aud"]


def test_quiet_run_prints_nothing(command: Command, folder: Path) -> None:
    write_recording(folder / "talk.wav", 2)
    assert command("talk.wav", "--verbose", "FALSE") == (0, "", "")
    assert (folder / "talk.txt").read_text() == TEXT_OF_2_SECONDS


def test_progress_lines_come_at_each_tenth_of_each_recording(command: Command, folder: Path) -> None:
    for name in ("a.wav", "b.wav"):
        write_recording(folder / name, 30)
    out = command("a.wav", "b.wav", "--verbose", "no", "--print_progress", "True")[1]
    tenths = [f"Progress: {10 * i}.00%..." for i in range(1, 11)]
    assert out.splitlines() == tenths * 2


def test_log_level_decides_over_verbose(command: Command, folder: Path) -> None:
    write_recording(folder / "talk.wav", 2)
    assert "INFO - Transcribing talk.wav" in command("talk.wav")[2]
    assert "INFO" not in command("talk.wav", "--log-level", "warning")[2]
    assert "INFO - Transcribing talk.wav" in command("talk.wav", "--verbose", "False", "--log-level", "info")[2]


def test_logging_is_left_as_it_was(command: Command, folder: Path) -> None:
    package = logging.getLogger("whisperx")
    before = package.level, list(package.handlers), package.propagate
    command("missing.wav", "--log-level", "debug")
    assert (package.level, package.handlers, package.propagate) == before


def test_bar_goes_to_the_terminal_and_the_transcript_where_stdout_goes(
    command: Command, loader: FakeLoader, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recording(folder / "talk [b].wav", 2)
    loader.pipeline.text = " [b]{i} of {n}"
    printed = "Transcript: [0.0 --> 1.0]  [b]1 of 2\nTranscript: [1.0 --> 2.0]  [b]2 of 2\n"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, out, err = command("talk [b].wav")
    assert out == printed
    assert "talk [b].wav" in err
    assert "0:00:02 / 0:00:02" in err

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)  # the same terminal: the bar makes room for the text
    _, out, err = command("talk [b].wav")
    assert out == ""
    assert all(line in err for line in printed.splitlines())


@pytest.mark.parametrize(
    ("stdout", "stderr"),
    [
        ("left", "kept"),
        ("kept", "left"),
        ("left", "left"),
        ("closed", "kept"),
        ("kept", "closed"),
        ("closed", "closed"),
    ],
)
def test_whoever_reads_what_is_printed_may_leave(stdout: str, stderr: str, folder: Path) -> None:
    write_recording(folder / "talk.wav", 2)
    code = (
        "import pytest, sys; from fake_pipeline import FakeLoader; from whisperx import cli\n"
        "FakeLoader().stand_in(pytest.MonkeyPatch()); sys.exit(cli.main(['talk.wav', '-f', 'txt', '--no_align']))"
    )
    closing = " >&-" * (stdout == "closed") + " 2>&-" * (stderr == "closed")
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as nobody:
        ends = {"left": nobody, "kept": subprocess.PIPE, "closed": subprocess.PIPE}
        done = subprocess.run(
            ["sh", "-c", f'exec "$0" "$@"{closing}', sys.executable, "-c", code],
            stdout=ends[stdout],
            stderr=ends[stderr],
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "Error" not in (done.stderr or "")
    assert (folder / "talk.txt").read_text() == TEXT_OF_2_SECONDS


def test_letters_that_stdout_cannot_show_do_not_stop_the_work(
    command: Command, loader: FakeLoader, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recording(folder / "talk.wav", 1)
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(loader.pipeline, "text", " Grüße {n}")
    assert command("talk.wav", "-f", "txt")[0] == 0
    assert stdout.buffer.getvalue() == b"Transcript: [0.0 --> 1.0]  Gr\\xfc\\xdfe 1\n"  # type: ignore[attr-defined]
    assert (folder / "talk.txt").read_text("utf-8") == "Grüße 1\n"


# Many recordings


def test_one_bad_recording_among_ten_leaves_nine_results(command: Command, folder: Path) -> None:
    names = [f"{i}.wav" for i in range(10)]
    for name in names:
        write_recording(folder / name, 1)
    (folder / "4.wav").write_text("no sound in here")
    status, _, err = command(*names, "-f", "txt")
    assert status == 1
    assert sorted(path.stem for path in folder.glob("*.txt")) == [str(i) for i in range(10) if i != 4]
    (line,) = errors(err)
    assert line.startswith("whisperx: error: Failed to load audio: ")
    assert "4.wav" in line
    assert "Traceback" not in err


def test_recording_is_written_before_the_next_one_starts(command: Command, loader: FakeLoader, folder: Path) -> None:
    for seconds in (1, 2, 3):
        write_recording(folder / f"{seconds}.wav", seconds)
    there = []

    def look(audio: Audio) -> None:
        there.append((len(audio) // SAMPLE_RATE, sorted(path.name for path in folder.glob("*.txt"))))

    loader.pipeline.on_call = look
    command("1.wav", "2.wav", "3.wav")
    assert there == [(1, []), (2, ["1.txt"]), (3, ["1.txt", "2.txt"])]


def test_second_file_does_not_overwrite_first(command: Command, folder: Path) -> None:
    (folder / "b").mkdir()
    write_recording(folder / "talk.wav", 1)
    write_recording(folder / "b" / "talk.wav", 2)
    status, _, err = command("talk.wav", "b/talk.wav", "-f", "txt")
    assert status == 0
    assert (folder / "talk.txt").read_text() == "1 seconds, part 1.\n"
    assert (folder / "talk-2.txt").read_text() == TEXT_OF_2_SECONDS
    assert err.count("b/talk.wav: the files are called talk-2, since its own name is another recording's") == 1


@pytest.mark.parametrize(
    ("paths", "stems"),
    [
        (["a.wav", "b.wav"], ["a", "b"]),
        (["a.wav", "a.mp3", "x/a.wav"], ["a", "a-2", "a-3"]),
        (["a.wav", "A.wav"], ["a", "A-2"]),
        (["a.wav", "a.mp3", "a-2.wav"], ["a", "a-3", "a-2"]),
        (["a-2.wav", "a.wav", "a.mp3"], ["a-2", "a", "a-3"]),
        (["a.b.wav", "a.b.mp3", "a.wav"], ["a.b", "a.b-2", "a"]),
        (["a", "x/a"], ["a", "a-2"]),
    ],
)
def test_every_recording_has_a_name_of_its_own(paths: list[str], stems: list[str]) -> None:
    assert [Path(name).stem for name in output_names(paths)] == stems


def test_unexpected_error_concerns_its_recording_alone(command: Command, loader: FakeLoader, folder: Path) -> None:
    for name in ("1.wav", "2.wav"):
        write_recording(folder / name, int(name[0]))

    def fail(audio: Audio) -> None:
        if len(audio) == SAMPLE_RATE:
            raise IndexError("out of\nrange")

    loader.pipeline.on_call = fail
    status, _, err = command("1.wav", "2.wav", "-f", "txt")
    assert status == 1
    assert (folder / "2.txt").exists()
    assert errors(err) == ["whisperx: error: 1.wav: IndexError: out of range (--log-level debug shows where)"]
    assert "Traceback" not in err
    assert "Traceback" in command("1.wav", "--log-level", "debug")[2]


def test_interrupted_run_keeps_what_is_finished(command: Command, loader: FakeLoader, folder: Path) -> None:
    for seconds in (1, 2, 3):
        write_recording(folder / f"{seconds}.wav", seconds)

    def interrupt(audio: Audio) -> None:
        if len(audio) == 2 * SAMPLE_RATE:
            raise KeyboardInterrupt

    loader.pipeline.on_call = interrupt
    status, _, err = command("1.wav", "2.wav", "3.wav", "-f", "txt", "--report", "report.json")
    assert status == 130
    assert [path.name for path in folder.glob("*.txt")] == ["1.txt"]
    assert errors(err) == ["whisperx: error: interrupted; files that were written are whole and stay."]
    assert "Traceback" not in err
    report = json.loads((folder / "report.json").read_text())
    assert report["error"] == "KeyboardInterrupt"
    assert [recording["audio"] for recording in report["recordings"]] == ["1.wav"]


# What goes wrong


@pytest.mark.parametrize("error", [ModelNotFoundError("no model 'x' here"), OptionError("cannot do that")])
def test_model_that_cannot_be_loaded_ends_the_run_with_one_line(
    error: Exception, command: Command, loader: FakeLoader, folder: Path
) -> None:
    for name in ("a.wav", "b.wav"):
        write_recording(folder / name, 1)
    loader.error = error
    status, out, err = command("a.wav", "b.wav", "--log-level", "error")
    assert (status, out, err) == (1, "", f"whisperx: error: {error}\n")
    assert len(loader.calls) == 1


def test_missing_recording_does_not_load_the_model(command: Command, loader: FakeLoader) -> None:
    status, out, err = command("missing.wav")
    assert (status, out) == (1, "")
    assert len(errors(err)) == 1
    assert "missing.wav" in errors(err)[0]
    assert loader.calls == []


@pytest.mark.parametrize("option", ["--output_dir", "--report"])
def test_unwritable_folder_is_told_before_anything_is_loaded(
    option: str, command: Command, loader: FakeLoader, folder: Path
) -> None:
    write_recording(folder / "talk.wav", 1)
    (folder / "occupied").touch()
    status, out, err = command("talk.wav", option, "occupied/out")
    assert (status, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith(f"whisperx: error: {option}: cannot write into the folder occupied")
    assert loader.calls == []


def test_folder_that_takes_no_files_is_told_before_anything_is_loaded(
    command: Command, loader: FakeLoader, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(dir: Path) -> None:  # noqa: A002
        raise PermissionError(errno.EACCES, "Permission denied", str(dir / "temporary"))

    write_recording(folder / "talk.wav", 1)
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    status, _, err = command("talk.wav", "-o", "out")
    assert status == 1
    assert err == "whisperx: error: --output_dir: cannot write into the folder out: Permission denied\n"
    assert loader.calls == []


def test_full_disk_leaves_the_old_file_and_one_line(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.wav", "b.wav"):
        write_recording(folder / name, 1)
    (folder / "a.srt").write_text("old")
    write = WriteSRT.write_result
    disk_is_full = [True, False]  # for a.srt, then no more

    def write_result(*arguments: object) -> None:
        if disk_is_full.pop(0):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(WriteSRT, "write_result", write_result)
    status, _, err = command("a.wav", "b.wav", "-f", "srt")
    assert status == 1
    assert errors(err) == ["whisperx: error: a.wav: a.srt: No space left on device"]
    assert (folder / "a.srt").read_text() == "old"
    assert sorted(path.name for path in folder.iterdir()) == ["a.srt", "a.wav", "b.srt", "b.wav"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "required: audio"),
        (["a.wav", "--no_such_option"], "--no_such_option"),
        (["a.wav", "--language", "klingon"], "Unsupported language: klingon"),
        (["a.wav", "--batch_size", "0"], "a whole number from 1 up, not '0'"),
        (["a.wav", "--batch_size", "2.5"], "a whole number from 1 up, not '2.5'"),
        (["a.wav", "--chunk_size", "-3"], "a whole number from 1 up, not '-3'"),
        (["a.wav", "--threads", "-1"], "a whole number from 0 up, not '-1'"),
        (["a.wav", "--vad_onset", "1"], "a number between 0 and 1, not '1'"),
        (["a.wav", "--vad_onset", "nan"], "a number between 0 and 1, not 'nan'"),
        (["a.wav", "--vad_offset", "half"], "a number between 0 and 1, not 'half'"),
        (["a.wav", "--temperature", "-0.1"], "a number from 0 up, not '-0.1'"),
        (["a.wav", "--temperature", "hot"], "a number from 0 up, not 'hot'"),
        (["a.wav", "--temperature_increment_on_fallback", "0"], "a number above 0, not '0'"),
        (["a.wav", "--best_of", "0"], "a whole number from 1 up, not '0'"),
        (["a.wav", "--beam_size", "2.5"], "a whole number from 1 up, not '2.5'"),
        (["a.wav", "--patience", "0"], "a number above 0, not '0'"),
        (["a.wav", "--max_new_tokens", "0"], "a whole number from 1 up, not '0'"),
        (["a.wav", "--repetition_penalty", "0"], "a number above 0, not '0'"),
        (["a.wav", "--max_initial_timestamp", "31"], "a number from 0 to 30, not '31'"),
        (["a.wav", "--logprob_threshold", "inf"], "a number, not 'inf'"),
        (["a.wav", "--seed", "-1"], "a whole number from 0 up, not '-1'"),
        (["a.wav", "--verbose", "maybe"], "True or False, not 'maybe'"),
        (["a.wav", "--device", "tpu"], "not 'tpu'"),
        (["a.wav", "--device", "cuda:"], "not 'cuda:'"),
        (["a.wav", "--suppress_tokens", "1,two"], "token ids with commas between, not '1,two'"),
        (["a.wav", "--output_format", "docx"], "docx"),
        (["a.wav", "--vad_method", "guess"], "guess"),
        (["a.wav", "--task", "sing"], "sing"),
    ],
)
def test_wrong_usage_is_status_2_and_says_what_is_wrong(
    arguments: list[str], complaint: str, command: Command, loader: FakeLoader, folder: Path
) -> None:
    write_recording(folder / "a.wav", 1)
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert complaint in err
    assert "Traceback" not in err
    assert loader.calls == []


# Arguments


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("--language=de", "language", "de"),
        ("--language=GERMAN", "language", "de"),
        ("--language=Haitian Creole", "language", "ht"),
        ("--language=castilian", "language", "es"),
        ("--language=Auto-Chunk", "language", "auto-chunk"),
        ("--model_cache_only=TRUE", "model_cache_only", True),
        ("--model_cache_only=1", "model_cache_only", True),
        ("--print_progress=false", "print_progress", False),
        ("--suppress_tokens=", "suppress_tokens", ()),
        ("--suppress_tokens=-1", "suppress_tokens", (-1,)),
        ("--suppress_tokens=-1, 50", "suppress_tokens", (-1, 50)),
        ("--device=cuda:1", "device", "cuda:1"),
        ("--chunk_size=7", "chunk_size", 7),
        ("--best_of=None", "best_of", 1),
        ("--beam_size=None", "beam_size", 1),
        ("--length_penalty=-0.5", "length_penalty", -0.5),
        ("--temperature_increment_on_fallback=None", "temperature_increment_on_fallback", None),
        ("--no_speech_threshold=none", "no_speech_threshold", None),
        ("--max_new_tokens=None", "max_new_tokens", None),
        ("--logprob_threshold=-1.5", "logprob_threshold", -1.5),
    ],
)
def test_argument_is_understood(argument: str, name: str, value: object) -> None:
    assert getattr(build_parser().parse_args(["a.wav", argument]), name) == value


def test_defaults_are_those_of_whisperx_and_of_the_options(loader: FakeLoader) -> None:
    args = build_parser().parse_args(["a.wav"])
    assert cli._options(args) == transcribe.TranscribeOptions()
    expected = {"model": "small", "batch_size": 8, "output_dir": ".", "output_format": "all", "verbose": True}
    expected |= {"vad_onset": 0.5, "vad_offset": 0.363, "chunk_size": 30, "task": "transcribe", "threads": 0}
    assert {name: getattr(args, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("temperature", "increment", "expected"),
    [
        ("0", "0.2", (0, 0.2, 0.4, 0.6, 0.8, 1)),
        ("0.00", "None", (0,)),
        ("0.3", "None", (0.3,)),
        ("0.3", "0.2", (0.3, 0.5, 0.7, 0.9)),
        ("0", "0.3", (0, 0.3, 0.6, 0.9)),
        ("0", "2", (0,)),
        ("1", "0.2", (1,)),
        ("1.5", "0.2", (1.5,)),
    ],
)
def test_temperatures_go_up_to_1_in_steps(temperature: str, increment: str, expected: tuple[float, ...]) -> None:
    arguments = ["a.wav", "--temperature", temperature, "--temperature_increment_on_fallback", increment]
    assert cli._options(build_parser().parse_args(arguments)).decoding.temperatures == expected


def test_long_chunks_are_cut_to_30_seconds_with_a_warning(command: Command, loader: FakeLoader, folder: Path) -> None:
    write_recording(folder / "talk.wav", 1)
    status, _, err = command("talk.wav", "--chunk_size", "60")
    assert status == 0
    assert "WARNING - --chunk_size 60: Whisper hears 30 s at most" in err
    assert loader.pipeline.calls[0]["chunk_size"] == 30


def test_versions(command: Command) -> None:
    assert command("-V") == command("--version")
    status, out, _ = command("--version")
    assert status == 0
    assert out.startswith("whisperx ")
    assert command("-P")[1].startswith("Python 3.")


def test_module_runs_as_the_command_does() -> None:
    done = subprocess.run([sys.executable, "-m", "whisperx", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: whisperx ")


# Report


def test_report_tells_what_was_done(command: Command, folder: Path) -> None:
    write_recording(folder / "talk.wav", 2)
    (folder / "bad.wav").write_text("no sound in here")
    status, _, _ = command(
        *("talk.wav", "bad.wav", "-f", "txt", "--report", "new/report.json", "--hf_token", "hf_secret")
    )
    assert status == 1
    text = (folder / "new" / "report.json").read_text()
    assert "hf_secret" not in text
    report = json.loads(text)
    assert report["error"] is None
    assert report["options"]["model"] == "small"
    assert report["options"]["batch_size"] == 8
    assert report["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(report["versions"]) == {"python", "whisperx-mlx", "mlx", "numpy", "av"}
    assert report["load_model_seconds"] > 0
    assert report["device"] == "toy"

    talk, bad = report["recordings"]
    stages = talk.pop("stages")
    assert list(stages) == ["wait for audio", "decode tokens", "align", "write"]
    assert list(talk.pop("ahead")) == ["decode audio", "vad"]
    wall_seconds = talk.pop("wall_seconds")
    assert 0 < sum(stages.values()) <= wall_seconds
    assert talk.pop("real_time_factor") == pytest.approx(wall_seconds / 2)
    assert talk == {
        "audio": "talk.wav",
        "language": "de",
        "error": None,
        "files": ["talk.txt"],
        "audio_seconds": 2.0,
        "chunks": 2,
        "tokens": 10,
        "steps": 6,
        "occupancy": 0.75,
    }
    assert bad["error"].startswith("Failed to load audio: ")
    assert (bad["files"], bad["audio_seconds"], bad["real_time_factor"], bad["occupancy"]) == ([], 0, None, None)
    totals = report["totals"]
    assert (totals["recordings"], totals["failed"], totals["audio_seconds"]) == (2, 1, 2)
    assert totals["wall_seconds"] == pytest.approx(wall_seconds + bad["wall_seconds"])


def test_totals_are_the_sums_of_all_recordings() -> None:
    run = Run(
        options=transcribe.TranscribeOptions(),
        device="toy",
        load_seconds=3.0,
        recordings=[
            Recording(
                audio="a.wav",
                meter=Meter(
                    {"vad": 1.0, "align": 2.0},
                    {"samples": 20 * SAMPLE_RATE, "chunks": 2, "tokens": 7, "steps": 4, "live_rows": 5, "rows": 8},
                ),
                wall_seconds=5.0,
                files=[Path("a.txt")],
            ),
            Recording(
                audio="b.wav",
                meter=Meter(
                    {"vad": 0.5, "write": 0.25},
                    {"samples": 10 * SAMPLE_RATE, "chunks": 1, "tokens": 3, "steps": 2, "live_rows": 1, "rows": 4},
                ),
                wall_seconds=1.0,
                files=[Path("b.txt"), Path("b.srt")],
            ),
            Recording(audio="c.wav", error="broken"),
        ],
    )
    assert run.as_json()["totals"] == {
        "recordings": 3,
        "failed": 1,
        "audio_seconds": 30.0,
        "wall_seconds": 6.0,
        "real_time_factor": 0.2,
        "stages": {"vad": 1.5, "align": 2.0, "write": 0.25},
        "chunks": 3,
        "tokens": 10,
        "steps": 6,
        "occupancy": 0.5,
    }
    assert run.table().splitlines() == [
        "stage             seconds",
        "load model           3.00",
        "vad                  1.50",
        "align                2.00",
        "write                0.25",
        "other                2.25",
        "all                  9.00",
        "30.0 s of audio in 6.0 s after loading: real-time factor 0.200, 5.0 times as fast as it plays",
        "chunks: 3, tokens: 10, 50% of the rows of a batch in use",
        "device: toy",
        "wrote a.txt",
        "wrote b.{txt,srt}",
    ]


def test_loading_the_model_is_counted_apart(
    command: Command, loader: FakeLoader, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(cli, "perf_counter", lambda: now[0])
    monkeypatch.setattr(transcribe, "perf_counter", lambda: now[0])
    loader.on_call = lambda: wait(5)
    loader.pipeline.on_call = lambda audio: wait(3)
    for name in ("a.wav", "b.wav"):
        write_recording(folder / name, 2)
    assert command("a.wav", "b.wav", "--report", "report.json")[0] == 0
    report = json.loads((folder / "report.json").read_text())
    assert report["load_model_seconds"] == 5
    assert [recording["wall_seconds"] for recording in report["recordings"]] == [3, 3]
    assert report["totals"]["real_time_factor"] == 1.5


def test_report_tells_why_a_run_ended(command: Command, loader: FakeLoader, folder: Path) -> None:
    write_recording(folder / "talk.wav", 2)
    loader.error = ModelNotFoundError("no model 'x' here")
    assert command("talk.wav", "--report", "report.json")[0] == 1
    report = json.loads((folder / "report.json").read_text())
    assert (report["error"], report["recordings"]) == ("no model 'x' here", [])
