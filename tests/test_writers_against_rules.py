"""The writers against WhisperX's rules, stated here once more and in another way, on thousands of random results."""

import io
import json
import random
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from typing import Any

import pytest

from whisperx.writers import WRITERS, SubtitleOptions, get_writer

FORMATS = ("txt", "tsv", "aud", "json", "srt", "vtt")
N_RESULTS = 2000


def written(extension: str, result: dict[str, Any], options: SubtitleOptions) -> str:
    file = io.StringIO()
    WRITERS[extension]("").write_result(result, file, options)
    return file.getvalue()


# The rules


def stamp(seconds: float, extension: str) -> str:
    total = int(Decimal(seconds * 1000.0).to_integral_value("ROUND_HALF_EVEN"))
    hours, minutes, rest, thousandths = total // 3600000, total // 60000 % 60, total // 1000 % 60, total % 1000
    if extension == "srt":
        return f"{hours:02}:{minutes:02}:{rest:02},{thousandths:03}"
    return (f"{hours:02}:" if hours else "") + f"{minutes:02}:{rest:02}.{thousandths:03}"


def cues_by_the_rules(result: dict[str, Any], options: SubtitleOptions) -> Iterator[tuple[float, float, str]]:
    segments = result["segments"]
    if not segments or "words" not in segments[0]:
        for segment in segments:
            yield segment["start"], segment["end"], named(segment) + segment["text"].strip().replace("-->", "->")
        return
    for lines in cues_as_lines(segments, options["max_line_width"], options["max_line_count"]):
        entries = [entry for line in lines for entry in line]
        texts = []
        for line in lines:
            for place, (word, _) in enumerate(line):
                is_first_of_later_line = place == 0 and line is not lines[0]
                shown = word["word"].strip() if place == 0 else word["word"]
                texts.append("\n" + shown if is_first_of_later_line else shown)
        timed = [word for word, _ in entries if "start" in word]
        start = min(word["start"] for word in timed) if timed else entries[0][1]["start"]
        end = max(word["end"] for word in timed) if timed else entries[0][1]["end"]
        prefix = named(entries[0][1])
        plain = prefix + ("" if result["language"] in ("ja", "zh") else " ").join(texts)
        if not (options["highlight_words"] and timed):
            yield start, end, plain
            continue
        until = start
        for place, (word, _) in enumerate(entries):
            if "start" not in word:
                continue
            if stamp(until, "srt") != stamp(word["start"], "srt"):
                yield until, word["start"], plain
            marked = texts.copy()
            bare = marked[place].lstrip("\n")
            marked[place] = marked[place].replace(bare, f"<u>{bare}</u>")
            yield word["start"], word["end"], prefix + " ".join(marked)
            until = word["end"]


def cues_as_lines(segments: list[Any], width: int | None, count: int | None) -> list[list[list[Any]]]:
    """Cues as lists of lines as lists of (word, segment)."""
    flowing = width is not None and count is not None
    cues: list[list[list[Any]]] = []
    previous_start = segments[0]["start"]
    for segment in segments:
        for place, word in enumerate(segment["words"]):
            pause = flowing and "start" in word and word["start"] - previous_start > 3.0
            used = sum(len(other["word"]) for other, _ in cues[-1][-1]) if cues else 0
            fits = used + len(word["word"]) <= (1000 if width is None else width)
            is_full = not fits and count is not None and len(cues[-1]) >= count if cues else True
            if is_full or pause or (place == 0 and not flowing):
                cues.append([[]])
            elif not fits:
                cues[-1].append([])
            cues[-1][-1].append((word, segment))
            previous_start = word.get("start", previous_start)
    return cues


def named(segment: dict[str, Any]) -> str:
    return f"[{segment['speaker']}]: " if "speaker" in segment else ""


def by_the_rules(extension: str, result: dict[str, Any], options: SubtitleOptions) -> str:
    segments = result["segments"]
    untabbed = [segment["text"].strip().replace("\t", " ") for segment in segments]
    if extension == "txt":
        return "".join(named(segment) + segment["text"].strip() + "\n" for segment in segments)
    if extension == "tsv":
        milliseconds = [[str(round(segment[key] * 1000)) for key in ("start", "end")] for segment in segments]
        rows = [["start", "end", "text"], *([*pair, text] for pair, text in zip(milliseconds, untabbed, strict=True))]
        return "".join("\t".join(row) + "\n" for row in rows)
    if extension == "aud":
        labels = [f"[[{segment['speaker']}]]" if "speaker" in segment else "" for segment in segments]
        return "".join(
            f"{segment['start']!r}\t{segment['end']!r}\t{label}{text}\n"
            for segment, label, text in zip(segments, labels, untabbed, strict=True)
        )
    if extension == "json":
        return json.dumps(result, ensure_ascii=False)
    blocks = ["WEBVTT\n\n"] if extension == "vtt" else []
    for i, (start, end, text) in enumerate(cues_by_the_rules(result, options)):
        number = f"{i + 1}\n" if extension == "srt" else ""
        blocks.append(f"{number}{stamp(start, extension)} --> {stamp(end, extension)}\n{text}\n\n")
    return "".join(blocks)


# Random results


def random_word(rng: random.Random, now: float) -> dict[str, Any]:
    word: dict[str, Any] = {"word": "".join(rng.choices("abcdéü世界.,<>&", k=rng.choice((1, 2, 3, 5, 8, 13))))}
    if rng.random() < 0.8:
        word["start"] = round(now, 3) if rng.random() < 0.9 else now
        word["end"] = word["start"] + rng.choice((0.0, 0.02, 0.3, 1.5, 4.0))  # it may reach into the next one
        word["score"] = rng.random() if rng.random() < 0.99 else float("nan")
    return word


def random_result(rng: random.Random) -> dict[str, Any]:
    aligned, spoken_by = rng.random() < 0.8, rng.choice(([], ["A"], ["A", "SPEAKER_01", "Zoë"]))
    now = rng.choice((0.0, 1.0, 3590.0, 86390.0))
    segments = []
    for _ in range(rng.choice((0, 1, 2, 3, 6))):
        start = now
        words = []
        for _ in range(rng.choice((0, 1, 2, 5, 12)) if rng.random() < 0.3 else rng.randrange(1, 9)):
            words.append(random_word(rng, now))
            now += rng.choice((0.001, 0.1, 0.25, 0.7, 2.95, 3.001, 5.0))
        if words and rng.random() < 0.03:
            words[0]["word"] += "-->"
        text = rng.choice(("", " ")) + rng.choice((" ", "\t")).join(word["word"] for word in words)
        segment: dict[str, Any] = {"start": start, "end": now, "text": text}
        segments.append(
            segment | ({"words": words} if aligned else {}) | ({"speaker": rng.choice(spoken_by)} if spoken_by else {})
        )
        now += rng.choice((0.0, 0.5, 3.0, 100.0))
    word_segments = {"word_segments": [word for segment in segments for word in segment["words"]]} if aligned else {}
    return {"segments": segments, **word_segments, "language": rng.choice(("en", "de", "ja", "zh", "th"))}


def random_options(rng: random.Random) -> SubtitleOptions:
    return {
        "max_line_width": rng.choice((None, None, 1, 5, 10, 20, 42)),
        "max_line_count": rng.choice((None, 1, 2, 3)),
        "highlight_words": rng.random() < 0.3,
    }


@cache
def random_cases() -> list[tuple[dict[str, Any], SubtitleOptions]]:
    rng = random.Random(20261122)  # noqa: S311
    return [(random_result(rng), random_options(rng)) for _ in range(N_RESULTS)]


def loses_something(result: dict[str, Any]) -> bool:
    """Whether WhisperX would lose text of this result, break the file, or put blanks between characters."""
    return (
        result["language"] == "th"
        or any(segment.get("words") == [] for segment in result["segments"])
        or "-->" in str(result.get("word_segments"))
        or "nan" in str(result)
    )


@pytest.mark.parametrize("extension", FORMATS)
def test_file_is_what_the_rules_say(extension: str) -> None:
    n_as_they_are = 0
    for result, options in random_cases():
        expected = by_the_rules(extension, result, options)
        assert written(extension, result, {**options, "compat": True}) == expected, (result, options)
        if not loses_something(result):
            assert written(extension, result, options) == expected, (result, options)
            n_as_they_are += 1
    assert n_as_they_are > N_RESULTS / 3


def test_no_text_is_lost_where_whisperx_would_lose_it() -> None:
    n_losses = 0
    for result, options in random_cases():
        if loses_something(result) and not options["highlight_words"]:
            shown = "".join(written("srt", result, options).split())
            for segment in result["segments"]:
                assert "".join(segment["text"].replace("-->", "->").split()) in shown or segment.get("words"), segment
                for word in segment.get("words", []):
                    assert word["word"].replace("-->", "->") in shown
            n_losses += 1
    assert n_losses > N_RESULTS / 20


def test_file_holds_what_write_result_writes(tmp_path: Any) -> None:
    for result, options in random_cases()[:20]:
        for extension in WRITERS:
            (path,) = get_writer(extension, tmp_path)(result, "talk.wav", options)
            assert path.read_text("utf-8") == written(extension, result, options).replace("audio", "talk")
