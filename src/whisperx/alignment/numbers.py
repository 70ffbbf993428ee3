"""How numbers and symbols are read aloud: "$3.50" -> "three dollars fifty".

The words come from num2words (the extra `numbers`), in the languages that it has. Without it, or in another language,
a number has no spoken form here and its digits are aligned as letters of any kind.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Spoken:
    """A part of a text, from `start` to before `end`, and how it is read."""

    start: int
    end: int
    words: str


class _Reading(NamedTuple):
    """How a language reads numbers."""

    separator: str  # of decimals
    percent: str
    currencies: tuple[str, str, str]  # $, €, £
    ampersand: str


# fmt: off
_READINGS = {
    "cs": _Reading(",", "procent", ("dolarů", "eur", "liber"), "a"),
    "da": _Reading(",", "procent", ("dollar", "euro", "pund"), "og"),
    "de": _Reading(",", "prozent", ("dollar", "euro", "pfund"), "und"),
    "en": _Reading(".", "percent", ("dollars", "euros", "pounds"), "and"),
    "es": _Reading(",", "por ciento", ("dólares", "euros", "libras"), "y"),
    "fi": _Reading(",", "prosenttia", ("dollaria", "euroa", "puntaa"), "ja"),
    "fr": _Reading(",", "pour cent", ("dollars", "euros", "livres"), "et"),
    "hu": _Reading(",", "százalék", ("dollár", "euró", "font"), "és"),
    "it": _Reading(",", "per cento", ("dollari", "euro", "sterline"), "e"),
    "nl": _Reading(",", "procent", ("dollar", "euro", "pond"), "en"),
    "no": _Reading(",", "prosent", ("dollar", "euro", "pund"), "og"),
    "pl": _Reading(",", "procent", ("dolarów", "euro", "funtów"), "i"),
    "pt": _Reading(",", "por cento", ("dólares", "euros", "libras"), "e"),
    "ro": _Reading(",", "la sută", ("dolari", "euro", "lire"), "și"),
    "ru": _Reading(",", "процентов", ("долларов", "евро", "фунтов"), "и"),
    "sv": _Reading(",", "procent", ("dollar", "euro", "pund"), "och"),
    "tr": _Reading(",", "yüzde", ("dolar", "euro", "sterlin"), "ve"),
    "uk": _Reading(",", "відсотків", ("доларів", "євро", "фунтів"), "і"),
}
# fmt: on
_CURRENCIES = "$€£"
_LONGEST = 12  # digits of a number that is read as one; longer ones are read digit by digit, as telephone numbers are
_NUMBER = re.compile(
    r"(?P<before>[$€£]\s?)?"
    r"(?P<whole>[0-9]+(?:[.,'’\u00a0\u202f][0-9]{3}(?![0-9]))*)(?:(?P<point>[.,])(?P<decimals>[0-9]+))?"
    r"(?P<after>\s?[%€$£](?![0-9])|(?:st|nd|rd|th)\b|[ºª])?"
)
_SCALE = re.compile(r"\s?(?:thousand|mil|bil|tril|mrd|bn|k\b)", re.IGNORECASE)  # "$3 million": dollars come later
_YEARS = (range(1100, 2000), range(2010, 2100))  # read in pairs, as in English: "nineteen ninety-nine"


def spoken_parts(text: str, language: str) -> list[Spoken]:
    """The numbers and symbols of a text that have a spoken form here, in order.

    language : code, as "en"

    A form has a space on each side on which no letter stands in the text.
    """
    if language not in _READINGS:
        return []
    parts = [_spaced(text, match.start(), match.end(), _words(match, language)) for match in _NUMBER.finditer(text)]
    parts += [
        _spaced(text, match.start(), match.end(), _READINGS[language].ampersand) for match in re.finditer("&", text)
    ]
    return sorted((part for part in parts if part is not None), key=lambda part: part.start)


def _spaced(text: str, start: int, end: int, words: str | None) -> Spoken | None:
    if words is None:
        return None
    left = "" if text[start - 1 : start].isalpha() else " "
    right = "" if text[end : end + 1].isalpha() else " "
    return Spoken(start, end, left + words.replace("-", " ") + right)


def _words(match: re.Match[str], language: str) -> str | None:
    reading = _READINGS[language]
    whole, decimals = re.sub("[^0-9]", "", match["whole"]), match["decimals"] or ""
    if reading.separator in match["whole"]:
        return None  # 1.500 where the point is for decimals, 1,500 where the comma is: one or the other is meant
    symbol = ((match["before"] or "") + (match["after"] or "")).strip()
    if symbol and symbol[0] in _CURRENCIES and not _SCALE.match(match.string, match.end()):
        name = reading.currencies[_CURRENCIES.index(symbol[0])]
        if len(decimals) == 2:
            return _joined(_number(whole, language), name, "" if decimals == "00" else _number(decimals, language))
        return _joined(_read(whole, decimals, language), name)
    if symbol.endswith("%"):
        number = _read(whole, decimals, language)
        return _joined(reading.percent, number) if language == "tr" else _joined(number, reading.percent)
    if symbol in ("st", "nd", "rd", "th") and language == "en":
        return _number(whole, language, "ordinal")
    if symbol in ("º", "ª"):
        return _number(whole, language, "ordinal")
    return _read(whole, decimals, language)


def _read(whole: str, decimals: str, language: str) -> str | None:
    if decimals:
        return _number(f"{whole}.{decimals}", language)
    if language == "en" and len(whole) == 4 and any(int(whole) in years for years in _YEARS):
        return _number(whole, language, "year")
    if len(whole) > _LONGEST or (whole.startswith("0") and len(whole) > 1):
        return _joined(*(_number(digit, language) for digit in whole))
    return _number(whole, language)


def _joined(*words: str | None) -> str | None:
    return None if None in words else " ".join(filter(None, words))


@cache
def _num2words() -> Callable[..., str] | None:
    try:
        from num2words import num2words
    except ModuleNotFoundError:
        return None
    convert: Callable[..., str] = num2words
    return convert


@cache
def _number(number: str, language: str, kind: str = "cardinal") -> str | None:
    convert = _num2words()
    if convert is None or len(number) > 3 * _LONGEST:
        return None
    try:
        return convert(number, lang=language, to=kind)
    except Exception:  # each of its languages fails in its own ways, for numbers and kinds that it has not
        return None
