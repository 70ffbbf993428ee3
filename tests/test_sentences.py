"""Where sentences end, language by language."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisperx.alignment.sentences import punkt_spans, sentence_spans
from whisperx.tokenizer import LANGUAGES, PUNKT_LANGUAGES

CASES = [
    ("en", ["Dr. Smith paid $3.50 for it.", "He left."]),
    ("en", ["It is 3.5 km, i.e. not far.", "Really?", "Yes!"]),
    ("en", ['"Really?" he said.', '"Yes," she said.', '"No!"', "He left."]),
    ("en", ["(Hi there.)", "Bye."]),
    ("en", ["“Go.”", "She went."]),
    ("en", ["No. 5 is alive.", "I said no.", "Five is."]),
    ("en", ["He lives in the U.S. with Mr. and Mrs. Jones.", "They like it."]),
    ("en", ["Wait... what is that?!", "A cat."]),
    ("en", ["Go to example.com or v1.2.3 today."]),
    ("en", ["one line", "and another"]),
    ("de", ["Das ist z.B. ein Satz.", "Und am 3. Mai noch einer."]),
    ("fr", ["M. Dupont arrive.", "« Bonjour ! »", "Il part."]),
    ("es", ["¿Qué pasa?", "El Sr. García no está."]),
    ("it", ["Il sig. Rossi è qui.", "Ciao!"]),
    ("ru", ["Он жил в г. Москве.", "Потом уехал."]),
    ("ja", ["今日は晴れ。", "「はい。」と言った。", "「いいえ。」", "「え？」"]),
    ("ja", ["重さは3.5kgです。", "Mr. Smithも？"]),
    ("zh", ["今天天气很好。", "我们去U.S.A. 玩吧！", "好。"]),
    ("yue", ["今日天氣好好。", "係咪呀？"]),
    ("hi", ["यह एक वाक्य है।", "यह दूसरा है।"]),
    ("ar", ["كيف حالك؟", "أنا بخير."]),
    ("ur", ["یہ ایک جملہ ہے۔", "یہ دوسرا ہے۔"]),
    ("my", ["မင်္ဂလာပါ။", "နေကောင်းလား။"]),
    ("km", ["សួស្តី។", "អ្នកសុខសប្បាយទេ?"]),
    ("th", ["สวัสดีครับวันนี้เราจะมาพูดคุยกัน", "เรื่องการเดินทางไปเชียงใหม่ด้วยรถไฟ ปี 2024"]),
    ("lo", ["ສະບາຍດີມື້ນີ້ພວກເຮົາຈະມາເວົ້າກັນ", "ເລື່ອງການເດີນທາງໄປຫຼວງພະບາງ"]),
]
UNSPACED = ("ja", "zh", "yue", "my", "km")


@pytest.mark.parametrize(("language", "sentences"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_text_is_split_into_its_sentences(language: str, sentences: list[str]) -> None:
    joiner = "" if language in UNSPACED else "\n" if sentences[0] == "one line" else " "
    text = joiner.join(sentences)
    assert [text[start:end] for start, end in sentence_spans(text, language)] == sentences


@given(st.text(max_size=60) | st.text("aA .!?。」「\"'\n5", max_size=30), st.sampled_from([*LANGUAGES]))
def test_spans_are_in_order_and_leave_out_nothing_but_white_space(text: str, language: str) -> None:
    for spans in (sentence_spans(text, language), punkt_spans(text, language)):
        edges = [0, *(edge for span in spans for edge in span), len(text)]
        assert edges == sorted(edges)
        assert all(text[start:end].strip() for start, end in spans)
        gaps = [text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
        assert not "".join(gaps).strip()


@pytest.mark.parametrize("language", ["en", "zh", "th"])
@pytest.mark.parametrize("text", ["", " ", "\r", " \n "])
def test_white_space_alone_is_no_sentence(text: str, language: str) -> None:
    assert sentence_spans(text, language) == []


def test_first_sentence_keeps_the_blank_of_whisper() -> None:
    assert sentence_spans(" One. Two.", "en") == [(0, 5), (6, 10)]
    assert punkt_spans(" One. Two.", "en") == [(0, 5), (6, 10)]


def test_whisperx_splits_other_languages_as_english() -> None:
    assert len(PUNKT_LANGUAGES) == 19
    text = "Bada dr. Smith. Ez."
    assert punkt_spans(text, "eu") == punkt_spans(text, "en")
    assert punkt_spans("今日は。明日は。", "ja") == [(0, 8)]
