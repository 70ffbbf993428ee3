import logging

import pytest

import whisperx


@pytest.fixture(autouse=True)
def logger():
    """The package's logger, put back as it was."""
    package = logging.getLogger("whisperx")
    before = package.level, package.handlers[:], package.propagate
    yield package
    for handler in package.handlers:
        handler.close()
    package.level, package.handlers, package.propagate = before


def test_messages_go_to_stderr_and_to_the_file(tmp_path, capfd):
    whisperx.setup_logging("info", str(tmp_path / "log"))
    whisperx.get_logger("whisperx.asr").info("ready")
    whisperx.get_logger("whisperx.asr").debug("not shown")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.endswith(" - whisperx.asr - INFO - ready\n")
    assert (tmp_path / "log").read_text() == err


def test_a_second_call_replaces_the_first(logger, capfd):
    for level in ("debug", "error"):
        whisperx.setup_logging(level)
    whisperx.get_logger("whisperx").warning("not shown")
    assert (len(logger.handlers), capfd.readouterr().err) == (1, "")


@pytest.mark.parametrize(
    ("level", "file", "complaint"),
    [("loud", None, "no log level 'loud'; expected one of debug, info"), ("INFO", "no/such/folder", "cannot write")],
)
def test_what_cannot_be_done_is_a_warning(level, file, complaint, logger, capfd):
    whisperx.setup_logging(level, file)
    assert complaint in capfd.readouterr().err
    assert logger.level == logging.INFO


def test_asking_for_a_logger_configures_nothing(logger):
    before = logger.handlers[:]
    whisperx.get_logger("whisperx.alignment")
    assert logger.handlers == before
