"""How far aligned words are from the truth, and how fast many segments are aligned.

    python -m benchmarks.alignment --align_model examples/demo-aligner                       made speech, exact truth
    python -m benchmarks.alignment --align_model FOLDER ../shared/audio/word_alignment       recordings with truth
    python -m benchmarks.alignment --model examples/demo-model                               by a Whisper's attention
    python -m benchmarks.alignment --speed                                                   no model needed

Made speech is said by flite and espeak-ng (both must be installed), which tell when each word begins: sentences that
the demo models have not been trained on, and sentences with numbers and symbols, of which `numbers` counts only those.
Recordings are those below a folder with NAME.TextGrid (tier "words" or "word") or NAME.json (pocketsphinx) beside them.

Each row aligns the known text of each recording as one segment: `ours`; `letters`, where numbers are letters of any
kind; `whisperx`, the compat mode; `attention`, by a Whisper's (no numbers: the demo model cannot read digits).
Distances are in milliseconds; `late` is the median with its sign, below 0 where words are put too early. `timed` is the
share of words with times of their own. With --speed, 60 segments of 5 to 30 s
with random emissions go through the trellis side by side and, one by one, through a plain NumPy version of WhisperX's
algorithm: processor seconds, the least of five runs, since other work on the machine only adds.

The last line is JSON.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.word_times import reference
from tests import plain_alignment as plain
from tools import demo_speech
from whisperx.alignment import align, load_align_model
from whisperx.alignment.trellis import Tokens, best_paths
from whisperx.audio import SAMPLE_RATE, load_audio
from whisperx.backends.mlx import MlxBackend
from whisperx.schema import AlignModel, Audio, SingleWordSegment

# A sentence, and how its parts with numbers and symbols are said.
NUMBERS = (
    ("I have {14} cats at home.", "fourteen"),
    ("It was {$3.50} yesterday.", "three dollars fifty"),
    ("About {20%} of the people came.", "twenty percent"),
    ("The king died in {1999} in Paris.", "nineteen ninety nine"),
    ("We need {1,000} chairs and {12} tables.", "one thousand", "twelve"),
    ("He was the {2nd} man on the moon.", "second"),
    ("The train leaves at {10:30} from here.", "ten thirty"),
    ("Salt {&} pepper are on the table.", "and"),
    ("The value is {3.14} in this book.", "three point one four"),
    ("Room {207} is on the left side.", "two hundred and seven"),
    ("They sold {45} houses in {2} weeks.", "forty five", "two"),
    ("The price rose by {7.5%} last year.", "seven point five percent"),
)
VOICES = (
    demo_speech.Voice("flite", "slt"),
    demo_speech.FLITE_HELD_OUT,
    demo_speech.Voice("espeak-ng", "en-us+m3", speed=0.95),
    demo_speech.ESPEAK_HELD_OUT,
)


@dataclass(frozen=True)
class Sample:
    """A recording, its text, and when each word of the text (as split at white space) begins and ends."""

    audio: Audio
    text: str
    times: tuple[tuple[float, float], ...]
    counted: frozenset[int]  # numbers of the words that are measured


def recordings(folder: Path) -> Iterator[Sample]:
    for path in sorted(folder.rglob("*.wav")):
        if any(path.with_suffix(suffix).is_file() for suffix in (".TextGrid", ".json")):
            words = reference(path)
            times = tuple((word.start, word.end) for word in words)
            yield Sample(load_audio(path), " ".join(word.text for word in words), times, frozenset(range(len(words))))


def made_sentences(n: int) -> Iterator[Sample]:
    for i, text in enumerate(demo_speech.held_out_sentences(seed=0, n=n)):
        audio, times = _said(text, VOICES[i % len(VOICES)])
        if len(times) == len(text.split()):
            yield Sample(audio, text, times, frozenset(range(len(times))))


def made_numbers() -> Iterator[Sample]:
    for template, *spoken in NUMBERS:
        words, counted, lengths = [], set(), []
        forms = iter(spoken)
        for i, word in enumerate(template.split()):
            is_number = "{" in word
            said = next(forms) if is_number else word
            words.append(said)
            lengths.append(len(said.split()))
            if is_number:
                counted |= {i, i + 1}  # the word behind it shows where the number ends
        firsts = np.cumsum([0, *lengths[:-1]])
        for voice in VOICES:
            audio, times = _said(" ".join(words), voice)
            if len(times) == sum(lengths):
                text = template.replace("{", "").replace("}", "")
                whole = tuple((times[i][0], times[i + n - 1][1]) for i, n in zip(firsts, lengths, strict=True))
                yield Sample(audio, text, whole, frozenset(counted & set(range(len(words)))))


def _said(text: str, voice: demo_speech.Voice) -> tuple[Audio, tuple[tuple[float, float], ...]]:
    """A second of quiet, the text, a second of quiet; and when its words begin and end, unless one cannot be told."""
    speech = demo_speech.synthesize(text, voice)
    edges = [start for _, start, _ in speech.sounds[1:]] + [len(speech.audio) / SAMPLE_RATE]
    times: dict[int, tuple[float, float]] = {}
    for (_, start, word), end in zip(speech.sounds, edges, strict=True):
        if word >= 0:
            times[word] = (times.get(word, (start + 1.0, 0.0))[0], end + 1.0)
    noise = np.random.default_rng(0).normal(size=len(speech.audio) + 2 * SAMPLE_RATE).astype(np.float32)
    return np.pad(speech.audio, SAMPLE_RATE) + 0.001 * noise, tuple(times[i] for i in sorted(times))


def measure(name: str, samples: list[Sample], timed: Callable[[Sample], list[SingleWordSegment]]) -> dict[str, Any]:
    late: list[tuple[float, float]] = []  # start and end
    n_timed = n_words = 0
    for sample in samples:
        words = timed(sample)
        assert len(words) == len(sample.times), (sample.text, words)
        n_words += len(words)
        n_timed += sum("score" in word for word in words)
        for i in sample.counted:
            if "start" in words[i]:
                late.append((words[i]["start"] - sample.times[i][0], words[i]["end"] - sample.times[i][1]))
    starts, ends = 1000 * np.array(late).T
    return {
        "rows": name,
        "words": len(late),
        "timed": round(n_timed / n_words, 3),
        "start": round(float(np.median(np.abs(starts)))),
        "start 95 %": round(float(np.percentile(np.abs(starts), 95))),
        "over 100": round(float(np.mean(np.abs(starts) > 100)), 3),
        "late": round(float(np.median(starts))),
        "end": round(float(np.median(np.abs(ends)))),
        "end 95 %": round(float(np.percentile(np.abs(ends), 95))),
        "end late": round(float(np.median(ends))),
    }


def by_letters(
    what: str, samples: list[Sample], model: AlignModel, metadata: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    def timed(sample: Sample, *, compat: bool = False) -> list[SingleWordSegment]:
        segment: Any = {"text": sample.text, "start": 0.0, "end": len(sample.audio) / SAMPLE_RATE}
        return align([segment], model, metadata, sample.audio, compat=compat)["word_segments"]

    yield measure(f"{what}, ours", samples, timed)
    if what == "numbers":
        with patch("whisperx.alignment.forced.spoken_parts", lambda *_: []):
            yield measure(f"{what}, letters", samples, timed)
    yield measure(f"{what}, whisperx", samples, partial(timed, compat=True))


def by_attention(what: str, samples: list[Sample], backend: MlxBackend) -> dict[str, Any]:
    def timed(sample: Sample) -> list[SingleWordSegment]:
        (words,) = backend.time_words([sample.audio], [" " + sample.text], "en")
        return [{"word": w.word, "start": w.start, "end": w.end, "score": w.probability} for w in words]

    return measure(f"{what}, attention", samples, timed)


def speed(n_segments: int) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    emissions = [plain.random_emission(generator, int(n), 32, 3.0) for n in generator.integers(250, 1500, n_segments)]
    columns = [generator.integers(1, 32, len(emission) // 4) for emission in emissions]  # 12 characters a second

    def side_by_side() -> None:
        best_paths(emissions, [Tokens(c, c) for c in columns], 0, to_last_frame=True)

    def one_by_one() -> None:
        for emission, tokens in zip(emissions, (c.tolist() for c in columns), strict=True):
            path = plain.path_of(plain.trellis_of(emission, tokens, 0), emission, tokens, 0)
            assert path is not None
            plain.spans_of(path)

    batched, plainly = _least_seconds(side_by_side), _least_seconds(one_by_one)
    return {
        "segments": n_segments,
        "batched": batched,
        "one by one": plainly,
        "times faster": round(plainly / batched, 1),
    }


def _least_seconds(run: Callable[[], None]) -> float:
    seconds = []
    for _ in range(5):
        start = process_time()
        run()
        seconds.append(process_time() - start)
    return round(min(seconds), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="recordings with truth; made speech without")
    parser.add_argument("--align_model", help="folder or name")
    parser.add_argument("--model", type=Path, help="folder of a Whisper model")
    parser.add_argument("--sentences", type=int, default=60, help="made sentences")
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    if args.speed:
        table = [speed(60)]
    else:
        if args.folder is not None:
            sets = {"recordings": list(recordings(args.folder))}
        else:
            sets = {"sentences": list(made_sentences(args.sentences)), "numbers": list(made_numbers())}
        table = []
        if args.model is None or args.align_model is not None:
            aligner = load_align_model("en", "cpu", args.align_model)
            table += [row for what, samples in sets.items() for row in by_letters(what, samples, *aligner)]
        if args.model is not None:
            backend = MlxBackend(args.model, device="cpu")
            table += [by_attention(what, samples, backend) for what, samples in sets.items() if what != "numbers"]
    print(" ".join(f"{column:>19}" for column in table[0]))
    for row in table:
        print(" ".join(f"{value!s:>19}" for value in row.values()))
    print(json.dumps(table))


if __name__ == "__main__":
    main()
