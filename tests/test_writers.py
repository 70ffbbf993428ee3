import errno
import io
import json
import math
import os
import stat
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisperx import utils, writers
from whisperx.writers import (
    WRITERS,
    SubtitleOptions,
    WriteJSON,
    WriteSRT,
    WriteTXT,
    WriteVTT,
    format_timestamp,
    get_writer,
    replacing,
)

TALK: dict[str, Any] = {
    "segments": [
        {"text": " Hello there.", "start": 0.5, "end": 2.0625, "avg_logprob": -0.25},
        {"text": " a --> b\tc ", "start": 3599.9996, "end": 3601.25, "speaker": "SPEAKER_00", "avg_logprob": -0.5},
        {"text": " Grüße, 世界 🎉", "start": 3602, "end": 3603.0, "avg_logprob": -1.0},
    ],
    "language": "en",
}

SILENCE: dict[str, Any] = {"segments": [], "language": "de"}

# The bytes that WhisperX 3.8.6 writes for these results.
EXPECTED = {
    "txt": "Hello there.\n[SPEAKER_00]: a --> b\tc\nGrüße, 世界 🎉\n",
    "tsv": "start\tend\ttext\n500\t2062\tHello there.\n3600000\t3601250\ta --> b c\n3602000\t3603000\tGrüße, 世界 🎉\n",
    "aud": "0.5\t2.0625\tHello there.\n3599.9996\t3601.25\t[[SPEAKER_00]]a --> b c\n3602\t3603.0\tGrüße, 世界 🎉\n",
    "json": '{"segments": [{"text": " Hello there.", "start": 0.5, "end": 2.0625, "avg_logprob": -0.25}, '
    '{"text": " a --> b\\tc ", "start": 3599.9996, "end": 3601.25, "speaker": "SPEAKER_00", "avg_logprob": -0.5}, '
    '{"text": " Grüße, 世界 🎉", "start": 3602, "end": 3603.0, "avg_logprob": -1.0}], "language": "en"}',
    "srt": "1\n00:00:00,500 --> 00:00:02,062\nHello there.\n\n"
    "2\n01:00:00,000 --> 01:00:01,250\n[SPEAKER_00]: a -> b\tc\n\n"
    "3\n01:00:02,000 --> 01:00:03,000\nGrüße, 世界 🎉\n\n",
    "vtt": "WEBVTT\n\n"
    "00:00.500 --> 00:02.062\nHello there.\n\n"
    "01:00:00.000 --> 01:00:01.250\n[SPEAKER_00]: a -> b\tc\n\n"
    "01:00:02.000 --> 01:00:03.000\nGrüße, 世界 🎉\n\n",
}

EXPECTED_OF_SILENCE = {
    "txt": "",
    "tsv": "start\tend\ttext\n",
    "aud": "",
    "json": '{"segments": [], "language": "de"}',
    "srt": "",
    "vtt": "WEBVTT\n\n",
}


def written(writer: writers.ResultWriter, result: dict[str, Any], options: SubtitleOptions | None = None) -> str:
    file = io.StringIO()
    writer.write_result(result, file, options)
    return file.getvalue()


@pytest.mark.parametrize("extension", EXPECTED)
def test_file_holds_the_expected_bytes(extension: str, tmp_path: Path) -> None:
    for result, expected in ((TALK, EXPECTED), (SILENCE, EXPECTED_OF_SILENCE)):
        assert get_writer(extension, tmp_path)(result, "somewhere/talk.one.mp3") == [tmp_path / f"talk.one.{extension}"]
        assert (tmp_path / f"talk.one.{extension}").read_bytes() == expected[extension].encode()


def test_numbers_of_the_decoder_are_written_to_json_alone() -> None:
    numbers = {"no_speech_prob": 0.125, "compression_ratio": 0.75, "temperature": 0.0, "tokens": [2425, 456]}
    result = TALK | {"segments": [segment | numbers for segment in TALK["segments"]]}
    assert written(WriteJSON(), result) == json.dumps(result, ensure_ascii=False)
    for extension in EXPECTED.keys() - {"json"}:
        assert written(get_writer(extension, ""), result) == EXPECTED[extension]  # type: ignore[arg-type]


def test_all_means_every_format_but_aud(tmp_path: Path) -> None:
    paths = get_writer("all", tmp_path)(TALK, Path("talk.wav"))
    assert paths == [tmp_path / f"talk.{extension}" for extension in ("txt", "vtt", "srt", "tsv", "json")]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    for path in paths:
        assert path.read_text("utf-8") == EXPECTED[path.suffix[1:]]


def test_unknown_format_is_a_key_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="docx"):
        get_writer("docx", tmp_path)


def test_writers_are_importable_from_the_path_of_whisperx() -> None:
    assert utils.get_writer is get_writer
    assert utils.WriteSRT is WriteSRT
    assert utils.TO_LANGUAGE_CODE["castilian"] == "es"


def test_writer_without_folder_writes_to_any_object_with_write() -> None:
    class Upper:
        def __init__(self) -> None:
            self.text = ""

        def write(self, text: str) -> None:
            self.text += text.upper()

    sink = Upper()
    WriteTXT().write_result(TALK, sink)
    assert sink.text == EXPECTED["txt"].upper()
    with pytest.raises(ValueError, match="without a folder"):
        WriteTXT()(TALK, "talk.wav")


# Timestamps


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "00:00.000"),
        (0.0005, "00:00.000"),  # exact halves go to the even millisecond
        (0.0015, "00:00.002"),
        (0.0025, "00:00.002"),
        (59.9994, "00:59.999"),
        (59.9996, "01:00.000"),
        (3599.9996, "01:00:00.000"),
        (3600, "01:00:00.000"),
        (360000.001, "100:00:00.001"),
        (np.float32(0.25), "00:00.250"),
        (np.float64(61.5), "01:01.500"),
    ],
)
def test_timestamp(seconds: float, expected: str) -> None:
    assert format_timestamp(seconds) == expected


def test_timestamp_of_srt_has_hours_and_a_comma() -> None:
    assert format_timestamp(1.5, always_include_hours=True, decimal_marker=",") == "00:00:01,500"


def test_negative_timestamp_is_an_assertion_error() -> None:
    with pytest.raises(AssertionError, match="not negative"):
        format_timestamp(-0.001)


@given(st.floats(0, 1e6))
def test_timestamp_is_the_nearest_millisecond(seconds: float) -> None:
    milliseconds = int(Decimal(seconds * 1000.0).quantize(Decimal(1), ROUND_HALF_EVEN))
    *hours, minutes, rest = format_timestamp(seconds, always_include_hours=True).split(":")
    assert (int(hours[0]) * 60 + int(minutes)) * 60_000 + int(rest.replace(".", "")) == milliseconds
    assert len(minutes) == 2
    assert len(rest) == 6


# JSON


def test_json_has_plain_numbers_and_no_nan() -> None:
    words = [{"word": "hi", "start": np.float64(1.5), "end": np.float32(2.5), "score": math.nan}]
    result = {"segments": [{"text": "hi", "start": np.int64(1), "end": 2.5, "words": words}], "word_segments": words}
    result |= {"speaker_embeddings": {"A": (0.5, -math.inf)}, "done": True, "nothing": None}
    assert written(WriteJSON(), result) == (
        '{"segments": [{"text": "hi", "start": 1, "end": 2.5, "words": '
        '[{"word": "hi", "start": 1.5, "end": 2.5, "score": null}]}], '
        '"word_segments": [{"word": "hi", "start": 1.5, "end": 2.5, "score": null}], '
        '"speaker_embeddings": {"A": [0.5, null]}, "done": true, "nothing": null}'
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values))
def test_json_of_plain_values_is_what_json_dumps_gives(result: dict[str, Any]) -> None:
    assert written(WriteJSON(), result) == json.dumps(result, ensure_ascii=False)


# Segments: the rules once more, from the file's side

segments = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.text(st.sampled_from("ab ->\tü")).filter(str.strip),
            "start": st.integers(0, 10**7).map(lambda milliseconds: milliseconds / 1000),
            "end": st.integers(0, 10**7).map(lambda milliseconds: milliseconds / 1000),
        },
        optional={"speaker": st.sampled_from(["S1", "S 2"])},
    ),
    max_size=5,
)


def seconds_of(stamp: str) -> float:
    hours, minutes, seconds = ["0", *stamp.replace(",", ".").split(":")][-3:]
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


@given(segments)
def test_each_segment_is_one_cue_with_its_times_speaker_and_text(segments: list[dict[str, Any]]) -> None:
    result = {"segments": segments, "language": "en"}
    srt, vtt = written(WriteSRT(), result), written(WriteVTT(), result)
    assert vtt.startswith("WEBVTT\n\n")
    srt_cues, vtt_cues = srt.split("\n\n")[:-1], vtt.split("\n\n")[1:-1]
    assert len(srt_cues) == len(vtt_cues) == len(segments)
    for i, (segment, srt_cue, vtt_cue) in enumerate(zip(segments, srt_cues, vtt_cues, strict=True)):
        number, srt_times, srt_text = srt_cue.split("\n")
        vtt_times, vtt_text = vtt_cue.split("\n")
        assert number == str(i + 1)
        for times in (srt_times, vtt_times):
            assert [seconds_of(stamp) for stamp in times.split(" --> ")] == pytest.approx(
                [segment["start"], segment["end"]], abs=1e-6
            )
        speaker = f"[{segment['speaker']}]: " if "speaker" in segment else ""
        assert srt_text == vtt_text == speaker + segment["text"].strip().replace("-->", "->")


# Words


def words(text: str, *times: tuple[float, float] | None) -> list[dict[str, Any]]:
    """One word for each time; those without one stay untimed."""
    pairs = zip(text.split(), times, strict=True)
    return [{"word": word} | ({} if time is None else {"start": time[0], "end": time[1]}) for word, time in pairs]


def segment(start: float, end: float, words: list[dict[str, Any]], **rest: str) -> dict[str, Any]:
    return {"start": start, "end": end, "text": " ".join(word["word"] for word in words), "words": words, **rest}


HELLO = words("Hello brave new world", (0.0, 0.4), (0.5, 0.9), None, (1.5, 2.0))
BYE = words("Bye now", (6.0, 6.2), (6.3, 6.5))
TIMED: dict[str, Any] = {"segments": [segment(0, 2, HELLO, speaker="A"), segment(6, 7, BYE)], "language": "en"}

# name: options, cues as (start, end, text); checked against WhisperX 3.8.6
WORD_CASES: dict[str, tuple[SubtitleOptions, list[tuple[str, str, str]]]] = {
    "a cue for each segment, from its first word to its last": (
        {},
        [("00:00.000", "00:02.000", "[A]: Hello brave new world"), ("00:06.000", "00:06.500", "Bye now")],
    ),
    "width alone breaks lines, with a blank before the break": (
        {"max_line_width": 10},
        [("00:00.000", "00:02.000", "[A]: Hello brave \nnew world"), ("00:06.000", "00:06.500", "Bye now")],
    ),
    "width and count let words flow, and a cue is full after so many lines": (
        {"max_line_width": 5, "max_line_count": 2},
        [
            ("00:00.000", "00:00.900", "[A]: Hello \nbrave"),
            ("00:01.500", "00:02.000", "[A]: new \nworld"),
            ("00:06.000", "00:06.500", "Bye \nnow"),
        ],
    ),
    "a pause of more than three seconds ends a cue": (
        {"max_line_width": 80, "max_line_count": 2},
        [("00:00.000", "00:02.000", "[A]: Hello brave new world"), ("00:06.000", "00:06.500", "Bye now")],
    ),
    "count alone changes nothing": (
        {"max_line_count": 1},
        [("00:00.000", "00:02.000", "[A]: Hello brave new world"), ("00:06.000", "00:06.500", "Bye now")],
    ),
    "highlighted: a cue for each timed word and for each gap": (
        {"highlight_words": True},
        [
            ("00:00.000", "00:00.400", "[A]: <u>Hello</u> brave new world"),
            ("00:00.400", "00:00.500", "[A]: Hello brave new world"),
            ("00:00.500", "00:00.900", "[A]: Hello <u>brave</u> new world"),
            ("00:00.900", "00:01.500", "[A]: Hello brave new world"),
            ("00:01.500", "00:02.000", "[A]: Hello brave new <u>world</u>"),
            ("00:06.000", "00:06.200", "<u>Bye</u> now"),
            ("00:06.200", "00:06.300", "Bye now"),
            ("00:06.300", "00:06.500", "Bye <u>now</u>"),
        ],
    ),
    "highlighted at the beginning of a line: the break stays outside": (
        {"max_line_width": 4, "highlight_words": True},
        [
            ("00:00.000", "00:00.400", "[A]: <u>Hello</u> \nbrave \nnew \nworld"),
            ("00:00.400", "00:00.500", "[A]: Hello \nbrave \nnew \nworld"),
            ("00:00.500", "00:00.900", "[A]: Hello \n<u>brave</u> \nnew \nworld"),
            ("00:00.900", "00:01.500", "[A]: Hello \nbrave \nnew \nworld"),
            ("00:01.500", "00:02.000", "[A]: Hello \nbrave \nnew \n<u>world</u>"),
            ("00:06.000", "00:06.200", "<u>Bye</u> \nnow"),
            ("00:06.200", "00:06.300", "Bye \nnow"),
            ("00:06.300", "00:06.500", "Bye \n<u>now</u>"),
        ],
    ),
}


@pytest.mark.parametrize("case", WORD_CASES)
def test_words_become_cues(case: str) -> None:
    options, expected = WORD_CASES[case]
    assert list(WriteVTT().iterate_result(TIMED, options)) == expected


@pytest.mark.parametrize(
    ("language", "joined", "joined_by_whisperx"),
    [("zh", "你好", "你好"), ("ja", "你好", "你好"), ("yue", "你好", "你 好"), ("ko", "你 好", "你 好")],
)
def test_words_of_languages_without_spaces_are_joined(language: str, joined: str, joined_by_whisperx: str) -> None:
    talk = {"segments": [segment(0, 1, words("你 好", (0, 0.5), (0.5, 1)))], "language": language}
    for options, text in (({}, joined), ({"compat": True}, joined_by_whisperx)):
        cues = list(WriteSRT().iterate_result(talk, options))
        assert cues == [("00:00:00,000", "00:00:01,000", text)]


def test_cue_without_timed_words_has_the_times_of_its_segment() -> None:
    talk = [segment(1.25, 2.5, words("no times", None, None))]
    for options in ({}, {"highlight_words": True}):
        assert list(WriteVTT().iterate_result({"segments": talk}, options)) == [("00:01.250", "00:02.500", "no times")]


@pytest.mark.parametrize("options", [{}, {"max_line_width": 80, "max_line_count": 2}], ids=["segments", "flowing"])
@pytest.mark.parametrize("failed", [{"words": []}, {}], ids=["empty", "missing"])
def test_segment_that_could_not_be_aligned_is_a_cue_of_its_own(
    failed: dict[str, Any], options: SubtitleOptions
) -> None:
    lost = {"start": 2.0, "end": 2.5, "text": " 42 --> 43", "speaker": "B", **failed}
    talk = [segment(1, 2, words("one", (1, 2))), lost, segment(3, 4, words("two", (3, 4)))]
    assert list(WriteVTT().iterate_result({"segments": talk, "language": "en"}, options)) == [
        ("00:01.000", "00:02.000", "one"),
        ("00:02.000", "00:02.500", "[B]: 42 -> 43"),
        ("00:03.000", "00:04.000", "two"),
    ]


timed_words = st.lists(
    st.fixed_dictionaries(
        {"word": st.text("abc", min_size=1, max_size=6)},
        optional={"start": st.floats(0, 100)},
    ).map(lambda word: word | ({"end": word["start"] + 0.1} if "start" in word else {})),
    min_size=1,
    max_size=6,
)


@given(
    st.lists(timed_words, min_size=1, max_size=4),
    st.none() | st.integers(1, 20),
    st.none() | st.integers(1, 3),
)
def test_no_word_is_lost_and_no_limit_is_broken(
    talk: list[list[dict[str, Any]]], width: int | None, count: int | None
) -> None:
    segments = [segment(i, i + 1, words) for i, words in enumerate(talk)]
    options: SubtitleOptions = {"max_line_width": width, "max_line_count": count}
    cues = [text for *_, text in WriteVTT().iterate_result({"segments": segments, "language": "en"}, options)]
    assert " ".join(cues).split() == [word["word"] for words in talk for word in words]
    for line in "\n".join(cues).split("\n"):
        in_line = line.split()
        assert width is None or len(in_line) == 1 or len("".join(in_line)) <= width
    if width is None or count is None:
        assert len(cues) == len(talk) or count is not None
    else:
        assert all(cue.count("\n") < count for cue in cues)


# Files


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "talk.txt"
    path.write_text("old")
    with pytest.raises(TypeError), replacing(path) as file:
        json.dump({"written": "so far", "then": object()}, file)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["write", "rename"])
def test_full_disk_leaves_the_old_file_and_names_the_new_one(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "talk.srt"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if step == "write":
        monkeypatch.setattr(WriteSRT, "write_result", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        get_writer("srt", tmp_path)(TALK, "talk.wav")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_is_missing_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        get_writer("srt", tmp_path / "gone")(TALK, "talk.wav")
    assert caught.value.filename == str(tmp_path / "gone" / "talk.srt")


def test_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with replacing(tmp_path / "ours"):
        pass
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    with replacing(tmp_path / "link") as file:
        file.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_named_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with replacing(pipe) as file:
        file.write("through")
    assert pipe.is_fifo()
    assert os.read(reader, 100) == b"through"
    os.close(reader)


def test_longest_file_name_still_works(tmp_path: Path) -> None:
    name = "x" * 251
    (path,) = get_writer("txt", tmp_path)(TALK, f"{name}.wav")
    assert path.name == f"{name}.txt"
    assert path.read_text("utf-8") == EXPECTED["txt"]


def test_every_format_has_a_writer_with_its_extension(tmp_path: Path) -> None:
    assert {name: writer(tmp_path).extension for name, writer in WRITERS.items()} == {name: name for name in WRITERS}
    assert WRITERS.keys() == EXPECTED.keys() | {"ass", "ttml", "rttm"}
