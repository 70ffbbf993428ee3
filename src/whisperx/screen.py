"""What people see of a recording that is transcribed."""

import sys
from typing import TYPE_CHECKING, Any

from whisperx.log_utils import say

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress

    from whisperx.schema import SingleSegment


class Screen:
    """Text on stdout, a bar on stderr if that is a terminal."""

    def __init__(self, *, transcript: bool, progress_lines: bool) -> None:
        self._transcript = transcript
        self._progress_lines = progress_lines
        self._percent_printed = 0
        self._bar: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> "Screen":
        if sys.stderr is not None and sys.stderr.isatty():
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
        if self._bar is not None and sys.stdout is not None and sys.stdout.isatty():
            # Both streams are the same terminal: the bar makes room for the line.
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        say(line, sys.stdout)


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
