"""DiarizationPipeline and assign_word_speakers as programs written for WhisperX call them."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import whisperx
from whisperx import diarize as diarize_module
from whisperx.diarize import DiarizationPipeline, Segment, assign_word_speakers, load_diarizer
from whisperx.errors import ModelNotFoundError, WhisperXError
from whisperx.schema import Turn
from whisperx.speaker_turns import Diarization

ANN, BOB = "SPEAKER_00", "SPEAKER_01"
TURNS = [Turn(0.0, 5.0, ANN), Turn(5.0, 10.0, BOB)]
AUDIO = np.zeros(16000, np.float32)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the pipeline of this package is asked; it answers TURNS."""
    asked: list[dict[str, Any]] = []

    def diarize(audio: np.ndarray, **options: Any) -> Diarization:
        asked.append(options)
        return Diarization(TURNS, {ANN: [1.0, 0.0], BOB: [0.0, 1.0]})

    monkeypatch.setattr(diarize_module, "diarize", diarize)
    return asked


def transcript() -> dict[str, Any]:
    words = [{"word": "Hi.", "start": 1.0, "end": 2.0}, {"word": "Hello.", "start": 6.0, "end": 7.0}]
    return {"segments": [{"start": 1.0, "end": 7.0, "text": " Hi. Hello.", "words": words}], "word_segments": words}


def test_result_has_the_five_columns(calls: list[dict[str, Any]]):
    frame = DiarizationPipeline(device="cpu")(AUDIO)
    assert list(frame.columns) == ["segment", "label", "speaker", "start", "end"]
    assert frame.drop("segment", axis=1).values.tolist() == [["A", ANN, 0.0, 5.0], ["B", BOB, 5.0, 10.0]]
    assert [(segment.start, segment.end) for segment in frame["segment"]] == [(0.0, 5.0), (5.0, 10.0)]


def test_embeddings_come_as_a_second_value(calls: list[dict[str, Any]]):
    frame, embeddings = DiarizationPipeline()(AUDIO, return_embeddings=True)
    assert len(frame) == 2
    assert embeddings == {ANN: [1.0, 0.0], BOB: [0.0, 1.0]}


def test_nobody_speaking_is_an_empty_frame_and_no_embeddings(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(diarize_module, "diarize", lambda audio, **options: Diarization([], {}))
    frame, embeddings = DiarizationPipeline()(AUDIO, return_embeddings=True)
    assert list(frame.columns) == ["segment", "label", "speaker", "start", "end"]
    assert (len(frame), embeddings) == (0, None)


def test_arguments_have_the_order_of_whisperx(calls: list[dict[str, Any]]):
    DiarizationPipeline()(AUDIO, None, 2, 4)
    assert (calls[0]["num_speakers"], calls[0]["min_speakers"], calls[0]["max_speakers"]) == (None, 2, 4)


def test_minimum_and_maximum_passed_by_position_are_a_warning(calls: list[dict[str, Any]]):
    with pytest.warns(UserWarning, match="pass them by name"):
        DiarizationPipeline()(AUDIO, 1, 4)


def test_names_after_the_26th_letter_have_two():
    frame = diarize_module.to_dataframe([Turn(i, i + 1, ANN) for i in range(28)])
    assert frame["label"].tolist()[24:] == ["Y", "Z", "AA", "AB"]


def test_without_pandas_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch, calls: list[dict[str, Any]]):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(WhisperXError, match=r"pip install 'whisperx-mlx\[diarize\]'"):
        DiarizationPipeline()(AUDIO)


def test_turns_and_words_need_no_pandas(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    result = assign_word_speakers(TURNS, transcript())
    assert [word["speaker"] for word in result["word_segments"]] == [ANN, BOB]


@pytest.mark.parametrize("columns", [["start", "end", "speaker"], ["segment", "label", "speaker", "start", "end"]])
def test_frame_with_three_columns_is_enough(columns: list[str]):
    result = assign_word_speakers(diarize_module.to_dataframe(TURNS)[columns], transcript(), compat=True)
    assert [word["speaker"] for word in result["word_segments"]] == [ANN, BOB]


def test_embeddings_are_kept_in_the_transcript():
    result = transcript()
    assert assign_word_speakers(TURNS, result, {ANN: [1.0]}) is result
    assert result["speaker_embeddings"] == {ANN: [1.0]}


@pytest.mark.parametrize("frame", [None, pd.DataFrame(columns=["start", "end", "speaker"]), []])
def test_without_turns_the_transcript_comes_back_as_it_was(frame: Any):
    assert assign_word_speakers(frame, transcript(), {ANN: [1.0]}) == transcript()


def test_model_that_is_not_here_is_named(tmp_path: Path):
    with pytest.raises(ModelNotFoundError, match="no-such-pipeline"):
        load_diarizer("no-such-pipeline", cache_dir=tmp_path, local_files_only=True)


def test_gated_model_names_the_repository_and_what_to_do(tmp_path: Path):
    with pytest.raises(ModelNotFoundError, match="pyannote/speaker-diarization-community-1"):
        load_diarizer("pyannote/speaker-diarization-community-1", cache_dir=tmp_path, local_files_only=True)


def test_names_are_where_programs_look_for_them():
    assert whisperx.diarize.Segment is Segment
    assert whisperx.diarize.DiarizationPipeline is DiarizationPipeline
    assert whisperx.diarize.IntervalTree([(0, 1, ANN)]).find_nearest(5) == ANN
