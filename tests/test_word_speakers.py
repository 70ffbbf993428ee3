import copy
from typing import Any

import pytest

from whisperx.schema import Turn
from whisperx.word_speakers import IntervalTree, assign_speakers

ANN, BOB = "SPEAKER_00", "SPEAKER_01"
TURNS = [Turn(0, 5, ANN), Turn(5, 10, BOB), Turn(20, 22, ANN)]


def said(text: str, *starts: float) -> dict[str, Any]:
    """A segment whose words begin at these times and last for half a second; None: no time is known."""
    words = [
        {"word": word, **({} if start is None else {"start": start, "end": start + 0.5, "score": 0.9})}
        for word, start in zip(text.split(), starts, strict=True)
    ]
    known = [start for start in starts if start is not None]
    return {"start": known[0], "end": known[-1] + 0.5, "text": text, "words": words}


def transcript(*segments: dict[str, Any]) -> dict[str, Any]:
    return {"segments": list(segments), "word_segments": [word for s in segments for word in s.get("words", [])]}


def speakers(result: dict[str, Any]) -> list[str | None]:
    return [word.get("speaker") for word in result["word_segments"]]


def parts(result: dict[str, Any]) -> list[tuple[str | None, str]]:
    return [(segment.get("speaker"), segment["text"]) for segment in result["segments"]]


@pytest.mark.parametrize("compat", [True, False])
def test_words_take_the_speaker_with_the_largest_overlap(compat: bool):
    result = assign_speakers(TURNS, transcript(said(" So it goes", 4, 4.6, 4.9)), compat=compat)
    assert speakers(result) == [ANN, ANN, BOB]


def test_overlaps_of_one_speaker_add_up():
    turns = [Turn(0, 2, ANN), Turn(2, 5, BOB), Turn(5, 7, ANN)]
    result = assign_speakers(turns, transcript({"start": 0, "end": 7, "text": "a"}), compat=True)
    assert result["segments"][0]["speaker"] == ANN


def test_of_two_equal_speakers_it_is_the_first():
    result = assign_speakers(TURNS, transcript({"start": 4, "end": 6, "text": "a"}), compat=True)
    assert result["segments"][0]["speaker"] == ANN


def test_segment_is_split_where_the_speaker_changes():
    result = assign_speakers(TURNS, transcript(said(" Are you there? Yes, I am.", 3, 3.5, 4, 6, 6.5, 7)))
    assert parts(result) == [(ANN, " Are you there?"), (BOB, "Yes, I am.")]
    assert [(s["start"], s["end"]) for s in result["segments"]] == [(3, 4.5), (6, 7.5)]
    split = [word for segment in result["segments"] for word in segment["words"]]
    assert all(a is b for a, b in zip(result["word_segments"], split, strict=True))


def test_characters_are_split_with_their_words():
    segment = said(" Hm? No.", 3, 7)
    segment["chars"] = [{"char": char} for char in "Hm? No."]
    result = assign_speakers(TURNS, transcript(segment))
    assert ["".join(char["char"] for char in s["chars"]) for s in result["segments"]] == ["Hm? ", "No."]


def test_segment_is_not_split_as_whisperx():
    result = assign_speakers(TURNS, transcript(said(" Are you there? Yes.", 3, 3.5, 4, 6)), compat=True)
    assert parts(result) == [(ANN, " Are you there? Yes.")]
    assert speakers(result) == [ANN, ANN, ANN, BOB]


@pytest.mark.parametrize(("compat", "middle"), [(False, ANN), (True, BOB)])
def test_lone_word_within_anothers_sentence_is_smoothed(compat: bool, middle: str):
    turns = [Turn(0, 2, ANN), Turn(2, 2.5, BOB), Turn(2.5, 5, ANN)]
    result = assign_speakers(turns, transcript(said("one two three four five", 1, 1.5, 2, 2.5, 3)), compat=compat)
    assert speakers(result) == [ANN, ANN, middle, ANN, ANN]
    assert len(result["segments"]) == 1


def test_short_answer_between_speakers_stays():
    turns = [Turn(0, 2, ANN), Turn(2, 2.5, BOB), Turn(2.5, 5, ANN)]
    result = assign_speakers(turns, transcript(said("Right? Yes. Good.", 1.5, 2, 2.5)))
    assert parts(result) == [(ANN, "Right?"), (BOB, "Yes."), (ANN, "Good.")]


@pytest.mark.parametrize(("compat", "second"), [(False, BOB), (True, None)])
def test_word_without_a_time_goes_with_its_neighbour(compat: bool, second: str | None):
    result = assign_speakers(TURNS, transcript(said("In 1984 I", 6, None, 7)), compat=compat)
    assert speakers(result) == [BOB, second, BOB]


@pytest.mark.parametrize("compat", [True, False])
@pytest.mark.parametrize(("fill_nearest", "speaker"), [(False, None), (True, BOB)])
def test_nobody_speaks_then(compat: bool, fill_nearest: bool, speaker: str | None):
    result = transcript({"start": 12, "end": 13, "text": "a", "words": [{"word": "a", "start": 12, "end": 13}]})
    assign_speakers(TURNS, result, fill_nearest=fill_nearest, compat=compat)
    assert [result["segments"][0].get("speaker"), *speakers(result)] == [speaker, speaker]


def test_words_that_are_not_in_the_text_are_not_torn_apart():
    segment = said("one two", 3, 7)
    segment["text"] = "eins zwei"
    result = assign_speakers(TURNS, transcript(segment))
    assert [s["text"] for s in result["segments"]] == ["eins zwei"]


def test_text_without_spaces_is_split():
    words = [{"word": char, "start": i, "end": i + 1} for i, char in enumerate("你好吗我很好", start=2)]
    result = assign_speakers(TURNS, transcript({"start": 2, "end": 8, "text": "你好吗我很好", "words": words}))
    assert parts(result) == [(ANN, "你好吗"), (BOB, "我很好")]


def test_repeated_word_is_found_where_it_is_said():
    result = assign_speakers(TURNS, transcript(said("no no no no", 3, 4, 6, 7)))
    assert parts(result) == [(ANN, "no no"), (BOB, "no no")]


def test_words_before_the_first_known_speaker_are_theirs():
    words = said("Well then yes", None, None, 6)
    assert speakers(assign_speakers(TURNS, transcript(words))) == [BOB, BOB, BOB]


def test_word_without_an_end_is_said_at_its_start():
    segment = said("one two", 3, 12)
    del segment["words"][1]["end"]
    assert speakers(assign_speakers(TURNS, transcript(segment), fill_nearest=True, compat=True)) == [ANN, BOB]


def test_nearest_speaker_is_nearest_to_the_middle():
    turns = [Turn(0, 2, ANN), Turn(12, 14, BOB)]
    result = assign_speakers(turns, transcript({"start": 3, "end": 12, "text": "a"}), fill_nearest=True, compat=True)
    assert result["segments"][0]["speaker"] == BOB


def test_what_cannot_be_split_is_said_by_who_says_most_of_it():
    segment = said("one two three", 4, 6, 7)
    segment["text"] = "eins zwei drei"
    assert parts(assign_speakers(TURNS, transcript(segment))) == [(BOB, "eins zwei drei")]


def test_time_around_the_words_stays_with_the_first_and_the_last_part():
    segment = said("one two", 3, 6) | {"start": 2.5, "end": 8}
    result = assign_speakers(TURNS, transcript(segment))
    assert [(s["start"], s["end"]) for s in result["segments"]] == [(2.5, 3.5), (6, 8)]


def test_words_of_a_part_without_times_are_not_torn_off():
    segment = said("one two", 3, 4)
    segment["words"][1] = {"word": "two", "speaker": BOB}
    assert parts(assign_speakers(TURNS, transcript(segment))) == [(ANN, "one two")]


@pytest.mark.parametrize("turns", [[], TURNS])
def test_empty_transcript_and_no_turns_change_nothing(turns: list[Turn]):
    result = transcript() if turns else transcript(said("one two", 3, 7))
    before = copy.deepcopy(result)
    assert assign_speakers(turns, result) is result
    assert result == before


def test_interval_tree_finds_overlaps_and_the_nearest():
    tree = IntervalTree([(5, 10, BOB), (0, 6, ANN), (20, 22, ANN)])
    assert (tree.starts, tree.ends, tree.speakers) == ([0, 5, 20], [6, 10, 22], [ANN, BOB, ANN])
    assert tree.query(4, 7) == [(ANN, 2), (BOB, 2)]
    assert tree.query(10, 20) == []
    assert tree.find_nearest(13) == BOB
    assert IntervalTree([]).find_nearest(1) is None
