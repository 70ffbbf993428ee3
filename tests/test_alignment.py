"""align: words where they are said, all of the text, and WhisperX's ways where they are asked for."""

import copy
import itertools
import logging
from typing import Any

import numpy as np
import pytest
from fake_aligner import DICTIONARY, METADATA, FakeAligner, ramp, timeline_of
from hypothesis import given
from hypothesis import strategies as st

from whisperx.alignment import align
from whisperx.alignment.labels import Alphabet, spell, spell_as_whisperx
from whisperx.alignment.words import CharTimes, aligned_as_whisperx, fill_gaps
from whisperx.errors import OptionError
from whisperx.schema import AlignedTranscriptionResult, SingleSegment, SingleWordSegment

SECONDS = 12.0
LANGUAGES = ["en", "de", "ja", "th", "hi", "fr"]


def segment(text: str, start: float = 0.0, end: float = SECONDS) -> SingleSegment:
    return {"text": text, "start": start, "end": end}


def aligned(text: str, model: FakeAligner, language: str = "en", **options: Any) -> AlignedTranscriptionResult:
    return align([segment(text)], model, METADATA | {"language": language}, ramp(SECONDS), "cpu", **options)


def times(words: list[SingleWordSegment]) -> list[tuple[str, float, float]]:
    return [(word["word"], word["start"], word["end"]) for word in words]


def test_words_are_timed_where_they_are_said() -> None:
    model = FakeAligner(timeline_of("hello|world", 50))
    result = aligned(" Hello, world.", model)
    assert times(result["word_segments"]) == [("Hello,", 1.0, 1.3), ("world.", 1.36, 1.7)]
    assert [word["score"] for word in result["word_segments"]] == [0.9, 0.9]
    assert result["segments"] == [
        {"start": 1.0, "end": 1.7, "text": " Hello, world.", "words": result["word_segments"]}
    ]
    assert result["word_segments"][0] is result["segments"][0]["words"][0]


def test_word_ends_where_its_last_character_ends_and_whisperx_waits_for_the_next_word() -> None:
    silence = timeline_of("one", 50) | timeline_of("|two", 250)
    assert times(aligned("one two", FakeAligner(silence))["word_segments"])[0] == ("one", 1.0, 1.22)
    word = aligned("one two", FakeAligner(silence), compat=True)["word_segments"][0]
    assert word["end"] == pytest.approx(5.0, abs=0.02)


def test_held_character_is_not_cut() -> None:
    model = FakeAligner({50: "n", 53: "o"} | dict.fromkeys(range(54, 100), "o"))
    assert times(aligned("no", model)["word_segments"]) == [("no", 1.0, 2.08)]


# Text, what is said frame by frame (a character every three frames from second 1 on), and when its words start.
SAID = [
    ("I have 14 cats", "i|have|fourteen|cats", {"I": 0, "have": 2, "14": 7, "cats": 16}),
    ("It was $3.50 then", "it|was|three|dollars|fifty|then", {"$3.50": 7, "then": 27}),
    ("About 20% of it", "about|twenty|percent|of|it", {"20%": 6, "of": 21}),
    ("In 1999, then", "in|nineteen|ninety|nine|then", {"1999,": 3, "then": 24}),
    ("you & me", "you|and|me", {"&": 4, "me": 8}),
    ("the 2nd one", "the|second|one", {"2nd": 4, "one": 11}),
    ("a café “here”", "a|cafe|here", {"café": 2, "“here”": 7}),
    ("it’s İ am", "it's|i|am", {"it’s": 0, "İ": 5, "am": 7}),
    ("well-known fact", "wellknown|fact", {"well-known": 0, "fact": 10}),
    ("the ﬁnal one", "the|final|one", {"ﬁnal": 4, "one": 10}),
    ("a | b", "a|b", {"a": 0, "b": 2}),
    ("one\ntwo\tthree\u00a0four", "one|two|three|four", {"two": 4, "three": 8, "four": 14}),
]


@pytest.mark.parametrize(("text", "said", "starts"), SAID, ids=[text for text, _, _ in SAID])
def test_word_starts_where_it_is_heard(text: str, said: str, starts: dict[str, int]) -> None:
    words = {word["word"]: word for word in aligned(text, FakeAligner(timeline_of(said, 50)))["word_segments"]}
    for word, place in starts.items():
        assert words[word]["start"] == pytest.approx(1 + 0.06 * place, abs=0.001), word
        assert "score" in words[word]


def test_number_without_a_spoken_form_takes_the_letters_between_its_neighbours() -> None:
    said = "die|zahl|dreizehn|ist|gut"
    model = FakeAligner(timeline_of(said, 50))
    words = aligned("die zahl 13 ist gut", model, language="xx")["word_segments"]
    by_word = {word["word"]: word for word in words}
    assert by_word["13"]["start"] == pytest.approx(1 + 0.06 * said.index("dreizehn"))
    assert by_word["13"]["end"] == pytest.approx(1 + 0.06 * (said.index("dreizehn") + 8), abs=0.061)
    assert by_word["ist"]["start"] == pytest.approx(1 + 0.06 * said.index("ist"))


@pytest.mark.parametrize(
    ("method", "expected"),
    [("nearest", (1.0, 1.18)), ("linear", (1.12, 1.3)), ("ignore", None)],
)
def test_word_that_nobody_says_is_estimated_without_a_score(method: Any, expected: tuple[float, float] | None) -> None:
    model = FakeAligner(timeline_of("one|two|six", 50))
    words = aligned("one — two six", model, interpolate_method=method)["word_segments"]
    assert [word["word"] for word in words] == ["one", "—", "two", "six"]
    assert "score" not in words[1]
    if expected is None:
        assert "start" not in words[1]
        assert "end" not in words[1]
    else:
        assert (words[1]["start"], words[1]["end"]) == expected


FAILURES = [
    ("♪ …", 0.0, 4.0, "no characters in this segment found in model dictionary"),
    ("too late", 20.0, 22.0, "original start time longer than audio duration"),
    ("far too much text for so little sound", 1.0, 1.1, "backtrack failed"),
]


@pytest.mark.parametrize(("text", "start", "end", "reason"), FAILURES)
def test_what_cannot_be_aligned_keeps_its_text_and_gets_estimated_words(
    text: str, start: float, end: float, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    transcript = [segment("one"), segment(text, start, end), segment("two")]
    model = FakeAligner(timeline_of("one", 50))
    with caplog.at_level(logging.WARNING, "whisperx"):
        result = align(transcript, model, METADATA, ramp(SECONDS), "cpu")
    assert [s["text"] for s in result["segments"]] == ["one", text, "two"]
    words = result["segments"][1]["words"]
    assert [word["word"] for word in words] == text.split()
    assert all(start <= word["start"] <= word["end"] <= end for word in words)
    assert all("score" not in word for word in words)
    assert len(caplog.records) == 1
    assert "Failed to align segment" in caplog.text
    assert reason in caplog.text
    raw = align(transcript, model, METADATA, ramp(SECONDS), "cpu", compat=True)["segments"][1]
    if reason != FAILURES[0][3]:  # where WhisperX takes a punctuation mark for a letter
        assert raw == {"start": start, "end": end, "text": text, "words": [], "chars": None}


def test_empty_transcript_and_empty_text_are_no_trouble() -> None:
    model = FakeAligner({})
    assert align([], model, METADATA, ramp(1), "cpu") == {"segments": [], "word_segments": []}
    result = align([segment("  "), segment("")], model, METADATA, ramp(1), "cpu")
    assert [(s["text"], s["words"]) for s in result["segments"]] == [("  ", []), ("", [])]
    assert model.heard == []


def test_sentences_have_their_own_times_and_the_score_of_their_segment() -> None:
    model = FakeAligner(timeline_of("it|is|late|go|home", 50))
    transcript: list[SingleSegment] = [segment(" It is late. Go home.") | {"avg_logprob": -0.25}]  # type: ignore[list-item]
    result = align(transcript, model, METADATA, ramp(SECONDS), "cpu")
    assert [(s["text"], s["start"], s["avg_logprob"]) for s in result["segments"]] == [
        (" It is late.", 1.0, -0.25),
        ("Go home.", 1.66, -0.25),
    ]
    assert [[word["word"] for word in s["words"]] for s in result["segments"]] == [
        ["It", "is", "late."],
        ["Go", "home."],
    ]


def test_characters_are_those_of_the_sentence_and_punctuation_has_no_time() -> None:
    model = FakeAligner(timeline_of("hi|yo", 50))
    result = aligned("Hi, yo. Hi", model, return_char_alignments=True)
    chars = [s["chars"] or [] for s in result["segments"]]
    assert ["".join(char["char"] for char in sentence) for sentence in chars] == ["Hi, yo.", "Hi"]
    assert chars[0][0] == {"char": "H", "start": 1.0, "end": 1.06, "score": 0.9}
    assert chars[0][2] == {"char": ","}
    assert "chars" not in aligned("Hi", model)["segments"][0]


def test_japanese_sentence_ends_before_the_next_and_no_character_stands_twice() -> None:
    text = "今日は晴れです。明日は晴。"
    result = aligned(text, FakeAligner({}), language="ja", return_char_alignments=True)
    assert [s["text"] for s in result["segments"]] == ["今日は晴れです。", "明日は晴。"]
    assert [word["word"] for word in result["segments"][0]["words"]] == ["今", "日", "は", "晴", "れ", "で", "す。"]
    assert "".join(char["char"] for s in result["segments"] for char in s["chars"] or []) == text


def test_unspaced_words_joined_are_the_text() -> None:
    text = "「東京Tower、3.5km」は สวัสดี が！"
    words = aligned(text, FakeAligner({}), language="ja")["word_segments"]
    assert "".join(word["word"] for word in words) == text
    assert [word["word"] for word in words][:4] == ["「東", "京", "Tower、", "3.5km」"]


def test_thai_vowels_stay_with_their_letters() -> None:
    words = aligned("เก้าน้ำไป", FakeAligner({}), language="th")["word_segments"]
    assert [word["word"] for word in words] == ["เก้า", "น้ำ", "ไป"]


def test_times_do_not_depend_on_batch_size_and_neighbours() -> None:
    text = "one|two|three|four"
    timeline = {**timeline_of(text, 50), **timeline_of(text, 150), **timeline_of("five", 400)}
    transcript = [segment("one two three four", 0.5, 2.5), segment("one two three four", 2.8, 5), segment("five", 7, 9)]
    results = [
        align(transcript, FakeAligner(timeline), METADATA, ramp(SECONDS), "cpu", batch_size=size) for size in (1, 2, 8)
    ]
    assert results[0] == results[1] == results[2]
    alone = [align([s], FakeAligner(timeline), METADATA, ramp(SECONDS), "cpu")["segments"][0] for s in transcript]
    assert results[0]["segments"] == alone


def test_transcript_is_left_as_it_was() -> None:
    transcript: list[Any] = [segment("one two") | {"tokens": [1, 2]}]
    before = copy.deepcopy(transcript)
    align(transcript, FakeAligner({}), METADATA, ramp(SECONDS), "cpu")
    assert transcript == before


def test_long_segment_is_heard_in_pieces_and_timed_as_a_whole() -> None:
    words = [f"{a}{b}" for a in "abcdefghij" for b in "klmnop"]
    timeline: dict[int, str] = {}
    for i, word in enumerate(words):
        timeline |= timeline_of(word + "|", 20 + 100 * i)
    model = FakeAligner(timeline)
    result = align([segment(" ".join(words), 0.0, 125.0)], model, METADATA, ramp(125), "cpu")
    assert [word["start"] for word in result["word_segments"]] == [round(0.4 + 2 * i, 3) for i in range(60)]
    assert max(length for _, length in model.heard) <= 40 * 16000
    assert sum(length for _, length in model.heard) > 125 * 16000


def test_short_segment_is_padded() -> None:
    model = FakeAligner(timeline_of("a", 50))
    result = align([segment("a", 1.0, 1.01)], model, METADATA, ramp(SECONDS), "cpu")
    assert model.heard == [(16000, 400)]
    assert times(result["word_segments"]) == [("a", 1.0, 1.01)]


def test_segment_that_reaches_beyond_the_recording_is_not_stretched() -> None:
    model = FakeAligner(timeline_of("one|two", 50))
    result = align([segment("one two", 0.0, 100.0)], model, METADATA, ramp(5), "cpu")
    assert times(result["word_segments"]) == [("one", 1.0, 1.18), ("two", 1.24, 1.46)]


def test_model_is_asked_as_whisperx_asks_only_in_compat_mode() -> None:
    for compat in (False, True):
        model = FakeAligner(timeline_of("one", 50))
        aligned("one", model, compat=compat)
        assert model.compat == [compat]


def test_progress_is_monotone_and_ends_when_all_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[float] = []
    transcript = [segment("one", i, i + 1.0) for i in range(10)]
    model = FakeAligner({})
    align(transcript, model, METADATA, ramp(SECONDS), "cpu", "nearest", False, True, True, told.append, batch_size=3)
    assert told == pytest.approx([30, 60, 90, 100])
    assert capsys.readouterr().out.splitlines() == [
        "Progress: 65.00%...",
        "Progress: 80.00%...",
        "Progress: 95.00%...",
        "Progress: 100.00%...",
    ]
    align(transcript, model, METADATA, ramp(SECONDS), "cpu", print_progress=True, batch_size=5)
    assert capsys.readouterr().out.splitlines() == ["Progress: 50.00%...", "Progress: 100.00%..."]


@pytest.mark.parametrize(("option", "value"), [("interpolate_method", "cubic"), ("batch_size", 0)])
def test_option_out_of_its_range_is_named(option: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"{option} is .*{value}"):
        aligned("one", FakeAligner({}), **{option: value})


def test_speaker_of_a_segment_is_that_of_its_sentences() -> None:
    transcript: list[Any] = [segment("One. Two.") | {"speaker": "SPEAKER_01"}]
    result = align(transcript, FakeAligner({}), METADATA, ramp(SECONDS), "cpu")
    assert [s["speaker"] for s in result["segments"]] == ["SPEAKER_01"] * 2


def everything(transcript: list[SingleSegment], result: AlignedTranscriptionResult) -> tuple[str, str]:
    """Non-space characters of the text before and after."""
    before = "".join("".join(s["text"].split()) for s in transcript)
    return before, "".join("".join(s["text"].split()) for s in result["segments"])


@given(
    st.lists(st.tuples(st.text(max_size=40), st.floats(0, 14), st.floats(0, 4)), max_size=4),
    st.sampled_from(LANGUAGES),
    st.sampled_from(["nearest", "linear", "ignore"]),
    st.booleans(),
)
def test_text_in_is_text_out_and_every_word_is_timed(
    pieces: list[tuple[str, float, float]], language: str, method: Any, compat: bool
) -> None:
    transcript = [segment(text, start, start + length) for text, start, length in pieces]
    metadata = METADATA | {"language": language}
    result = align(
        transcript, FakeAligner(timeline_of("one|two", 30), 0.5), metadata, ramp(SECONDS), "cpu", method,
        return_char_alignments=True, compat=compat,
    )  # fmt: skip
    before, after = everything(transcript, result)
    assert sorted(before) == sorted(after) if compat else before == after
    assert result["word_segments"] == [word for s in result["segments"] for word in s["words"]]
    if compat:
        return
    words = "".join("".join(word["word"].split()) for word in result["word_segments"])
    assert words == before
    for s in result["segments"]:
        assert s["text"] in "\n".join(piece["text"] for piece in transcript)
        assert "".join(char["char"] for char in s["chars"] or []) == s["text"]
    if method == "ignore":
        return
    found = [(word["start"], word["end"]) for word in result["word_segments"]]
    assert all(type(t) is float for word in found for t in word)
    assert all(start <= end for start, end in found)
    assert all(0 <= s["start"] <= s["end"] <= 18.001 for s in result["segments"])
    for piece in transcript:
        one = align([piece], FakeAligner(timeline_of("one|two", 30), 0.5), metadata, ramp(SECONDS), "cpu", method)
        inner = [(word["start"], word["end"]) for word in one["word_segments"]]
        assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(inner))
        assert all(piece["start"] - 0.001 <= a and b <= piece["end"] + 0.001 for a, b in inner)
        if piece["start"] < SECONDS:
            assert all(b <= SECONDS + 0.001 for _, b in inner)


@given(st.text(max_size=30), st.sampled_from(LANGUAGES))
def test_every_character_that_is_spelled_stands_in_the_text_in_order(text: str, language: str) -> None:
    alphabet = Alphabet.of(DICTIONARY)
    for spelling in (
        spell(text, language, alphabet),
        spell_as_whisperx(text, language, Alphabet.of(DICTIONARY, compat=True)),
    ):
        positions = spelling.positions.tolist()
        assert positions == sorted(positions)
        assert all(0 <= position < len(text) for position in positions)
        assert all(0 <= column <= alphabet.n_labels for column in spelling.tokens.columns.tolist())


# Text -> labels, "*" for some letter.
SPELLINGS = [
    ("Hello World", "hello|world", "hello|world"),
    ("  a b  ", "a|b", "a|b"),
    ("a - b", "a|b", "a|-|b"),  # the dash is the blank of this network
    ("İx", "ix", "i*x"),
    ("é", "e", "*"),
    ("ß", "ss", "*"),
    ("Ａ１", "a*", "**"),
    ("don’t", "don't", "don*t"),
    ("я, 5!", "*|*", "**|**"),
    ("a|b", "ab", "a|b"),
    ("...", "", "***"),
    ("a  b", "a|b", "a||b"),
    ("e\u0301a", "ea", "e*a"),
]


@pytest.mark.parametrize(("text", "ours", "whisperx"), SPELLINGS)
def test_text_is_spelled_with_the_labels_of_the_network(text: str, ours: str, whisperx: str) -> None:
    labels = "".join(DICTIONARY) + "*"
    for spelling, expected in (
        (spell(text, "en", Alphabet.of(DICTIONARY)), ours),
        (spell_as_whisperx(text, "en", Alphabet.of(DICTIONARY, compat=True)), whisperx),
    ):
        assert "".join(labels[column] for column in spelling.tokens.columns) == expected


def test_for_whisperx_a_letter_whose_small_form_is_two_shifts_those_behind_it() -> None:
    heard = FakeAligner({50: "i", 55: "e", 60: "x"})
    chars = aligned("İx", heard, compat=True, return_char_alignments=True)["segments"][0]["chars"]
    assert [char["start"] for char in chars or []] == pytest.approx([50 * SECONDS / 599, 55 * SECONDS / 599], abs=1e-3)


def test_score_of_a_word_is_rounded_as_numpy_rounds_as_in_whisperx() -> None:
    score = np.array([0.086, 0.257, 0.009, 0.178])  # the mean is 0.1325, of which Python would make 0.133
    known = CharTimes(np.arange(4.0), np.arange(1.0, 5.0), score)
    (sentence,) = aligned_as_whisperx("abcd", known, "en", "nearest", return_chars=False)
    assert sentence["words"] == [{"word": "abcd", "start": 0.0, "end": 4.0, "score": 0.132}]


def test_blank_is_the_padding_token_where_there_is_one() -> None:
    assert Alphabet.of({"a": 0, "[pad]": 7, "|": 1}).blank == 7
    assert Alphabet.of({"<pad>": 3, "a": 0}).blank == 3
    assert Alphabet.of({"-": 0, "a": 1}).blank == 0


def test_some_letter_is_never_the_delimiter_but_for_whisperx() -> None:
    emission = np.log(np.array([[0.1, 0.6, 0.2, 0.05, 0.05]], np.float32))
    dictionary = {"-": 0, "|": 1, "a": 2, "b": 3, "'": 4}
    ours, whisperx = (Alphabet.of(dictionary, compat=compat) for compat in (False, True))
    assert np.exp(ours.extend(emission)[0, ours.letter]) == pytest.approx(0.2)
    assert np.exp(whisperx.extend(emission, compat=True)[0, whisperx.letter]) == pytest.approx(0.6)
    assert np.exp(ours.extend(emission)[0, ours.anything]) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("values", "method", "expected"),
    [
        ([None, 1, None, None, 4, None], "nearest", [1, 1, 1, 4, 4, 4]),
        ([None, 1, None, 3, None], "nearest", [1, 1, 1, 3, 3]),  # of two as near the earlier
        ([None, 1, None, None, 4, None], "linear", [1, 1, 2, 3, 4, 4]),
        ([None, 2, None], "linear", [2, 2, 2]),
        ([None, 1, None], "ignore", [None, 1, None]),
        ([None, None], "nearest", [None, None]),
        ([], "linear", []),
    ],
)
def test_gaps_are_filled_from_what_is_known(values: list[Any], method: Any, expected: list[Any]) -> None:
    filled = fill_gaps(np.array(values, np.float64), method)
    np.testing.assert_array_equal(filled, np.array(expected, np.float64))
