"""From a text to what a network can hear of it: characters -> columns of an emission."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from whisperx.alignment.numbers import Spoken
from whisperx.alignment.trellis import IntArray, Tokens
from whisperx.schema import Emission
from whisperx.tokenizer import LANGUAGES_WITHOUT_SPACES, UNSPACED_LANGUAGES

_DELIMITER = "|"
_LETTER_LIKE = "LMN"  # Unicode categories of what is spoken: letters, marks, numbers
_SPOKEN_SYMBOLS = frozenset("%‰&+=@#$€£¥₹¢°×÷√∞<>")
_APOSTROPHES = frozenset("’ʼ`´‘")


@dataclass(frozen=True, slots=True)
class Alphabet:
    """The labels of a network. Two columns that `extend` adds stand behind them."""

    n_labels: int
    blank: int
    columns: Mapping[str, int]  # of what may stand in a text: single characters without the blank and the delimiter
    delimiter: int | None  # between words; None: the network has none

    @classmethod
    def of(cls, dictionary: Mapping[str, int], *, compat: bool = False) -> Self:
        """The alphabet of metadata["dictionary"]: lower-case label -> column, the blank being [pad] or column 0.

        compat : the blank and the delimiter may be spelled out by a text, as in WhisperX.
        """
        blank = next((column for label, column in dictionary.items() if label in ("[pad]", "<pad>")), 0)
        delimiter = dictionary.get(_DELIMITER, dictionary.get(" "))
        columns = {label: column for label, column in dictionary.items() if len(label) == 1}
        if not compat:
            columns = {
                label: column
                for label, column in columns.items()
                if column not in (blank, delimiter) and not label.isspace()
            }
        return cls(max(dictionary.values(), default=0) + 1, blank, columns, delimiter)

    @property
    def letter(self) -> int:
        """The column of "some letter": what a character that is spoken but not in the alphabet is aligned with."""
        return self.n_labels

    @property
    def anything(self) -> int:
        """The column of "anything but the blank": how such a character goes on, since it may stand for many sounds."""
        return self.n_labels + 1

    def extend(self, emission: Emission, *, compat: bool = False) -> Emission:
        """(n_frames, n_labels) -> (n_frames, n_labels + 2), the columns `letter` and `anything` added.

        compat : any label but the blank counts as a letter, as in WhisperX: the delimiter and special tokens too.
        """
        others = np.delete(emission, self.blank, axis=1).max(axis=1, initial=-np.inf)
        letters = sorted({column for label, column in self.columns.items() if label.isalnum()})
        letter = others if compat or not letters else emission[:, letters].max(axis=1)
        return np.concatenate([emission, letter[:, None], others[:, None]], axis=1)


@dataclass(frozen=True, slots=True)
class Spelling:
    """A text as tokens, and the position in the text that each token belongs to, in rising order."""

    tokens: Tokens
    positions: IntArray  # (n_tokens,), or of the first tokens (`spell_as_whisperx`)

    def __len__(self) -> int:
        return len(self.positions)


def spell(text: str, language: str, alphabet: Alphabet, spoken: Sequence[Spoken] = ()) -> Spelling:
    """What is heard of a text: its letters, and between its words the delimiter where the network has one.

    A letter is looked up as it is, in lower case, without its accent, and last as compatibility forms go (`ﬁ` as `fi`);
    one that the network does not know is "some letter". Punctuation is not heard. `spoken` says which parts of the
    text are read as other words: numbers and symbols.
    """
    pieces: list[tuple[str, int]] = []  # character, position
    done = 0
    for part in spoken:
        pieces += [(text[position], position) for position in range(done, part.start)]
        pieces += _spread(part)
        done = part.end
    pieces += [(text[position], position) for position in range(done, len(text))]

    has_delimiter = alphabet.delimiter is not None and language not in UNSPACED_LANGUAGES
    columns: list[int] = []
    positions: list[int] = []
    gap: int | None = None  # where the words before have ended
    for character, position in pieces:
        if character.isspace():
            gap = position if gap is None else gap
            continue
        heard = _heard(character, alphabet)
        if heard and gap is not None and columns and has_delimiter:
            columns.append(alphabet.delimiter or 0)
            positions.append(gap)
        gap = None if heard else gap
        columns += heard
        positions += [position] * len(heard)
    stays = [alphabet.anything if column == alphabet.letter else column for column in columns]
    return Spelling(Tokens(_ints(columns), _ints(stays)), _ints(positions))


def spell_as_whisperx(text: str, language: str, alphabet: Alphabet) -> Spelling:
    """As WhisperX 3.8.3: each character in lower case, anything that the network does not know as "some letter".

    `İ`, whose small letter is two characters, has two tokens but counts once: characters behind it have the tokens of
    those before them, and the last tokens none.
    """
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    columns: list[int] = []
    positions: list[int] = []
    for position in range(first, last):
        character = text[position].lower()
        if character == " " and language not in LANGUAGES_WITHOUT_SPACES:
            character = _DELIMITER
        if character == _DELIMITER:
            heard = [alphabet.columns.get(_DELIMITER)]
        elif character == " ":
            heard = [alphabet.columns.get(" ")]
        else:
            heard = [alphabet.columns.get(part, alphabet.letter) for part in character]
        known = [column for column in heard if column is not None]
        if known:
            columns += known
            positions.append(position)
    return Spelling(Tokens(_ints(columns), _ints([alphabet.blank] * len(columns))), _ints(positions))


def _heard(character: str, alphabet: Alphabet) -> list[int]:
    """Columns of a character, none for one that nobody says."""
    if (column := alphabet.columns.get(character)) is not None:
        return [column]
    for form in _forms(character):
        if form and all(part in alphabet.columns for part in form):
            return [alphabet.columns[part] for part in form]
    category = unicodedata.category(character)[0]
    if category == "M":  # an accent that the network does not write by itself
        return []
    return [alphabet.letter] if category in _LETTER_LIKE or character in _SPOKEN_SYMBOLS else []


def _forms(character: str) -> list[str]:
    """Ways to write a character, the closest first."""
    if character in _APOSTROPHES:
        return ["'"]
    lower = character.lower()
    compatible = unicodedata.normalize("NFKC", lower)
    bare = "".join(part for part in unicodedata.normalize("NFKD", lower) if not unicodedata.combining(part))
    return [lower, compatible, bare, unicodedata.normalize("NFC", bare), lower.casefold()]


def _spread(part: Spoken) -> list[tuple[str, int]]:
    """The spoken characters over the written ones: both begin and end together."""
    length = part.end - part.start
    return [(character, part.start + i * length // len(part.words)) for i, character in enumerate(part.words)]


def _ints(values: Sequence[int]) -> IntArray:
    return np.array(values, dtype=np.int64)
