"""Word times: the path through the attention, words out of tokens, and both together in a whole model."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_whisper import EncodesOnce, random_speech, write_talker

from whisperx.backends.mlx import MlxBackend
from whisperx.errors import OptionError
from whisperx.models.whisper.timing import (
    best_path,
    focus,
    median_of_7,
    split_words,
    timed_words,
    token_times,
    without_pauses,
)
from whisperx.schema import DecodingOptions, Meter, TimedWord
from whisperx.tokenizer import UNSPACED_LANGUAGES, Piece, get_tokenizer

TOKENIZER = get_tokenizer(51865)
RNG = np.random.default_rng(0)


# The path


@pytest.mark.parametrize("n_frames", [1, 3, 4, 7, 50])
def test_the_median_is_that_of_seven_neighbours_mirrored_at_the_ends(n_frames):
    x = RNG.standard_normal((5, n_frames)).astype(np.float32)
    if n_frames < 4:
        expected = x
    else:
        mirrored = np.pad(x, [(0, 0), (3, 3)], mode="reflect")
        expected = np.median(np.stack([mirrored[:, i : i + n_frames] for i in range(7)]), axis=0)
    np.testing.assert_array_equal(median_of_7(x), expected)


def test_the_median_is_right_for_every_order_of_zeros_and_ones():
    """A network that sorts all zeros and ones sorts everything (Knuth, vol. 3, 5.3.4)."""
    patterns = np.array(list(product([0, 1], repeat=7)), np.float32)
    np.testing.assert_array_equal(median_of_7(patterns)[:, 3], np.median(patterns, axis=1))


def cheapest_path(costs: np.ndarray) -> list[int]:
    """Cell by cell, as dynamic time warping is written down; it may begin at any frame."""
    n_rows, n_frames = costs.shape
    total = np.full((n_rows + 1, n_frames + 1), np.inf)
    total[0] = 0
    for i in range(1, n_rows + 1):
        for j in range(1, n_frames + 1):
            total[i, j] = costs[i - 1, j - 1] + min(total[i - 1, j - 1], total[i - 1, j], total[i, j - 1])
    i, j, starts = n_rows, n_frames, {}
    while i > 0 and j > 0:
        starts[i - 1] = j - 1
        i, j = min([(i - 1, j - 1), (i - 1, j), (i, j - 1)], key=lambda cell: total[cell])
    return [starts[row] for row in range(n_rows)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (5, 5), (4, 30), (12, 7), (40, 300)])
def test_the_path_is_the_cheapest(shape):
    for _ in range(5):
        costs = RNG.standard_normal(shape).astype(np.float32)
        assert best_path(costs).tolist() == cheapest_path(costs)


def test_tokens_that_are_heard_one_after_the_other_begin_where_they_are_heard():
    borders = [7, 11, 30, 31, 58, 80]  # nothing is heard before the first
    heard = np.full((5, 80), -1, np.float32)
    for row, (start, end) in enumerate(pairwise(borders)):
        heard[row, start:end] = 1
    assert best_path(-heard).tolist() == borders[:-1]


def test_a_head_that_hears_all_tokens_alike_says_nothing():
    assert not focus(np.ones((6, 40), np.float32)).any()
    assert np.isfinite(focus(np.full((6, 40), -1e30, np.float32))).all()


@pytest.mark.parametrize(("n_tokens", "n_frames"), [(1, 1), (20, 1), (20, 3), (3, 1500), (200, 90)])
def test_times_never_go_back_nor_beyond_the_sound(n_tokens, n_frames):
    scores = RNG.standard_normal((2, n_tokens + 4, n_frames)).astype(np.float32) * 5
    times = token_times(scores, 2, n_tokens)
    assert len(times) == n_tokens + 1
    assert times[0] >= 0
    assert (np.diff(times) >= 0).all()
    assert times[-1] <= (n_frames - 1) * 0.02 + 1e-9


# Words


def words(text: str, *, spaced: bool = True) -> list[str]:
    """The words of a text whose characters, with the blanks before them, are the pieces."""
    pieces, blank = [], ""
    for character in text:
        if character == " ":
            blank += character
        else:
            pieces.append(Piece(blank + character, 1))
            blank = ""
    if blank:
        pieces.append(Piece(blank, 1))
    return ["".join(piece.text for piece in word) for word in split_words(pieces, spaced=spaced)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Hello world.", [" Hello", " world."]),
        ("Hello", ["Hello"]),
        (' He said, "well-known" (twice)!', [" He", " said,", ' "well-known"', " (twice)!"]),
        (" it's $3.50 - or 20%", [" it's", " $3.50", " -", " or", " 20%"]),
        (" ¿Qué?  Nada... ", [" ¿Qué?", "  Nada... "]),
        ("", []),
        ("  ", ["  "]),
    ],
)
def test_words_stand_between_spaces(text, expected):
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("晴れ、です。", ["晴", "れ、", "で", "す。"]),
        ("「雨」(笑)", ["「雨」", "(笑)"]),
        ("我有 3 个。", ["我", "有", " 3", " 个。"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
    ],
)
def test_each_piece_is_a_word_where_words_have_no_spaces(text, expected):
    assert words(text, spaced=False) == expected


def test_a_blank_goes_with_the_word_that_follows_it():
    pieces = [Piece(" ", 1), Piece("a", 1), Piece(" ", 1), Piece(" b", 2), Piece(" ", 1)]
    assert [[piece.text for piece in word] for word in split_words(pieces, spaced=True)] == [
        [" ", "a"],
        [" ", " b", " "],
    ]


@given(st.lists(st.integers(0, TOKENIZER.eot - 1), max_size=30), st.sampled_from(["en", "ja", "th"]))
def test_the_words_joined_are_the_text(tokens, language):
    times = np.arange(len(tokens) + 1) * 0.02
    timed = timed_words(TOKENIZER, [tokens], language, times, np.ones(len(tokens), np.float32))
    assert "".join(word.word for word in timed) == TOKENIZER.decode(tokens)
    assert all(first.end <= second.start for first, second in pairwise(timed))
    assert all(word.word for word in timed)


def test_a_character_of_several_tokens_is_one_piece():
    tokens = TOKENIZER.encode("𝄞 音")
    assert len(tokens) > 3
    pieces = TOKENIZER.pieces(tokens)
    assert [piece.text for piece in pieces] == ["𝄞", " ", "音"] or [piece.text for piece in pieces] == ["𝄞", " 音"]
    assert sum(piece.n_tokens for piece in pieces) == len(tokens)
    assert TOKENIZER.pieces(tokens[:1]) == [Piece("�", 1)]


def test_punctuation_takes_no_part_in_the_time_of_its_word():
    tokens = TOKENIZER.encode(' "Yes, no. ...')
    assert [TOKENIZER.decode([token]) for token in tokens] == [' "', "Yes", ",", " no", ".", " ..."]
    times = np.array([0.0, 0.1, 0.4, 1.0, 1.2, 1.5, 1.8])
    probabilities = np.array([0.5, 0.75, 0.5, 0.25, 0.5, 0.125], np.float32)
    assert timed_words(TOKENIZER, [tokens], "en", times, probabilities) == [
        TimedWord(' "Yes,', 0.1, 0.4, 0.75),
        TimedWord(" no.", 1.0, 1.2, 0.25),
        TimedWord(" ...", 1.5, 1.8, 0.125),
    ]


def seconds(words: list[TimedWord]) -> list[tuple[str, float, float]]:
    return [(word.word, round(word.start, 3), round(word.end, 3)) for word in words]


def test_a_word_takes_twice_the_time_of_its_letters_at_most_and_leaves_the_pause_before_it():
    said = [(" four", 0.0, 0.3), (" words", 0.3, 0.65), (" and", 0.65, 2.0), (" 1999", 2.0, 3.1), (" ...", 3.1, 6.0)]
    words = [TimedWord(*word, 0.5) for word in said]  # 0.05 s a letter, each word with two more
    assert seconds(without_pauses(words)) == [
        *said[:2],
        (" and", 1.5, 2.0),
        *said[3:],
    ]
    assert without_pauses([]) == []
    silent = [TimedWord(" no", 1.0, 1.0, 0.5)]
    assert without_pauses(silent) == silent


def test_words_of_two_sections_are_told_apart_and_measured_by_the_same_rate():
    tokens = TOKENIZER.encode(" one two three")
    times, probabilities = np.array([0.0, 0.25, 0.5, 3.0]), np.ones(3, np.float32)
    whole = timed_words(TOKENIZER, [tokens], "en", times, probabilities)
    assert seconds(whole) == [(" one", 0, 0.25), (" two", 0.25, 0.5), (" three", 2.3, 3.0)]
    assert timed_words(TOKENIZER, [tokens[:1], [], tokens[1:]], "en", times, probabilities) == whole


def test_languages_without_spaces_are_known_to_the_tokenizer():
    assert TOKENIZER.language_tokens.keys() | {"yue"} >= UNSPACED_LANGUAGES


# A whole model

GREEDY = DecodingOptions(language="en", max_new_tokens=8, temperatures=(0.0,), beam_size=1, word_timestamps=True)
MODES = {
    "beams": replace(GREEDY, beam_size=3),
    "beams, then samples": replace(GREEDY, beam_size=2, temperatures=(0.0, 1.0), best_of=2, log_prob_threshold=-1.3),
    "timestamps": replace(GREEDY, without_timestamps=False, max_initial_timestamp=1.0),
    "prompts": replace(GREEDY, initial_prompt="Once upon a time", prefix="And"),
}


@pytest.fixture(scope="module")
def backend(tmp_path_factory) -> MlxBackend:
    return EncodesOnce(write_talker(tmp_path_factory.mktemp("talker")), device="cpu")


@pytest.fixture(scope="module")
def chunks() -> list[np.ndarray]:
    return [random_speech(seconds, seed) for seed, seconds in enumerate([0.05, 7.7, 30.0])]


def decode(backend, chunks, batch_size, options):
    return backend.decode(chunks, options, batch_size=batch_size, on_result=lambda *_: None, meter=Meter())


@pytest.mark.parametrize("mode", MODES)
def test_words_are_the_same_for_every_batch_size_and_make_up_the_text(backend, chunks, mode):
    alone = decode(backend, chunks, 1, MODES[mode])
    assert decode(backend, chunks, 3, MODES[mode]) == alone
    assert decode(backend, chunks[::-1], 2, MODES[mode]) == alone[::-1]
    for result, chunk in zip(alone, chunks, strict=True):
        assert "".join(word.word for word in result.words) == result.text
        bounds = [time for word in result.words for time in (word.start, word.end)]
        assert bounds == sorted(bounds)
        assert all(0 <= time <= len(chunk) / 16000 for time in bounds)
        assert all(0 <= word.probability <= 1 for word in result.words)
    assert any(word.start < word.end for result in alone for word in result.words)


def test_words_change_nothing_else(backend, chunks):
    for options in (MODES["beams"], MODES["timestamps"]):
        without = decode(backend, chunks, 2, replace(options, word_timestamps=False))
        assert [replace(result, words=None) for result in decode(backend, chunks, 2, options)] == without
        assert all(result.words is None for result in without)


def test_a_silent_chunk_has_no_words(backend, chunks):
    options = replace(GREEDY, no_speech_threshold=0.0, log_prob_threshold=None)
    assert [result.words for result in decode(backend, chunks[:2], 2, options)] == [(), ()]


@pytest.mark.parametrize("mode", ["beams", "timestamps", "prompts"])
def test_a_known_text_gets_the_times_that_it_gets_when_it_is_found(backend, chunks, mode):
    """The same tokens are read, whatever stood between and before them; but not all that is found is encoded so."""
    (result,) = decode(backend, chunks[1:2], 1, MODES[mode])
    tokens = [token for token in result.tokens if token < TOKENIZER.eot]
    (words,) = backend.time_words(chunks[1:2], [tokens], "en")
    assert words[0].start == result.words[0].start
    if mode != "timestamps":  # which set words apart
        assert words == result.words


def test_known_texts_are_words_with_times_whatever_the_text(backend, chunks):
    texts = ["One two, three.", "", "é" * 40]
    times = backend.time_words(chunks, texts, "en")
    assert ["".join(word.word for word in words) for words in times] == texts
    assert backend.time_words(chunks[2:], texts[2:], "en") == times[2:]


def test_a_known_text_that_is_too_long_is_refused_in_a_sentence(backend, chunks):
    (words,) = backend.time_words(chunks[:1], [[11] * 444], "en")  # no room for an end of text
    assert len(words) == 1
    with pytest.raises(OptionError, match="500 tokens; at most 444 fit"):
        backend.time_words(chunks[:1], [[11] * 500], "en")
