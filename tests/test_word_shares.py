"""The share of words with the right speaker, by hand."""

import json
import sys
from pathlib import Path

import pytest

from whisperx.schema import Turn

sys.path.append(str(Path(__file__).parents[1]))
from benchmarks.diarization import attributed_words, share_of_words

WORDS = [Turn(0, 1, "ann"), Turn(1, 2, "ann"), Turn(2, 3, "bob"), Turn(3, 4, "bob")]


@pytest.mark.parametrize(
    ("found", "share"),
    [
        ([Turn(0, 2, "x"), Turn(2, 4, "y")], 1.0),
        ([Turn(0, 2, "y"), Turn(2, 4, "x")], 1.0),  # names do not matter
        ([Turn(0, 4, "x")], 0.5),
        ([Turn(0, 3.2, "x"), Turn(3.2, 4, "y")], 0.75),
        ([Turn(0, 1, "x"), Turn(1, 2, "z"), Turn(2, 4, "y")], 0.75),  # each speaker is one of those found
        ([Turn(0, 1, "x")], 0.25),  # words that nobody says are wrong
        ([], 0.0),
    ],
)
def test_share_is_that_counted_by_hand(found: list[Turn], share: float):
    assert share_of_words(WORDS, found) == share


def test_words_of_a_turn_share_its_time_by_their_letters(tmp_path: Path):
    turns = [
        {"start": 1, "end": 5, "speaker": "ann", "text": "I can"},
        {"start": 5, "end": 9, "speaker": "bob", "text": "No"},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"turns": turns}))
    assert attributed_words(tmp_path / "a.json", 6) == [Turn(1, 2, "ann"), Turn(2, 5, "ann")]
