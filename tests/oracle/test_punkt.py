"""Our Punkt splits where NLTK does, as WhisperX uses it, with the same parameters."""

import random

import punkt
import pytest
from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

from whisperx.alignment.sentences import punkt_spans
from whisperx.tokenizer import PUNKT_LANGUAGES

ENDS = [".", ".", ".", "?", "!", "...", ".\"", "!)", ",", ";", ":", ""]  # fmt: skip
OPENINGS = ["", "", "", "", '"', "(", "“", "3.5 ", "U.S. ", "No. "]


def nltk_tokenizer(language: str) -> PunktSentenceTokenizer:
    known = punkt.load_model(language)
    parameters = PunktParameters()
    parameters.abbrev_types = set(known.abbrev_types)
    parameters.collocations = set(known.collocations)
    parameters.sent_starters = set(known.sent_starters)
    parameters.ortho_context.update(known.ortho_context)
    return PunktSentenceTokenizer(parameters)


def vocabulary_of(language: str) -> list[str]:
    known = punkt.load_model(language)
    words = sorted(known.ortho_context)[:: max(1, len(known.ortho_context) // 2000)]
    return words + 2 * sorted(f"{word}." for word in known.abbrev_types)


def random_text(words: list[str], generator: random.Random) -> str:
    """Words and abbreviations with any punctuation, in any case."""
    pieces = []
    for _ in range(generator.randint(1, 30)):
        word = generator.choice(words)
        word = word.capitalize() if generator.random() < 0.5 else word
        pieces.append(generator.choice(OPENINGS) + word + generator.choice(ENDS))
    return generator.choice(["", " "]) + " ".join(pieces) + "."


@pytest.mark.parametrize("code", PUNKT_LANGUAGES)
def test_spans_are_those_of_nltk(code: str) -> None:
    generator = random.Random(code)  # noqa: S311
    words = vocabulary_of(PUNKT_LANGUAGES[code])
    tokenizer = nltk_tokenizer(PUNKT_LANGUAGES[code])
    n_equal = 0
    for _ in range(40):
        text = random_text(words, generator)
        ours, theirs = punkt_spans(text, code), list(tokenizer.span_tokenize(text))
        if any(set(text[start:end]) <= set(".?!") for start, end in theirs):
            continue  # NLTK makes sentences of the last of "...", here it stays with its own
        assert ours == theirs, text
        n_equal += 1
    assert n_equal > 30
