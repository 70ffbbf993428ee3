"""The `whisperx` command: WhisperX's flags, recordings in, files out.

Transcripts go to stdout, everything else to stderr. Exit status: 0 all well, 1 something failed, 2 wrong usage,
130 interrupted. Nothing heavy is imported before the arguments are understood: `--help` answers at once.
"""

import argparse
import logging
import math
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from whisperx.errors import AudioError, OptionError, WhisperXError
from whisperx.log_utils import LEVELS, StderrHandler

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress

    from whisperx.report import Recording
    from whisperx.schema import SingleSegment
    from whisperx.transcribe import TranscribeOptions, Transcriber
    from whisperx.writers import Writer

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_LONGEST_CHUNK = 30  # seconds: Whisper's window


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the arguments `argv` (None: those of the process) and return its exit status."""
    args = build_parser().parse_args(argv)
    with _logging_to_stderr(args.log_level or ("info" if args.verbose else "warning")):
        try:
            return _run(args)
        except KeyboardInterrupt:
            _complain("interrupted; files that were written are whole and stay.")
            return 130
        except Exception as error:
            _complain(_explain(error))
            return 1


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="whisperx",
        description="Transcribe recordings with Whisper on MLX.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("audio", nargs="+", help="recordings, in any format that FFmpeg reads")
    add("--version", "-V", action=_PrintVersion, help="show the version and exit")
    python = f"Python {platform.python_version()} ({platform.python_implementation()})"
    add("--python-version", "-P", action="version", version=python, help="show the version of Python and exit")

    add = parser.add_argument_group("output").add_argument
    add("--output_dir", "-o", default=".", metavar="DIR", help="folder for the files; made if it is not there")
    formats = ("all", "srt", "vtt", "txt", "tsv", "json", "aud")
    add("--output_format", "-f", default="all", choices=formats, help="all: each of these but aud")
    add("--verbose", type=_boolean, default=True, metavar="BOOL", help="print the transcript as it comes, and messages")
    add("--log-level", default=None, choices=LEVELS, help="messages to print, whatever --verbose says")
    add("--print_progress", type=_boolean, default=False, metavar="BOOL", help="print a line for each 10 %% done")
    add("--report", default=None, metavar="FILE", help="write what was done and how long each stage took, as JSON")

    add = parser.add_argument_group("model").add_argument
    add("--model", default="small", help="name (tiny, small, large-v3, ...), repository of the Hub, or folder")
    add("--model_dir", default=None, metavar="DIR", help="folder for downloaded models; None: the cache of the Hub")
    add("--model_cache_only", type=_boolean, default=False, metavar="BOOL", help="use what is there, never download")
    add("--hf_token", default=None, metavar="TOKEN", help="for models that are not open to everyone")
    add("--backend", default="auto", choices=("auto", "mlx"), help="engine that runs the model")
    add("--device", type=_device, default="auto", metavar="NAME", help="cpu, cuda, cuda:N, mps, mlx or auto")
    add("--device_index", type=_count, default=0, metavar="N", help="which of several GPUs")
    types = (
        "default", "auto", "float16", "bfloat16", "float32", "int8", "int4", "int8_float16", "int8_bfloat16",
        "int8_float32", "int16",
    )  # fmt: skip
    add("--compute_type", default="default", choices=types, help="default: float16 on a GPU, float32 on a CPU")
    add("--threads", type=_count, default=0, metavar="N", help="CPU threads; 0: as many as the engine likes")
    add("--batch_size", type=_positive, default=8, metavar="N", help="chunks at a time; the text is always the same")

    add = parser.add_argument_group("speech").add_argument
    add("--vad_method", default="silero", choices=("silero", "none"), help="how speech is found before decoding")
    add("--vad_onset", type=_probability, default=0.5, metavar="P", help="speech begins at this probability")
    add("--vad_offset", type=_probability, default=0.363, metavar="P", help="speech ends below this probability")
    add("--chunk_size", type=_positive, default=_LONGEST_CHUNK, metavar="S", help="seconds decoded as one, at most")

    add = parser.add_argument_group("text").add_argument
    add("--task", default="transcribe", choices=("transcribe", "translate"), help="translate: into English")
    help_ = "as German or de; None: detected; auto-chunk: detected in each chunk, for talk that changes languages"
    add("--language", type=_language, default=None, metavar="NAME", help=help_)
    add("--initial_prompt", default=None, metavar="TEXT", help="as if said before each chunk: names, spelling, style")
    add("--hotwords", default=None, metavar="TEXT", help="words to expect in each chunk")
    add("--prefix", default=None, metavar="TEXT", help="as if each transcript began with it; voids --hotwords")
    help_ = "go on from the text so far; chunks then wait for each other, which is slower"
    add("--condition_on_previous_text", type=_boolean, default=False, metavar="BOOL", help=help_)
    help_ = "but not from before a chunk that took a higher temperature than this"
    add("--prompt_reset_on_temperature", type=_from_0, default=0.5, metavar="T", help=help_)
    add("--suppress_numerals", action="store_true", help="write numbers as words")
    add("--suppress_tokens", type=_tokens, default="-1", metavar="IDS", help="never decode these; -1: annotations")
    add("--suppress_blank", type=_boolean, default=True, metavar="BOOL", help="no chunk begins blank or stays empty")
    help_ = "one segment for each chunk; False: segments by the timestamps of the model"
    add("--without_timestamps", type=_boolean, default=True, metavar="BOOL", help=help_)
    help_ = "seconds into a chunk by which its first segment begins, if there are timestamps"
    add("--max_initial_timestamp", type=_up_to_30, default=0.0, metavar="S", help=help_)
    add("--max_new_tokens", type=_optional(_positive), default=None, metavar="N", help="in a chunk; None: all that fit")
    add("--repetition_penalty", type=_above_0, default=1.0, metavar="X", help="above 1, tokens come again less likely")
    help_ = "above 0, so many tokens in a row never stand twice in a chunk"
    add("--no_repeat_ngram_size", type=_count, default=0, metavar="N", help=help_)

    add = parser.add_argument_group("search").add_argument
    help_ = "texts followed side by side at temperature 0; 1 or None: the likeliest token each time"
    add("--beam_size", type=_candidates, default=5, metavar="N", help=help_)
    help_ = "such a search is over when beam_size * patience texts have ended"
    add("--patience", type=_above_0, default=1.0, metavar="X", help=help_)
    help_ = "of which the best by log-probability / length ** length_penalty is kept; less: shorter texts"
    add("--length_penalty", type=_any_number, default=1.0, metavar="X", help=help_)
    help_ = "0: the likeliest text; above: a sampled one, the wilder the higher"
    add("--temperature", type=_from_0, default=0.0, metavar="T", help=help_)
    help_ = "added, up to 1, while a text misses one of the next two thresholds; None: one try only"
    add("--temperature_increment_on_fallback", type=_optional(_above_0), default=0.2, metavar="T", help=help_)
    help_ = "most times that zlib may make a text smaller, else it repeats itself; None: any"
    add("--compression_ratio_threshold", type=_optional(_any_number), default=2.4, metavar="X", help=help_)
    help_ = "least mean log-probability of a text's tokens, else it is too unsure; None: any"
    add("--logprob_threshold", type=_optional(_any_number), default=-1.0, metavar="X", help=help_)
    help_ = "a chunk that is unsure, and with a higher probability silence, has no text; None: never"
    add("--no_speech_threshold", type=_optional(_any_number), default=0.6, metavar="P", help=help_)
    help_ = "texts sampled at a temperature above 0, of which the likeliest is kept"
    add("--best_of", type=_candidates, default=5, metavar="N", help=help_)
    add("--seed", type=_count, default=0, metavar="N", help="of the sampling: the same seed gives the same text")
    return parser


def output_names(paths: Sequence[str]) -> list[str]:
    """For each recording the path that its files are named after: its own, or one with a number if that is taken.

    Names that differ only in case count as equal, since they are on many file systems.
    """
    own = {Path(path).stem.casefold() for path in paths}
    taken: set[str] = set()
    names = []
    for path in map(Path, paths):
        stem, n = path.stem, 1
        while stem.casefold() in taken or (n > 1 and stem.casefold() in own):
            n += 1
            stem = f"{path.stem}-{n}"
        taken.add(stem.casefold())
        names.append(str(path) if n == 1 else str(path.with_name(stem + path.suffix)))
    return names


def _run(args: argparse.Namespace) -> int:
    _prepare_folder("--output_dir", Path(args.output_dir))
    if args.report is not None:
        _prepare_folder("--report", Path(args.report).parent)

    # NumPy, PyAV and MLX take a second that --help and wrong usage need not wait for.
    from whisperx.report import Run
    from whisperx.transcribe import Transcriber
    from whisperx.writers import get_writer

    transcriber = Transcriber(_options(args))
    run = Run(options=transcriber.options)
    writer = get_writer(args.output_format, args.output_dir)
    try:
        with Screen(transcript=args.verbose, progress_lines=args.print_progress) as screen:
            for path, name in zip(args.audio, output_names(args.audio), strict=True):
                run.recordings.append(_transcribe(path, name, transcriber, writer, screen))
    except BaseException as error:
        run.error = str(error) or type(error).__name__
        raise
    finally:
        run.device, run.load_seconds = transcriber.device, transcriber.load_seconds
        if args.report is not None:
            run.write(Path(args.report))
    if args.verbose and any(recording.files for recording in run.recordings):
        _say(run.table())
    return 1 if any(recording.error for recording in run.recordings) else 0


def _transcribe(path: str, name: str, transcriber: "Transcriber", writer: "Writer", screen: "Screen") -> "Recording":
    """Transcribe one recording and write its files. What concerns this recording alone is told and kept in `error`."""
    from whisperx.report import Recording

    recording = Recording(audio=path)
    if name != path:
        logger.warning("%s: an earlier recording has this name, so the files are called %s", path, Path(name).stem)
    logger.info("Transcribing %s", path)
    load_seconds, start = transcriber.load_seconds, perf_counter()
    screen.begin(Path(path).name)
    try:
        result = transcriber(path, on_segment=screen.segment, on_progress=screen.progress, meter=recording.meter)
        recording.language = result["language"]
        with recording.meter.time("write"):
            recording.files = writer(result, name)
    except WhisperXError as error:
        if not isinstance(error, AudioError):
            raise  # a model, an engine or an option that will not do for the other recordings either
        recording.error = _explain(error)
    except Exception as error:
        recording.error = f"{path}: {_explain(error)}"
    recording.wall_seconds = perf_counter() - start - (transcriber.load_seconds - load_seconds)
    if recording.error is not None:
        _complain(recording.error)
    return recording


def _options(args: argparse.Namespace) -> "TranscribeOptions":
    from dataclasses import fields

    from whisperx.schema import DecodingOptions
    from whisperx.transcribe import TranscribeOptions

    values = vars(args).copy()
    if args.chunk_size > _LONGEST_CHUNK:
        logger.warning("--chunk_size %d: Whisper hears %d s at most, so that is used", args.chunk_size, _LONGEST_CHUNK)
        values["chunk_size"] = _LONGEST_CHUNK
    values["temperatures"] = _temperatures(args.temperature, args.temperature_increment_on_fallback)
    values["log_prob_threshold"] = args.logprob_threshold

    def chosen(options: type[DecodingOptions | TranscribeOptions]) -> dict[str, Any]:
        return {field.name: values[field.name] for field in fields(options) if field.name in values}

    return TranscribeOptions(decoding=DecodingOptions(**chosen(DecodingOptions)), **chosen(TranscribeOptions))


def _temperatures(first: float, increment: float | None) -> tuple[float, ...]:
    """`first` and, in steps of `increment`, what follows up to 1."""
    n_more = 0 if increment is None else math.floor((1 - first) / increment + 1e-6)
    return (first, *(round(first + i * (increment or 0), 6) for i in range(1, n_more + 1)))


class Screen:
    """What people see of a recording that is transcribed: its text on stdout, a bar on stderr if that is a terminal."""

    def __init__(self, *, transcript: bool, progress_lines: bool) -> None:
        self._transcript = transcript
        self._progress_lines = progress_lines
        self._percent_printed = 0
        self._bar: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> "Screen":
        if sys.stderr.isatty():
            self._bar = _progress_bar()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, name: str) -> None:
        self._percent_printed = 0
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(name, total=None, clock="")

    def segment(self, segment: "SingleSegment") -> None:
        if self._transcript:
            self._print(f"Transcript: [{segment['start']} --> {segment['end']}] {segment['text']}")

    def progress(self, seconds_done: float, seconds_total: float) -> None:
        if self._bar is not None:
            clock = f"{_clock(seconds_done)} / {_clock(seconds_total)}"
            self._bar.update(self._task, completed=seconds_done, total=seconds_total, clock=clock)
        percent = 100 * seconds_done / seconds_total if seconds_total else 100.0
        if self._progress_lines and percent >= self._percent_printed + 10:
            self._percent_printed = int(percent // 10) * 10
            self._print(f"Progress: {percent:.2f}%...")

    def _print(self, line: str) -> None:
        if self._bar is not None and sys.stdout.isatty():
            # Both streams are the same terminal: the bar makes room for the line.
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        encoding = sys.stdout.encoding or "utf-8"
        try:
            print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)
        except BrokenPipeError:  # as in `whisperx ... | head`; the files are still wanted
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _progress_bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[clock]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # stdout may be a file
    )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def _prepare_folder(option: str, folder: Path) -> None:
    """Make `folder` and try to write into it, before anything is computed that would be lost."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OptionError(f"{option}: cannot write into the folder {folder}: {error.strerror}") from error


@contextmanager
def _logging_to_stderr(level: str) -> Iterator[None]:
    handler = StderrHandler()
    package = logging.getLogger("whisperx")
    level_before = package.level
    package.setLevel(level.upper())
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level_before)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _complain(message: str) -> None:
    _say("whisperx: error: " + " ".join(message.splitlines()))


def _explain(error: Exception) -> str:
    """`error` as a person wants to read it; its traceback is a debug message."""
    logger.debug("Where the error came from", exc_info=error)
    if isinstance(error, WhisperXError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {error} (--log-level debug shows where)"


class _PrintVersion(argparse.Action):
    """Asks for the version only when it is wanted: reading it takes longer than all the rest of `--help`."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:  # noqa: A002
        super().__init__(option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        import whisperx

        print(f"whisperx {whisperx.__version__}")
        parser.exit()


def _boolean(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"expected True or False, not {text!r}")
    return words[text.lower()]


def _number_from(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} up, not {text!r}")
        return int(text)

    return parse


_positive = _number_from(1)
_count = _number_from(0)


def _number(expected: str, is_fine: Callable[[float], bool]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and is_fine(value)):
            raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
        return value

    return parse


_any_number = _number("a number", lambda _: True)
_from_0 = _number("a number from 0 up", lambda value: value >= 0)
_above_0 = _number("a number above 0", lambda value: value > 0)
_probability = _number("a number between 0 and 1", lambda value: 0 < value < 1)
_up_to_30 = _number("a number from 0 to 30", lambda value: 0 <= value <= 30)


def _optional(parse: Callable[[str], _T]) -> Callable[[str], _T | None]:
    return lambda text: None if text.lower() == "none" else parse(text)


def _candidates(text: str) -> int:
    """How many candidates a search keeps: None, as in WhisperX, is one."""
    return _optional(_positive)(text) or 1


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|mlx|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"expected cpu, cuda, cuda:N, mps, mlx or auto, not {text!r}")
    return text


def _tokens(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(token) for token in text.split(",") if token.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected token ids with commas between, not {text!r}") from None


def _language(text: str) -> str:
    from whisperx.tokenizer import language_code

    if text.lower() == "auto-chunk":
        return "auto-chunk"
    try:
        return language_code(text)
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
