"""When each word is said: where the decoder listens while it chooses a token. NumPy alone.

Some heads of its cross-attention follow the sound from left to right. The method is openai/whisper's (timing.py): the
attention of those heads, normalised over the tokens and smoothed, and through it the best path on which neither tokens
nor frames go back (dynamic time warping: Sakoe and Chiba 1978, https://doi.org/10.1109/TASSP.1978.1163055).
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from statistics import median

import numpy as np
import numpy.typing as npt

from whisperx.audio import SAMPLE_RATE
from whisperx.schema import TimedWord
from whisperx.tokenizer import UNSPACED_LANGUAGES, Piece, Tokenizer

Floats = npt.NDArray[np.float32]
Frames = npt.NDArray[np.intp]
Seconds = npt.NDArray[np.float64]

SAMPLES_PER_FRAME = 320
SECONDS_PER_FRAME = SAMPLES_PER_FRAME / SAMPLE_RATE  # 0.02

# A sorting network, of which only what decides the fourth of seven is kept (Devillard 1998, "Fast median search").
_MEDIAN_OF_7 = (
    (0, 5), (0, 3), (1, 6), (2, 4), (0, 1), (3, 5), (2, 6), (2, 3), (3, 6), (4, 5), (1, 4), (1, 3), (3, 4),
)  # fmt: skip


def token_times(scores: Floats, first: int, n_tokens: int) -> Seconds:
    """When each token of a text begins and the last one ends, (n_tokens + 1,), in seconds, never decreasing.

    scores : (n_heads, n_read, n_frames), products of the queries of all tokens that are read and the keys of the frames
    first : where the first token of the text is chosen: the place of the token before it
    """
    attention = np.sum([focus(head) for head in scores], axis=0)
    return SECONDS_PER_FRAME * best_path(-attention[first : first + n_tokens + 1]).astype(np.float64)


def focus(scores: Floats) -> Floats:
    """How much more than the others each token listens to each frame: (n_tokens, n_frames), in standard deviations."""
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    weights -= weights.mean(axis=0)
    deviation = weights.std(axis=0)
    weights /= np.where(deviation > 0, deviation, 1)  # a frame that no token hears more than another
    return median_of_7(weights)


def median_of_7(x: Floats) -> Floats:
    """The median of each number (m, n) and three on either side along the last axis, mirrored at the ends.

    Fewer than four numbers are left as they are.
    """
    n = x.shape[-1]
    if n < 4:
        return x
    mirrored = np.pad(x, [(0, 0), (3, 3)], mode="reflect")
    near = [mirrored[:, i : i + n] for i in range(7)]
    for i, j in _MEDIAN_OF_7:
        near[i], near[j] = np.minimum(near[i], near[j]), np.maximum(near[i], near[j])
    return near[3]


def best_path(costs: Floats) -> Frames:
    """The frame at which each row (n_tokens, n_frames) is entered on the cheapest path from the first row to the last
    cell.

    A step goes to the next row, the next frame, or both. Frames before the first row cost nothing, which is what the
    average token costs: a silence before the first word is left out, where openai/whisper's path gives it to that word.
    Row by row: to be at a frame after entering the row at another costs what it took to get there and the sum of the
    costs between; the sums of the row turn that into a running minimum.
    """
    n_rows, n_frames = costs.shape
    frames = np.arange(n_frames)
    entered = np.zeros((n_rows, n_frames), np.intp)  # of a path at this frame of this row
    with_frame = np.zeros((n_rows, n_frames), np.bool_)  # whether it would enter together with the next frame
    total = np.zeros(n_frames)
    for row in range(n_rows):
        own = costs[row].astype(np.float64)
        sums = np.cumsum(own)
        before = _shifted(total)
        with_frame[row] = before < total
        entering = np.minimum(before, total) + own - sums
        cheapest = np.minimum.accumulate(entering)
        entered[row] = np.maximum.accumulate(np.where(entering < _shifted(cheapest), frames, 0))
        total = cheapest + sums

    starts = np.zeros(n_rows, np.intp)
    frame = n_frames - 1
    for row in range(n_rows - 1, -1, -1):
        starts[row] = entered[row, frame]
        frame = starts[row] - with_frame[row, starts[row]]
    return starts


def _shifted(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([[np.inf], values[:-1]])


def timed_words(
    tokenizer: Tokenizer, sections: Sequence[Sequence[int]], language: str, starts: Seconds, probabilities: Floats
) -> list[TimedWord]:
    """The words of n text tokens, in order; their texts joined are the text of the tokens.

    sections : the tokens by sections; no word goes from one into the next
    starts : (n + 1,), seconds at which each token begins and the last one ends
    probabilities : (n,)

    Punctuation belongs to the word that it touches but not to the word's time: its token takes the pause. Where there
    is none, the path gives the pause to the word behind it, which therefore begins later if it would last too long.
    """
    borders = pairwise([0, *accumulate(map(len, sections))])
    words = [
        word
        for section, (first, end) in zip(sections, borders, strict=True)
        for word in _words_of(tokenizer, section, language, starts[first : end + 1], probabilities[first:end])
    ]
    return without_pauses(words)


def without_pauses(words: Sequence[TimedWord]) -> list[TimedWord]:
    """Words that begin later where they would take more than twice the time that such a word takes in this chunk.

    How long a word is counts in letters. (openai/whisper has its own rule, for words at the ends of sentences.)
    """
    rates = [(word.end - word.start) / _length(word.word) for word in words if is_spoken(word.word)]
    slowest = 2 * median([rate for rate in rates if rate > 0] or [0.0])
    return [
        replace(word, start=max(word.start, word.end - slowest * _length(word.word))) if is_spoken(word.word) else word
        for word in words
    ]


def _length(word: str) -> int:
    """In letters; digits and symbols are said as words of some five, and a short word has more sound to each letter."""
    return 2 + sum(1 if character.isalpha() else 5 for character in word if is_spoken(character))


def _words_of(
    tokenizer: Tokenizer, tokens: Sequence[int], language: str, starts: Seconds, probabilities: Floats
) -> list[TimedWord]:
    timed = []
    n_before = 0
    for word in split_words(tokenizer.pieces(tokens), spaced=language not in UNSPACED_LANGUAGES):
        borders = n_before + np.cumsum([0, *(piece.n_tokens for piece in word)])
        spoken = [i for i, piece in enumerate(word) if is_spoken(piece.text)] or range(len(word))
        first, end = borders[spoken[0]], borders[spoken[-1] + 1]
        text = "".join(piece.text for piece in word)
        timed.append(TimedWord(text, float(starts[first]), float(starts[end]), float(probabilities[first:end].mean())))
        n_before = int(borders[-1])
    return timed


def split_words(pieces: Sequence[Piece], *, spaced: bool) -> list[list[Piece]]:
    """Pieces by words: what stands between blanks or, in languages without them, each piece with its punctuation."""
    words: list[list[Piece]] = []
    for piece in pieces:
        joins = not _starts_with_space(piece) if spaced else _clings(piece)
        if words and (joins or _waits(words[-1], spaced=spaced)):
            words[-1].append(piece)
        else:
            words.append([piece])
    if len(words) > 1 and not "".join(piece.text for piece in words[-1]).strip():
        blank = words.pop()
        words[-1] += blank
    return words


def is_spoken(text: str) -> bool:
    """Whether there is more to it than blanks and punctuation."""
    return any(character in "%&@#" or unicodedata.category(character)[0] not in "PZC" for character in text)


def _starts_with_space(piece: Piece) -> bool:
    return piece.text[:1].isspace()


def _clings(piece: Piece) -> bool:
    """Whether a piece goes with the one before: accents and vowel signs, punctuation that closes."""
    return unicodedata.category(piece.text[0])[0] == "M" or not (is_spoken(piece.text) or _opens(piece.text))


def _opens(text: str) -> bool:
    return all(unicodedata.category(character) in ("Ps", "Pi") for character in text.strip())


def _waits(word: Sequence[Piece], *, spaced: bool) -> bool:
    """Whether a word is still without its first letter: blank or, where no blank would show it, an opening bracket."""
    text = "".join(piece.text for piece in word).strip()
    return not text or (not spaced and _opens(text))
