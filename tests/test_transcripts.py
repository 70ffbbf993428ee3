"""Known transcripts: what their files say, and their words timed."""

import json
from math import inf
from pathlib import Path
from typing import Any

import pytest
from fake_aligner import METADATA, FakeAligner, ramp, timeline_of

from whisperx.alignment import align
from whisperx.errors import OptionError
from whisperx.transcripts import read_transcript

SRT = """1
00:00:01,000 --> 00:00:02,000
[SPEAKER_00]: Hello <i>there</i>,
my friend.

2
00:00:02,400 --> 00:00:04,000
Good-bye.

3
00:00:08,000 --> 00:00:09,500
東京
タワー
"""
VTT = """WEBVTT

NOTE nobody reads this

00:01.000 --> 00:02.000 align:start
<v Ann>Hello &amp; good-bye.
"""


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_cues_are_segments_that_reach_into_the_pauses(tmp_path: Path) -> None:
    found = read_transcript(written(tmp_path / "a.srt", SRT))
    assert found.language is None
    assert found.segments == [
        {"text": "Hello there, my friend.", "start": 0.5, "end": 2.2, "speaker": "SPEAKER_00"},
        {"text": "Good-bye.", "start": 2.2, "end": 4.5},
        {"text": "東京タワー", "start": 7.5, "end": 10.0},
    ]


def test_vtt_is_read_without_its_notes_and_tags(tmp_path: Path) -> None:
    segments = read_transcript(written(tmp_path / "a.VTT", VTT)).segments
    assert [(s["start"], s["end"]) for s in segments] == [(0.5, 2.5)]
    assert segments[0]["text"].endswith("good-bye.")
    assert "<" not in segments[0]["text"]


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_json_of_whisperx_is_read_with_language_and_speakers(tmp_path: Path, bom: bytes) -> None:
    content = {
        "segments": [
            {"start": 0, "end": 2.5, "text": " Ça va?", "words": [{"word": "Ça"}], "speaker": "A", "avg_logprob": -1},
            {"start": 2.5, "end": 3.0, "text": " Oui."},
        ],
        "word_segments": [],
        "language": "fr",
    }
    found = read_transcript(written(tmp_path / "a.json", bom + json.dumps(content, ensure_ascii=False).encode()))
    assert found.language == "fr"
    assert found.segments == [
        {"text": " Ça va?", "start": 0.0, "end": 2.5, "speaker": "A"},
        {"text": " Oui.", "start": 2.5, "end": 3.0},
    ]


def test_text_is_one_segment_over_the_whole_recording(tmp_path: Path) -> None:
    found = read_transcript(written(tmp_path / "a.txt", "[SPEAKER_01]: One two.\r\n\r\n  three\n".encode("utf-16")))
    assert found.segments == [{"text": "One two.\nthree", "start": 0.0, "end": inf}]


@pytest.mark.parametrize("compat", [False, True])
def test_lines_of_a_text_are_found_in_a_long_recording(tmp_path: Path, compat: bool) -> None:
    words = [f"{a}{b}{a}" for a in "abcdefgh" for b in "klmnop"]
    lines = [" ".join(words[i : i + 4]) for i in range(0, 48, 4)]
    timeline: dict[int, str] = {}
    for i, word in enumerate(words):
        timeline |= timeline_of(word + "|", 25 + 200 * i)
    segments = read_transcript(written(tmp_path / "a.txt", "\n".join(lines))).segments
    result = align(segments, FakeAligner(timeline), METADATA, ramp(200), "cpu", compat=compat)
    if not compat:
        assert [s["text"] for s in result["segments"]] == lines
        assert [word["start"] for word in result["word_segments"]] == [round(0.5 + 4 * i, 3) for i in range(48)]
    assert result["segments"][-1]["end"] <= 200


BROKEN: list[tuple[str, str | bytes, str]] = [
    ("a.docx", "text", "a transcript is a .json, .srt, .vtt, .txt file, not .docx"),
    ("a", "text", "not without ending"),
    ("a.txt", " \n", "no text"),
    ("a.txt", b"\xe9t\xe9", "is not UTF-8"),
    ("a.json", "{", "is no JSON"),
    ("a.json", "[" * 100_000, "is no JSON"),
    ("a.json", "3", "expected {"),
    ("a.json", '{"segments": [3]}', "expected {"),
    ("a.json", '[{"start": 0, "end": 1}]', 'segment 0 has no "text"'),
    ("a.json", '[{"text": "a", "start": 2, "end": 1}]', "the start first, not 2 and 1"),
    ("a.json", '[{"text": "a", "start": 0, "end": NaN}]', "segment 0 needs"),
    ("a.json", '[{"text": "a", "start": 0, "end": 1' + "0" * 400 + "}]", "segment 0 needs"),
    ("a.json", '[{"text": "a"}]', "not None and None"),
    ("a.json", "[]", "no text"),
    ("a.srt", "hello", "no text"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_broken_file_is_named_with_what_is_wrong(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(OptionError, match=f"{name}: ") as caught:
        read_transcript(written(tmp_path / name, content))
    assert message in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"none\.srt: cannot be read: No such file"):
        read_transcript(tmp_path / "none.srt")
