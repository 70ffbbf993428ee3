"""Read what somebody has transcribed already, so that only its words need times: json, srt, vtt and txt.

segments = read_transcript("talk.srt").segments
align(segments, model, metadata, "talk.mp3", "cpu")
"""

import json
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from whisperx.errors import OptionError
from whisperx.schema import SingleSegment

SUFFIXES = (".json", ".srt", ".vtt", ".txt")

_SLACK = 0.5  # seconds by which a cue may begin too late or end too early, if there is a pause to the next
_NO_TIME = 1e9  # seconds: thirty years
_SPEAKER = re.compile(r"\[([^\]\n]+)\]: ")  # as our writers and WhisperX's put it in front


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a file says."""

    segments: list[SingleSegment]
    language: str | None  # code, where the file tells it


def read_transcript(path: str | os.PathLike[str]) -> Transcript:
    """The segments of a transcript, by the ending of its name.

    json : as WhisperX and this program write it; `text`, `start`, `end` and `speaker` of each segment are read
    srt, vtt : a segment for each cue, which may begin half a second before it and end as much after it, where its
        neighbours leave room. "[SPEAKER_00]: " in front of it says who speaks
    txt : one segment for the whole recording, whose `end` is infinite; each line is a sentence, or several

    Raises OptionError for a file that cannot be read, is of another kind, or holds no text.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise OptionError(
            f"{path}: a transcript is a {', '.join(SUFFIXES)} file, not {path.suffix or 'without ending'}."
        )
    text = _decoded(path)
    if path.suffix.lower() == ".json":
        transcript = _from_json(text, path)
    elif path.suffix.lower() == ".txt":
        transcript = Transcript(_whole([_with_speaker(line)[0] for line in text.splitlines()]), None)
    else:
        transcript = Transcript(_from_cues(text, path), None)
    if not any(segment["text"].strip() for segment in transcript.segments):
        raise OptionError(f"{path}: there is no text in it to align.")
    return transcript


def _decoded(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise OptionError(f"{path}: cannot be read: {error.strerror}.") from error
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise OptionError(f"{path}: is not UTF-8 text; save it in that encoding.") from error


def _whole(lines: Iterable[str]) -> list[SingleSegment]:
    return [{"text": "\n".join(line.strip() for line in lines if line.strip()), "start": 0.0, "end": inf}]


def _from_json(text: str, path: Path) -> Transcript:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{path}: is no JSON: {error}.") from error
    entries = content.get("segments") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise OptionError(f'{path}: expected {{"segments": [{{"text", "start", "end"}}, ...]}}, as WhisperX writes it.')
    language = content.get("language") if isinstance(content, dict) else None
    segments = [_segment(entry, f"{path}: segment {i}") for i, entry in enumerate(entries)]
    return Transcript(segments, language if isinstance(language, str) else None)


def _segment(entry: Mapping[str, Any], what: str) -> SingleSegment:
    text: Any = entry.get("text")
    start: Any = entry.get("start")
    end: Any = entry.get("end")
    if not isinstance(text, str):
        raise OptionError(f'{what} has no "text".')
    if not (_is_time(start) and _is_time(end) and start <= end):
        raise OptionError(f'{what} needs "start" and "end" in seconds, the start first, not {start!r} and {end!r}.')
    segment: SingleSegment = {"text": text, "start": float(start), "end": float(end)}
    if isinstance(speaker := entry.get("speaker"), str):
        segment["speaker"] = speaker
    return segment


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _NO_TIME


def _from_cues(text: str, path: Path) -> list[SingleSegment]:
    from pysubs2 import SSAFile
    from pysubs2.exceptions import Pysubs2Error

    try:
        cues = SSAFile.from_string(text, format_=path.suffix[1:].lower())
    except (Pysubs2Error, ValueError) as error:
        raise OptionError(f"{path}: are no subtitles: {error}.") from error
    segments: list[SingleSegment] = []
    for cue in sorted((cue for cue in cues if not cue.is_comment), key=lambda cue: (cue.start, cue.end)):
        plain, speaker = _with_speaker(_one_line(cue.plaintext))
        segment: SingleSegment = {"text": plain, "start": cue.start / 1000, "end": max(cue.start, cue.end) / 1000}
        if speaker is not None:
            segment["speaker"] = speaker
        segments.append(segment)
    return _with_slack(segments)


def _with_slack(segments: Sequence[SingleSegment]) -> list[SingleSegment]:
    """Segments that reach into the pauses about them, to half of a pause at most."""
    ends = [-inf, *(segment["end"] for segment in segments)]
    starts = [*(segment["start"] for segment in segments[1:]), inf]
    wider: list[SingleSegment] = []
    for segment, before, after in zip(segments, ends, starts, strict=False):
        room_before = min(max(segment["start"] - before, 0) / 2, _SLACK)
        room_after = min(max(after - segment["end"], 0) / 2, _SLACK)
        wider.append({**segment, "start": max(segment["start"] - room_before, 0.0), "end": segment["end"] + room_after})
    return wider


def _with_speaker(text: str) -> tuple[str, str | None]:
    found = _SPEAKER.match(text)
    return (text[found.end() :], found[1]) if found else (text, None)


def _one_line(text: str) -> str:
    """Lines joined by a blank, or by nothing where both sides are Chinese or Japanese."""
    joined = ""
    for line in text.splitlines():
        line = line.strip()
        is_wide = all(unicodedata.east_asian_width(character) in "WF" for character in (*joined[-1:], *line[:1]))
        joined += line if not joined or not line or is_wide else f" {line}"
    return joined
