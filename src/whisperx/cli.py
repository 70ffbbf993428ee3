"""The `whisperx` command: WhisperX's flags, recordings in, files out.

Transcripts go to stdout, everything else to stderr. Exit status: 0 all well, 1 something failed, 2 wrong usage,
130 interrupted. Nothing heavy is imported before the arguments are understood: `--help` answers at once.
"""

import argparse
import logging
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from whisperx.arguments import LONGEST_CHUNK, build_parser, check_together, complete
from whisperx.errors import AudioError, ClipError, OptionError, WhisperXError
from whisperx.inputs import find_recordings, output_names, shown, stem_of
from whisperx.log_utils import StderrHandler, say
from whisperx.screen import Screen

if TYPE_CHECKING:
    from whisperx.report import Recording, Run
    from whisperx.schema import AlignedTranscriptionResult, TranscriptionResult
    from whisperx.subtitles.cues import SubtitleOptions
    from whisperx.transcribe import Lookahead, TranscribeOptions, Transcriber
    from whisperx.transcripts import Transcript
    from whisperx.writers import Writer

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the arguments `argv` (None: those of the process) and return its exit status."""
    parser = build_parser()
    return _main(parser.parse_args(argv), parser)


def transcribe_task(args: Mapping[str, Any], parser: argparse.ArgumentParser) -> None:
    """Do what the command does, as programs call it in WhisperX: `args` are the values of its flags by name.

    Flags that are missing have their defaults. Ends the program, as `parser.error` does, where the arguments make no
    sense, and with status 1 where something failed.
    """
    status = _main(complete(args), parser)
    if status:
        sys.exit(status)


def _main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    idle = check_together(parser, args)
    with _logging_to_stderr(args.log_level or ("info" if args.verbose else "warning")):
        for sentence in idle:
            logger.warning(sentence)
        try:
            return _run(args)
        except KeyboardInterrupt:
            _complain("interrupted; files that were written are whole and stay.")
            return 130
        except Exception as error:
            _complain(_explain(error))
            return 1


@dataclass(frozen=True)
class _Job:
    """A recording, and what to write of it."""

    path: str
    name: str  # that its files are called after
    writers: list["Writer"]
    known: "Transcript | None" = None  # the text, so that nothing is decoded
    language: str = ""  # of the known text


def _run(args: argparse.Namespace) -> int:
    _prepare_folder("--output_dir", Path(args.output_dir))
    if args.report is not None:
        _prepare_folder("--report", Path(args.report).parent)

    # NumPy, PyAV and MLX take a second that --help and wrong usage need not wait for.
    from whisperx.report import Run
    from whisperx.transcribe import Lookahead, Transcriber

    paths, problems = _recordings(args.audio)
    jobs = _jobs(args, paths)
    if args.align_only is not None:
        jobs, without = _with_transcripts(args, jobs, len(paths))
        problems += without
    transcriber = Transcriber(_options(args))
    run = Run(options=transcriber.options)
    try:
        with (
            Screen(transcript=args.verbose, progress_lines=args.print_progress) as screen,
            Lookahead(transcriber, [job.path for job in jobs], finds_speech=args.align_only is None) as lookahead,
        ):
            lookahead.start(0)
            for i, job in enumerate(jobs):
                run.recordings.append(_transcribe(i, job, transcriber, lookahead, screen, _subtitle_options(args)))
    except BaseException as error:
        run.error = str(error) or type(error).__name__
        raise
    finally:
        run.device, run.load_seconds = transcriber.device, transcriber.load_seconds
        if args.report is not None:
            run.write(Path(args.report))
    if args.verbose and any(recording.files for recording in run.recordings):
        say(run.table(), sys.stderr)
    return _sum_up(run, problems)


def _recordings(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The paths that the arguments stand for, each once, and what is wrong with the arguments that stand for none."""
    paths: dict[str, None] = {}
    problems = []
    for argument in arguments:
        try:
            paths |= dict.fromkeys(find_recordings(argument))
        except AudioError as error:
            _complain(str(error))
            problems.append(str(error))
    return list(paths), problems


def _jobs(args: argparse.Namespace, paths: Sequence[str]) -> list[_Job]:
    """What is to be done: nothing where `--skip_existing` finds all files, and only what is missing where some are."""
    from whisperx.writers import ALL_FORMATS, get_writer

    formats = ALL_FORMATS if args.output_format == "all" else (args.output_format,)
    jobs = []
    for path, name in zip(paths, output_names(paths), strict=True):
        stem = Path(name).stem
        missing = [
            extension
            for extension in formats
            if not (args.skip_existing and Path(args.output_dir, f"{stem}.{extension}").exists())
        ]
        if not missing:
            logger.info("%s: skipped, its files are there", shown(path))
            continue
        if stem != stem_of(path):
            logger.warning(
                "%s: the files are called %s, since its own name is another recording's or too long", shown(path), stem
            )
        jobs.append(_Job(path, name, [get_writer(extension, args.output_dir) for extension in missing]))
    return jobs


def _with_transcripts(
    args: argparse.Namespace, jobs: Sequence[_Job], n_recordings: int
) -> tuple[list[_Job], list[str]]:
    """The jobs that `--align_only` has a transcript for, and what is wrong with those of the others."""
    from whisperx.transcripts import SUFFIXES, read_transcript

    known = Path(args.align_only)
    if n_recordings > 1 and not known.is_dir():
        raise OptionError(f"--align_only {known}: one transcript cannot be that of {n_recordings} recordings.")
    found, problems = [], []
    for job in jobs:
        of_its_name = [known / f"{stem_of(job.path)}{suffix}" for suffix in SUFFIXES] if known.is_dir() else [known]
        try:
            transcript = read_transcript(next((file for file in of_its_name if file.exists()), of_its_name[0]))
        except OptionError as error:
            _complain(str(error))
            problems.append(str(error))
            continue
        given = None if args.language == "auto-chunk" else args.language
        found.append(replace(job, known=transcript, language=given or transcript.language or "en"))
    return found, problems


def _transcribe(
    index: int,
    job: _Job,
    transcriber: "Transcriber",
    lookahead: "Lookahead",
    screen: Screen,
    subtitle_options: "SubtitleOptions",
) -> "Recording":
    """Transcribe one recording and write its files. What concerns this recording alone is told and kept in `error`."""
    from whisperx.report import Recording

    recording = Recording(audio=job.path)
    logger.info("Transcribing %s", shown(job.path))
    load_seconds, start = transcriber.load_seconds, perf_counter()
    screen.begin(Path(job.path).name)
    try:
        if job.known is None and lookahead.can_be_read(index, recording.meter):
            transcriber.load()
        prepared = lookahead.take(index, recording.meter)
        lookahead.start(index + 1)
        recording.ahead = prepared.ahead.seconds
        problems: list[Exception] = []
        result: TranscriptionResult | AlignedTranscriptionResult
        if job.known is not None:
            result = transcriber.align_only(
                prepared, job.known.segments, job.language, on_problem=problems.append, meter=recording.meter
            )
        else:
            result = transcriber(
                prepared,
                on_segment=screen.segment,
                on_progress=screen.progress,
                on_problem=problems.append,
                meter=recording.meter,
            )
        recording.language = result["language"]
        if not result["segments"]:
            logger.warning("%s: no text was found in it", shown(job.path))
        with recording.meter.time("write"):
            recording.files = [file for write in job.writers for file in write(result, job.name, subtitle_options)]
        if problems:  # the transcript is there, but not all that was asked for
            recording.error = "; ".join(f"{shown(job.path)}: {_explain(problem)}" for problem in problems)
    except WhisperXError as error:
        if not isinstance(error, AudioError | ClipError):
            raise  # a model, an engine or an option that will not do for the other recordings either
        where = "" if isinstance(error, AudioError) else f"{shown(job.path)}: "
        recording.error = where + _explain(error)
    except Exception as error:
        recording.error = f"{shown(job.path)}: {_explain(error)}"
    recording.wall_seconds = perf_counter() - start - (transcriber.load_seconds - load_seconds)
    if recording.error is not None:
        _complain(recording.error)
    return recording


def _sum_up(run: "Run", problems: Sequence[str]) -> int:
    """The exit status, and once more which recordings failed, where their errors may have scrolled away."""
    failed = [recording.audio for recording in run.recordings if recording.error]
    if failed and len(run.recordings) > 1:
        names = ", ".join(map(shown, failed))
        say(f"{len(failed)} of {len(run.recordings)} recordings failed: {names}", sys.stderr)
    return 1 if failed or problems else 0


def _subtitle_options(args: argparse.Namespace) -> "SubtitleOptions":
    return {
        "max_line_width": args.max_line_width,
        "max_line_count": args.max_line_count,
        "highlight_words": args.highlight_words,
        "subtitle_style": args.subtitle_style,
        "compat": args.compat == "whisperx",
    }


def _options(args: argparse.Namespace) -> "TranscribeOptions":
    from dataclasses import fields

    from whisperx.schema import DecodingOptions
    from whisperx.transcribe import TranscribeOptions

    values = vars(args).copy()
    if args.chunk_size > LONGEST_CHUNK:
        logger.warning("--chunk_size %d: Whisper hears %d s at most, so that is used", args.chunk_size, LONGEST_CHUNK)
        values["chunk_size"] = LONGEST_CHUNK
    values["temperatures"] = _temperatures(args.temperature, args.temperature_increment_on_fallback)
    values["log_prob_threshold"] = args.logprob_threshold
    values["compat"] = args.compat == "whisperx"

    def chosen(options: type[DecodingOptions | TranscribeOptions]) -> dict[str, Any]:
        return {field.name: values[field.name] for field in fields(options) if field.name in values}

    return TranscribeOptions(decoding=DecodingOptions(**chosen(DecodingOptions)), **chosen(TranscribeOptions))


def _temperatures(first: float, increment: float | None) -> tuple[float, ...]:
    """`first` and, in steps of `increment`, what follows up to 1."""
    n_more = 0 if increment is None else math.floor((1 - first) / increment + 1e-6)
    return (first, *(round(first + i * (increment or 0), 6) for i in range(1, n_more + 1)))


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


def _complain(message: str) -> None:
    say("whisperx: error: " + " ".join(message.splitlines()), sys.stderr)


def _explain(error: Exception) -> str:
    """`error` as a person wants to read it; its traceback is a debug message."""
    logger.debug("Where the error came from", exc_info=error)
    if isinstance(error, WhisperXError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {error} (--log-level debug shows where)"


if __name__ == "__main__":
    sys.exit(main())
