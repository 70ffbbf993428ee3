import io
import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import pysubs2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from whisperx import conjunctions, utils
from whisperx.errors import OptionError
from whisperx.schema import Turn
from whisperx.subtitles.cues import Cue, SubtitleOptions
from whisperx.subtitles.readable import STYLES, lint, readable_cues, width
from whisperx.SubtitlesProcessor import SubtitlesProcessor, format_timestamp, normal_round
from whisperx.writers import WRITERS, WriteSRT, WriteVTT, find_cues, get_writer, rttm

EVERY_STYLE = pytest.mark.parametrize("style", STYLES)


def spoken(text: str, *, start: float = 0.0, speed: float = 15.0, speaker: str | None = None) -> dict[str, Any]:
    """A segment whose words are said at so many characters a second, with a breath at the end of each sentence."""
    now, words = start, []
    for word in text.split():
        end = now + len(word) / speed
        words.append({"word": word, "start": round(now, 3), "end": round(end, 3), "score": 0.9})
        now = end + (0.4 if word[-1] in ".?!" else 1 / speed)
    segment = {"start": start, "end": words[-1]["end"], "text": f" {text}", "words": words}
    return segment if speaker is None else segment | {"speaker": speaker}


def result_of(*segments: dict[str, Any], language: str = "en") -> dict[str, Any]:
    return {"segments": list(segments), "language": language}


def texts(result: dict[str, Any], style: str = "netflix") -> list[str]:
    return [cue.text for cue in readable_cues(result, style)]


# Where a line and a cue break


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It fits into one line.", ["It fits into one line."]),
        (
            "When the rain had stopped at last, we went out into the garden.",
            ["When the rain had stopped at last,\nwe went out into the garden."],
        ),
        (
            "The old man did not open the window because the night was cold.",
            ["The old man did not open the window\nbecause the night was cold."],
        ),
        (
            "They had been walking slowly through the high grass of the meadow.",
            ["They had been walking slowly\nthrough the high grass of the meadow."],
        ),
        ("Yes. No. Perhaps.", ["Yes. No.", "Perhaps."]),  # "Yes." alone would be too short
    ],
)
def test_lines_break_after_punctuation_and_before_conjunctions_and_prepositions(text: str, expected: list[str]) -> None:
    assert texts(result_of(spoken(text))) == expected


def test_no_line_ends_with_an_article() -> None:
    text = "Nobody could ever remember a longer winter than the one that came that year after the great flood."
    lines = "\n".join(texts(result_of(spoken(text)))).split("\n")
    assert len(lines) > 2
    assert not {line.split()[-1] for line in lines} & {"a", "the", "than", "that"}


def test_sentences_have_cues_of_their_own_where_there_is_time() -> None:
    text = "The first sentence takes its time to be said. The second one is not much shorter than that."
    assert len(texts(result_of(spoken(text)))) == 2


def test_long_pause_ends_a_cue() -> None:
    result = result_of(spoken("one two"), spoken("three four", start=4.0))
    assert texts(result) == ["one two", "three four"]


def test_speakers_have_cues_of_their_own_with_their_names() -> None:
    result = result_of(spoken("Are you here?", speaker="Ann"), spoken("I am.", start=1.2, speaker="Bob"))
    assert texts(result) == ["[Ann]: Are you here?", "[Bob]: I am."]
    assert [cue.speaker for cue in readable_cues(result, "netflix")] == ["Ann", "Bob"]


def test_speakers_never_share_a_cue_however_short() -> None:
    result = result_of(spoken("and", speaker="Ann"), spoken("then", start=0.3, speaker="Bob"))
    assert texts(result) == ["[Ann]: and", "[Bob]: then"]


def test_name_of_a_speaker_counts_as_part_of_the_line() -> None:
    text = "This line of text has forty-one letters.."
    assert len(text) == 41
    assert texts(result_of(spoken(text))) == [text]
    (labelled,) = texts(result_of(spoken(text, speaker="Ann")))
    assert len(labelled.split("\n")) == 2


def test_long_name_of_a_speaker_is_cut() -> None:
    (text,) = texts(result_of(spoken("Hello.", speaker="x" * 100)))
    assert text == f"[{'x' * 17}…]: Hello."


@pytest.mark.parametrize(("language", "most"), [("zh", 16), ("ko", 16), ("ja", 13)])
def test_full_width_lines_are_as_short_as_netflix_wants_them(language: str, most: int) -> None:
    words = [{"word": "字", "start": i * 0.2, "end": i * 0.2 + 0.2} for i in range(40)]
    segment = {"start": 0.0, "end": 8.0, "text": "字" * 40, "words": words}
    lines = "\n".join(texts(result_of(segment, language=language))).split("\n")
    assert max(width(line) for line in lines) <= 2 * most
    assert "".join(lines).replace(" ", "") == "字" * 40
    assert (" " in "".join(lines)) == (language == "ko")


def test_word_that_is_wider_than_a_line_is_cut() -> None:
    (text,) = texts(result_of(spoken("x" * 60)))
    assert text == "x" * 42 + "\n" + "x" * 18


# Times


def test_cue_begins_with_its_first_word_and_stays_long_enough_to_be_read() -> None:
    (cue,) = readable_cues(result_of(spoken("Yes.", start=2.5, speed=40)), "netflix")
    assert (cue.start, cue.end) == (2.5, 3.334)  # 5/6 s, rounded up


def test_long_text_said_fast_stays_half_a_second_longer() -> None:
    (cue,) = readable_cues(result_of(spoken("Many words are said here in a great hurry", speed=40)), "netflix")
    assert cue.end == pytest.approx(cue.start + 41 / 40 + 0.5, abs=0.1)


def test_word_that_never_ends_is_shown_for_seven_seconds() -> None:
    word = {"word": "Well", "start": 1.0, "end": 60.0}
    (cue,) = readable_cues(result_of({"start": 1.0, "end": 60.0, "text": "Well", "words": [word]}), "netflix")
    assert (cue.start, cue.end) == (1.0, 8.0)


def test_short_gap_is_closed_to_two_frames() -> None:
    result = result_of(
        spoken("The first of two sentences.", speed=12), spoken("The second of two sentences, a bit later.", start=2.6)
    )
    first, second = readable_cues(result, "netflix")
    assert second.start == 2.6
    assert first.end == pytest.approx(2.6 - 2 / 24, abs=0.001)


def test_words_without_times_get_them_from_their_neighbours() -> None:
    words = [{"word": "One", "start": 1.0, "end": 1.5}, {"word": "1999."}, {"word": "Two", "start": 9.0, "end": 9.5}]
    cues = readable_cues(result_of({"start": 1.0, "end": 9.5, "text": "One 1999. Two", "words": words}), "netflix")
    assert [(cue.text, cue.start) for cue in cues] == [("One", 1.0), ("1999.", 1.918), ("Two", 9.0)]


@pytest.mark.parametrize("words", [{}, {"words": []}], ids=["missing", "empty"])
def test_segment_without_words_is_cut_as_well(words: dict[str, Any]) -> None:
    text = "This was not aligned, and so nobody knows when each of its words is said, but it is shown all the same."
    segment = {"start": 10.0, "end": 17.0, "text": f" {text} ", **words}
    cues = readable_cues(result_of(segment), "netflix")
    assert " ".join(" ".join(cue.text for cue in cues).split()) == text
    assert cues[0].start == 10.0
    assert len(cues) > 1
    assert lint(cues, "netflix", "en") == []


# All rules at once, and the check of them

WORDS = st.text(st.sampled_from("abcdefg'-世界"), min_size=1, max_size=12)
SPECIAL = st.sampled_from(["and", "the", "of", "because", "und", "-->", "x" * 50, "[a]:", "(b", "...", "«c»,"])
ENDS = st.sampled_from(["", "", "", ".", ",", "?", "!”", "。"])
TIMES = st.tuples(st.floats(0, 3), st.floats(0, 9) | st.just(math.nan))
SPEAKERS = st.sampled_from(["A", "SPEAKER_01", "a very long name of a speaker", "[b]"])


@st.composite
def results(draw: st.DrawFn) -> dict[str, Any]:
    now, segments = draw(st.floats(0, 5)), []
    for _ in range(draw(st.integers(0, 4))):
        start, words = now, []
        for word, end, times in draw(st.lists(st.tuples(WORDS | SPECIAL, ENDS, st.none() | TIMES), max_size=25)):
            words.append({"word": word + end})
            if times is not None:
                words[-1] |= {"start": now, "end": now + times[1]}
                now += times[0] ** 3 / 9  # mostly small, so that much is said at once
        segment = {"start": start, "end": now, "text": " ".join(word["word"] for word in words)}
        segments.append(segment | ({"words": words} if draw(st.booleans()) else {}))
        if draw(st.booleans()):
            segments[-1]["speaker"] = draw(SPEAKERS)
    return {"segments": segments, "language": draw(st.sampled_from(["en", "de", "zh", "ja", "th", "xx"]))}


@EVERY_STYLE
@given(results())
@example({"segments": [spoken("in " * 40 + "the " * 40, speed=60)], "language": "en"})
def test_our_own_subtitles_break_no_rule_and_lose_no_word(style: str, result: dict[str, Any]) -> None:
    cues = readable_cues(result, style)
    assert lint(cues, style, result["language"]) == []
    # The rules that can be told in one line each, without the check.
    narrow = 42 if style == "netflix" else 37
    assert all(len(line) <= narrow for cue in cues for line in cue.text.split("\n"))
    assert all(cue.text.count("\n") <= 1 and cue.text.strip() for cue in cues)
    assert all(5 / 6 - 1e-9 <= cue.end - cue.start <= 7.0005 for cue in cues)
    assert all(first.end <= second.start for first, second in pairwise(cues))
    said = [segment["text"].replace("-->", "->") for segment in result["segments"]]
    shown = [cue.text.partition("]:")[2] if cue.speaker is not None else cue.text for cue in cues]
    assert "".join("".join(shown).split()) == "".join("".join(said).split())


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=9), min_size=1, max_size=60), st.floats(5, 25), SPEAKERS)
def test_cues_come_with_the_sound_when_people_speak(words: list[str], speed: float, speaker: str) -> None:
    segment = spoken(" ".join(words), speed=speed, speaker=speaker)
    starts = [word["start"] for word in segment["words"]]
    for cue in readable_cues(result_of(segment), "netflix"):
        assert min(abs(cue.start - start) for start in starts) < 0.001


GOOD = [Cue(0.0, 2.0, "One line."), Cue(2.084, 5.0, "This is the first of two lines,\nand this is the second one.")]


def test_good_subtitles_pass_the_check() -> None:
    assert lint(GOOD, "netflix", "en") == []


@pytest.mark.parametrize(
    ("cues", "expected"),
    [
        ([Cue(0, 2, "x" * 43)], [(0, "line width")]),
        ([Cue(0, 2, "x" * 20 + "\n" + "x" * 30 + "\n" + "x" * 20)], [(0, "line count")]),
        ([Cue(0, 2, "two lines\nfor nothing")], [(0, "one line")]),
        ([Cue(0, 2, "there is nothing to be seen here but the\nred lines of a book")], [(0, "line break")]),
        ([Cue(0, 2, " ")], [(0, "empty")]),
        ([Cue(0, 0.83, "short")], [(0, "duration")]),
        ([Cue(0, 7.001, "long")], [(0, "duration")]),
        ([Cue(0, 2, "one"), Cue(1.9, 3, "two")], [(0, "overlap")]),
        ([Cue(0, 2, "one"), Cue(2, 3, "two")], [(0, "gap")]),
        ([Cue(0, 2, "one"), Cue(2.3, 4, "two")], [(0, "gap")]),
        ([*GOOD, Cue(5.5, 5.6, "x")], [(2, "duration")]),
    ],
)
def test_broken_rule_is_found(cues: list[Cue], expected: list[tuple[int, str]]) -> None:
    assert [(broken.cue, broken.rule) for broken in lint(cues, "netflix", "en")] == expected


def test_subtitles_in_the_way_of_whisperx_break_rules() -> None:
    result = result_of(spoken("a sentence of many words that goes on and on without any end " * 3))
    assert {broken.rule for broken in lint(list(find_cues(result)), "netflix", "en")} == {"line width", "duration"}


def test_example_of_the_page_on_subtitles_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[1] / "docs" / "subtitles.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(example, {})  # noqa: S102 it is our own
    assert capsys.readouterr().out == "0 duration 0.5 s\n"


def test_page_on_subtitles_has_the_numbers_of_the_styles() -> None:
    page = (Path(__file__).parents[1] / "docs" / "subtitles.md").read_text("utf-8")
    for rule, field, unit in (
        ("characters in a line, spaces", "line_width", 1),
        ("shown at least", "min_duration", 1000),
        ("shown at least", "max_duration", 1000),
        ("stays after the last word", "max_linger", 1000),
    ):
        (row,) = (line for line in page.splitlines() if line.startswith(f"| {rule}"))
        for cell, style in zip(row.split("|")[2:4], STYLES.values(), strict=True):
            assert f"{getattr(style, field) / unit:g}" in cell


# Through the writers


@EVERY_STYLE
@pytest.mark.parametrize("extension", ["srt", "vtt", "ass", "ttml"])
def test_style_reaches_the_file(style: str, extension: str, tmp_path: Path) -> None:
    result = result_of(spoken("They had been walking slowly through the high grass of the meadow."))
    (path,) = get_writer(extension, tmp_path)(result, "talk.wav", {"subtitle_style": style})
    (event,) = pysubs2.load(str(path))
    assert event.plaintext == texts(result, style)[0]
    assert event.start == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subtitle_style": "arte"}, "whisperx or netflix or bbc"),
        ({"subtitle_style": "bbc", "max_line_width": 30}, "leave that out"),
        ({"subtitle_style": "netflix", "highlight_words": True, "max_line_count": 1}, "max_line_count and highlight"),
    ],
)
def test_style_that_cannot_be_honoured_is_an_error(options: SubtitleOptions, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        WriteSRT().write_result(result_of(spoken("Hello.")), io.StringIO(), options)


def test_style_of_whisperx_may_be_named() -> None:
    result = result_of(spoken("Hello."))
    options: SubtitleOptions = {"subtitle_style": "whisperx", "max_line_width": 3, "highlight_words": True}
    named = list(WriteVTT().iterate_result(result, options))
    assert named == list(WriteVTT().iterate_result(result, {"max_line_width": 3, "highlight_words": True}))


def written(extension: str, result: dict[str, Any], options: SubtitleOptions | None = None) -> str:
    file = io.StringIO()
    WRITERS[extension]("").write_result(result, file, options)
    return file.getvalue()


TRICKY = result_of({"start": 1.0, "end": 2.5, "text": r" {\i1}a\Nb & <c>" + "\x00\x1b ü", "speaker": "X, Y"})


def test_ass_shows_text_that_looks_like_orders() -> None:
    (event,) = pysubs2.SSAFile.from_string(written("ass", TRICKY))
    assert (event.start, event.end, event.name) == (1000, 2500, "X Y")
    assert event.plaintext.replace("\u2060", "") == r"[X, Y]: (\i1)a\Nb & <c> ü"


def test_ttml_is_xml_with_the_text() -> None:
    (paragraph,) = ET.fromstring(written("ttml", TRICKY)).iter("{http://www.w3.org/ns/ttml}p")  # noqa: S314
    assert paragraph.attrib["begin"] == "00:00:01.000"
    assert paragraph.attrib["end"] == "00:00:02.500"
    assert (paragraph.text or "").replace("\u2060", "") == r"[X, Y]: (\i1)a\Nb & <c> ü"


def test_highlighted_word_is_underlined_in_ass() -> None:
    result = result_of(spoken("Hello you"))
    lines = [line for line in written("ass", result, {"highlight_words": True}).splitlines() if "Dialogue" in line]
    assert lines[0].endswith(r",,{\u1}Hello{\u0} you")


def test_ass_of_more_than_ten_hours_is_told(caplog: pytest.LogCaptureFixture) -> None:
    written("ass", result_of(spoken("Late.", start=40_000)))
    assert "9:59:59.99" in caplog.text


def test_rttm_has_a_line_for_each_turn(tmp_path: Path) -> None:
    words = [
        {"word": "a", "start": 0.5, "end": 0.8, "speaker": "S1"},
        {"word": "b", "start": 1.0, "end": 1.25, "speaker": "S1"},
        {"word": "c", "start": 1.3, "end": 1.5, "speaker": "S 2"},
        {"word": "d"},
    ]
    result = result_of(
        {"start": 0.5, "end": 1.5, "text": "a b c d", "words": words, "speaker": "S1"},
        {"start": 3.0, "end": 4.0, "text": "not aligned", "speaker": "S1"},
        {"start": 5.0, "end": 6.0, "text": "nobody knows"},
    )
    (path,) = get_writer("rttm", tmp_path)(result, "my talk.wav")
    assert path.read_text() == (
        "SPEAKER my_talk 1 0.500 0.750 <NA> <NA> S1 <NA> <NA>\n"
        "SPEAKER my_talk 1 1.300 0.200 <NA> <NA> S_2 <NA> <NA>\n"
        "SPEAKER my_talk 1 3.000 1.000 <NA> <NA> S1 <NA> <NA>\n"
    )


def test_rttm_of_turns() -> None:
    assert rttm([Turn(0.0, 1.0, "A"), Turn(0.5, 2.0, "B")], "x") == (
        "SPEAKER x 1 0.000 1.000 <NA> <NA> A <NA> <NA>\nSPEAKER x 1 0.500 1.500 <NA> <NA> B <NA> <NA>\n"
    )


# WhisperX's SubtitlesProcessor


def test_processor_cuts_at_commas_and_before_conjunctions() -> None:
    text = "the first part of this is quite long already, the second part is long because it has a reason to be so"
    processor = SubtitlesProcessor([spoken(text)], "en", max_line_length=70)
    assert [fragment["text"] for fragment in processor.process_segments()] == [
        "the first part of this is quite long already,",
        "the second part is long because it has a reason to be so",
    ]
    text = "the first part of this is quite long because it has a reason that takes long to tell"
    processor = SubtitlesProcessor([spoken(text)], "en", max_line_length=70)
    assert [fragment["text"] for fragment in processor.process_segments()] == [
        "the first part of this is quite long",
        "because it has a reason that takes long to tell",
    ]


def test_processor_cuts_what_is_too_long_in_the_middle() -> None:
    fragments = SubtitlesProcessor([spoken("abcd " * 20)], "en").process_segments()
    assert [len(fragment["text"]) for fragment in fragments] == [24] * 4
    # Each stays until the next one begins, for the gap is small.
    assert all(first["end"] == second["start"] for first, second in pairwise(fragments))


@pytest.mark.parametrize(
    ("words", "i", "following", "expected"),
    [
        ([{"word": "a", "start": 0.0, "end": 1.0}, {"word": "bb"}, {"word": "c", "start": 3.0}], 1, None, (1.0, 3.0)),
        ([{"word": "a", "start": 0.0, "end": 1.0}, {"word": "bb"}], 1, None, (1.0, 1.5)),
        ([{"word": "a", "start": 0.0, "end": 1.0}, {"word": "bb"}], 1, 1.75, (1.0, 1.75)),
        ([{"word": "a", "start": 0.0, "end": 1.0}, {"word": "bb"}], 1, 4.0, (1.0, 3.5)),
        ([{"word": "bb"}, {"word": "c", "start": 3.0}], 0, None, (2.5, 3.0)),
        ([{"word": "bb"}], 0, 5.0, (4.0, 4.5)),
        ([{"word": "bb"}], 0, None, (0, 0)),
    ],
)
def test_processor_estimates_times(
    words: list[dict[str, Any]], i: int, following: float | None, expected: tuple[float, float]
) -> None:
    SubtitlesProcessor([], "en").estimate_timestamp_for_word(words, i, following)
    assert (words[i]["start"], words[i]["end"]) == expected


def test_processor_writes_srt_and_vtt(tmp_path: Path) -> None:
    segments = [{"start": 0.0, "end": 2.0, "text": " Hello there."}, {"start": 3.0, "end": 4.0, "text": " Bye."}]
    assert SubtitlesProcessor(segments, "en").save(tmp_path / "a.srt") == 2
    assert (tmp_path / "a.srt").read_bytes() == (
        b"1\n00:00:00,000 --> 00:00:02,000\nHello there.\n\n2\n00:00:03,000 --> 00:00:04,000\nBye.\n\n"
    )
    assert SubtitlesProcessor(segments, "en", is_vtt=True).save(tmp_path / "a.vtt", advanced_splitting=False) == 2
    assert (tmp_path / "a.vtt").read_bytes() == (
        b"WEBVTT\n\n1\n00:00:00.000 --> 00:00:02.000\nHello there.\n\n2\n00:00:03.000 --> 00:00:04.000\nBye.\n\n"
    )


def test_processor_has_shorter_lines_for_dense_scripts() -> None:
    processor = SubtitlesProcessor([], "ja")
    assert (processor.max_line_length, processor.min_char_length_splitter, processor.comma) == (30, 20, "、")


@pytest.mark.parametrize(("number", "rounded"), [(0.5, 1), (1.5, 2), (2.4, 2), (-0.5, 0)])
def test_halves_are_rounded_up(number: float, rounded: int) -> None:
    assert normal_round(number) == rounded


def test_timestamp_of_the_processor_always_has_hours() -> None:
    assert (format_timestamp(1.5), format_timestamp(1.5, is_vtt=True)) == ("00:00:01,500", "00:00:01.500")


# Names of whisperx.utils and whisperx.conjunctions


def test_helpers_of_whisperx_are_there() -> None:
    assert utils.str2bool("True") is True
    assert utils.str2bool("False") is False
    with pytest.raises(ValueError, match="true"):
        utils.str2bool("true")
    assert (utils.optional_int("None"), utils.optional_int("3"), utils.optional_float("0.5")) == (None, 3, 0.5)
    assert utils.exact_div(480000, 160) == 3000
    with pytest.raises(AssertionError):
        utils.exact_div(7, 2)
    assert utils.make_safe("größe") == "größe"
    assert utils.compression_ratio("la " * 100) > 10
    assert utils.PUNKT_LANGUAGES["de"] == "german"
    assert "because" in conjunctions.get_conjunctions("en")
    assert conjunctions.get_conjunctions("xx") == []
    assert (conjunctions.get_comma("zh"), conjunctions.get_comma("en")) == ("，", ",")
