"""Error rates worked out by hand."""

import sys
from pathlib import Path

import pytest

from whisperx.schema import Turn

sys.path.append(str(Path(__file__).parents[1]))
from benchmarks.der import score

REFERENCE = [Turn(0, 10, "ann"), Turn(10, 20, "bob")]


def turns(*intervals: tuple[float, float, str]) -> list[Turn]:
    return [Turn(*interval) for interval in intervals]


@pytest.mark.parametrize(
    ("found", "missed", "false_alarm", "confusion"),
    [
        ([], 20, 0, 0),
        (turns((0, 10, "x"), (10, 20, "y")), 0, 0, 0),
        (turns((0, 10, "y"), (10, 20, "x")), 0, 0, 0),  # names do not matter
        (turns((0, 20, "x")), 0, 0, 10),
        (turns((0, 12, "x"), (12, 20, "y")), 0, 0, 2),
        (turns((2, 10, "x"), (10, 19, "y")), 3, 0, 0),
        (turns((0, 10, "x"), (10, 20, "y"), (4, 6, "y")), 0, 2, 0),
        (turns((0, 25, "x"), (10, 20, "y")), 0, 10, 0),  # beyond what is scored nothing counts
        (turns((0, 4, "x"), (4, 10, "y"), (10, 20, "z")), 0, 0, 4),  # each speaker is one of those found
    ],
)
def test_errors_are_those_counted_by_hand(found: list[Turn], missed: float, false_alarm: float, confusion: float):
    errors = score(REFERENCE, found, (0, 20))
    assert (errors.missed, errors.false_alarm, errors.confusion, errors.speech) == (missed, false_alarm, confusion, 20)
    assert errors.rate == (missed + false_alarm + confusion) / 20


def test_overlap_counts_for_each_speaker():
    reference = turns((0, 10, "ann"), (5, 10, "bob"))
    errors = score(reference, turns((0, 10, "x")), (0, 10))
    assert (errors.missed, errors.confusion, errors.speech) == (5, 0, 15)


def test_overlap_can_be_left_out():
    reference = turns((0, 10, "ann"), (5, 10, "bob"))
    errors = score(reference, turns((0, 10, "x")), (0, 10), overlap=False)
    assert (errors.rate, errors.speech) == (0, 5)


def test_collar_forgives_borders_that_are_a_little_off():
    found = turns((0.2, 9.8, "x"), (10.2, 19.9, "y"))
    assert score(REFERENCE, found, (0, 20)).missed == pytest.approx(0.7)
    errors = score(REFERENCE, found, (0, 20), collar=0.25)
    assert (errors.rate, errors.speech) == (0, 19)


def test_nothing_to_find_is_no_error():
    assert score([], [], (0, 20)).rate == 0
