"""Numbers and symbols as they are read aloud."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisperx.alignment import numbers
from whisperx.alignment.numbers import spoken_parts

CASES = [
    ("en", "It costs $3.50, or 20% of 14", {"$3.50": "three dollars fifty", "20%": "twenty percent", "14": "fourteen"}),
    ("en", "1999, 1,000,000 and 3.14", {"1999": "nineteen ninety nine", "1,000,000": "one million", "3.14": None}),
    ("en", "the 2nd, 10:30, 007", {"2nd": "second", "10": "ten", "30": "thirty", "007": "zero zero seven"}),
    ("en", "$3 million & €5", {"$3": None, "&": "and", "€5": "five euros"}),
    ("en", "20km", {"20": "twenty"}),
    ("de", "3,50 € oder 1.000", {"3,50 €": "drei euro fünfzig", "1.000": "eintausend"}),
    ("fr", "71 %", {"71 %": "soixante et onze pour cent"}),
    ("es", "El 3º y 268", {"3º": "tercero", "268": "doscientos sesenta y ocho"}),
    ("tr", "20%", {"20%": "yüzde yirmi"}),
    ("ru", "5%", {"5%": "пять процентов"}),
    ("ja", "14", {}),
    ("en", "no number", {}),
]


@pytest.mark.parametrize(("language", "text", "expected"), CASES, ids=[f"{case[0]} {case[1]}" for case in CASES])
def test_number_is_read_as_people_say_it(language: str, text: str, expected: dict[str, str | None]) -> None:
    found = {text[part.start : part.end]: part.words.strip() for part in spoken_parts(text, language)}
    for written, words in expected.items():
        if words is not None:
            assert found[written] == words
    assert expected or not found


def test_comma_of_thousands_where_it_is_for_decimals_is_no_number() -> None:
    assert spoken_parts("1,234", "de") == []


def test_without_num2words_digits_have_no_spoken_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "_num2words", lambda: None)
    numbers._number.cache_clear()
    assert [part.words.strip() for part in spoken_parts("14 & 15", "en")] == ["and"]
    numbers._number.cache_clear()


@given(
    st.text("0123456789.,'%$€£&ndthº aZ-:", max_size=40), st.sampled_from(["en", "de", "fr", "es", "ru", "pl", "fi"])
)
def test_any_text_is_read_without_trouble_and_in_order(text: str, language: str) -> None:
    parts = spoken_parts(text, language)
    assert all(0 <= part.start < part.end <= len(text) and part.words.strip() for part in parts)
    assert all(a.end <= b.start for a, b in pairwise(parts))
