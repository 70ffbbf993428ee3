"""What goes wrong in WhisperX with a message that programs match goes wrong here with the same type and text."""

import logging
from pathlib import Path

import numpy as np
import pytest
from test_clients import METADATA, Sure

import whisperx
from whisperx.cli import main
from whisperx.errors import AudioError, ModelNotFoundError, OptionError, WhisperXError
from whisperx.vads import Silero


def transcribe_silence(model: Path) -> object:
    return whisperx.load_model(model, "cpu", language="en").transcribe(np.zeros(32000, np.float32))


@pytest.mark.parametrize(
    ("do", "kind", "message"),
    [
        (lambda model: whisperx.load_audio("missing.wav"), RuntimeError, "^Failed to load audio: .*missing.wav"),
        (lambda model: whisperx.load_align_model("th", "cpu"), ValueError, "No default align-model for language: th"),
        (
            lambda model: whisperx.load_align_model("en", "cpu", "no/such", model_cache_only=True),
            ValueError,
            r'^The chosen align_model "no/such" could not be found in huggingface \(.*\) or torchaudio \(',
        ),
        (lambda model: whisperx.load_model(model, "cpu", vad_method="x"), ValueError, "^Invalid vad_method: x"),
        (lambda model: Silero(vad_onset=1.0), ValueError, "^vad_onset is a decimal value between 0 and 1."),
        (
            lambda model: whisperx.load_model(model, "cpu", vad_options={"vad_onset": 0}),
            ValueError,
            "^vad_onset is a decimal value between 0 and 1.",
        ),
        (lambda model: whisperx.load_model("huge", "cpu"), ValueError, "^Invalid model size 'huge', expected one of: "),
        (lambda model: whisperx.load_model(model, "cpu", language="x"), ValueError, "^Unsupported language: x"),
        (
            lambda model: whisperx.load_model(model, "cpu", compute_type="float16", backend="mlx"),
            ValueError,
            "float16 is not supported on a CPU",
        ),
        (lambda model: whisperx.load_model(model, "cpu", asr_options={"x": 1}), TypeError, "has no 'x'"),
    ],
    ids=["audio", "language", "aligner", "vad", "onset", "option", "model", "language name", "type", "asr_options"],
)
def test_type_and_text_are_those_of_whisperx(do, kind, message, demo_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message) as caught:
        do(demo_model)
    assert isinstance(caught.value, WhisperXError | TypeError)
    assert "\n" not in str(caught.value)


def test_no_speech_is_a_warning_and_no_segments(demo_model, caplog):
    with caplog.at_level(logging.WARNING):
        result = transcribe_silence(demo_model)
    assert result["segments"] == []
    assert "No active speech found in audio" in caplog.messages


def test_what_lies_behind_the_end_of_the_recording_is_a_warning_and_keeps_its_text(caplog):
    late = {"text": "late", "start": 9.0, "end": 10.0}
    result = whisperx.align([late], Sure(), METADATA, np.zeros(32000, np.float32), "cpu")
    assert [segment["text"] for segment in result["segments"]] == ["late"]
    assert caplog.messages == [
        'Failed to align segment ("late"): original start time longer than audio duration, skipping'
    ]


def test_errors_are_also_builtins():
    assert issubclass(AudioError, RuntimeError)
    assert issubclass(OptionError, ValueError)
    assert issubclass(ModelNotFoundError, ValueError)
    assert issubclass(ModelNotFoundError, FileNotFoundError)


def test_an_output_folder_that_cannot_be_is_told_before_a_model_is_loaded(tmp_path, capfd):
    (tmp_path / "file").touch()
    status = main([str(tmp_path / "a.wav"), "-o", str(tmp_path / "file" / "out"), "--model", "no such model"])
    assert status == 1
    assert "--output_dir: cannot write into the folder" in capfd.readouterr().err
