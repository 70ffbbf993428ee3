"""Messages of this package: the format that WhisperX gives them, for programs that want them somewhere.

The package itself only writes to the logger "whisperx"; nothing is configured by importing it.
"""

import logging
import os
import sys
from typing import TextIO

FORMATTER = logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s", datefmt="%Y-%m-%d %H:%M:%S")
LEVELS = ("debug", "info", "warning", "error", "critical")


def say(text: str, stream: TextIO | None) -> None:
    """Print a line, at once. Where nobody reads it, as in `whisperx ... | head` or `2>&-`, the work goes on: the files
    are wanted all the same."""
    if stream is None:
        return
    encoding = stream.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class StderrHandler(logging.Handler):
    """Looks for stderr each time, since a progress bar or a test may stand in for it for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(FORMATTER)

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record), sys.stderr)


def setup_logging(level: str = "info", log_file: str | None = None) -> None:
    """Show the messages of this package on stderr, and append them to `log_file` if there is one.

    level : one of LEVELS, the least important that is shown. Handlers of an earlier call are replaced. A level that
    is not known counts as info and a file that cannot be written is left out, each with a warning.
    """
    package = logging.getLogger("whisperx")
    for handler in package.handlers[:]:
        package.removeHandler(handler)
        handler.close()
    package.addHandler(StderrHandler())
    package.propagate = False
    is_known = level.lower() in LEVELS
    package.setLevel(level.upper() if is_known else "INFO")
    if not is_known:
        package.warning("no log level %r; expected one of %s", level, ", ".join(LEVELS))
    if log_file is not None:
        try:
            file = logging.FileHandler(log_file, encoding="utf-8")
        except OSError as error:
            package.warning("cannot write the log to %s: %s", log_file, error.strerror)
            return
        file.setFormatter(FORMATTER)
        package.addHandler(file)


def get_logger(name: str) -> logging.Logger:
    """The logger called `name`; those called "whisperx" or "whisperx.something" are what `setup_logging` shows."""
    return logging.getLogger(name)
