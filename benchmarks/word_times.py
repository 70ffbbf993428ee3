"""How far word times by attention are from the truth, beside openai-whisper's on the same weights.

    .venv/bin/python -m benchmarks.word_times ../shared/audio/word_alignment --model FOLDER
    .venv-oracle/bin/python -m benchmarks.word_times ../shared/audio/word_alignment --model FOLDER --openai

Every recording of at most 30 s below the folder that has word times beside it is taken as one chunk: NAME.TextGrid with
a tier "words" or "word" (Praat), or NAME.json (pocketsphinx). `known` times the words of the reference; `heard` those
that the model hears, as far as they are the words of the reference. With --openai also `ours, openai's text`, our times
of the text that openai-whisper's decoding heard, and `by both`, of the words that both decodings heard. `seconds` is
what the times cost beyond the rest: for ours reading the text once more, for openai-whisper a whole pass of encoder and
decoder. The last line is JSON.
"""

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from benchmarks.batch import words as spoken_words
from whisperx.audio import CHUNK_LENGTH, SAMPLE_RATE, load_audio, log_mel_spectrogram, pad_or_trim
from whisperx.backends.mlx import MlxBackend
from whisperx.checkpoints import load_checkpoint
from whisperx.schema import Audio, DecodingOptions, Meter


class Word(NamedTuple):
    text: str  # as `benchmarks.batch.words` has it
    start: float
    end: float


Distances = dict[int, tuple[float, float]]  # of start and end, by a word's place in the reference


def reference(recording: Path) -> list[Word]:
    if recording.with_suffix(".TextGrid").is_file():
        found = list(words_of_textgrid(recording.with_suffix(".TextGrid").read_text("utf-8")))
    else:
        content = json.loads(recording.with_suffix(".json").read_text("utf-8"))
        found = [(re.sub(r"\(\d\)$", "", word["t"]), word["b"], word["b"] + word["d"]) for word in content["w"]]
    return [word for found_word in found for word in normalised(*found_word)]


def words_of_textgrid(text: str) -> Iterator[tuple[str, float, float]]:
    """Intervals of the tier of words, of either form of Praat's text files: numbers and strings in the same order."""
    values = re.findall(r'"((?:[^"]|"")*)"|(?<![\w"])(-?\d+(?:\.\d+)?(?:e-?\d+)?)(?![\w\]])', text)
    flat = [string if not number else float(number) for string, number in values]
    tier = next(i for i, value in enumerate(flat) if value in ("words", "word"))
    n_intervals = int(flat[tier + 3])
    for i in range(tier + 4, tier + 4 + 3 * n_intervals, 3):
        yield flat[i + 2], flat[i], flat[i + 1]


def normalised(text: str, start: float, end: float) -> list[Word]:
    """At most one word: a silence or a noise is none."""
    spelled = "" if re.match(r"[<\[{(]", text) else spoken_words(text)
    return [Word(spelled, start, end)] if spelled else []


def distances(truth: list[Word], found: list[Word]) -> Distances:
    """Of starts and of ends, in seconds, of the words that both have."""
    matcher = SequenceMatcher(None, [word.text for word in truth], [word.text for word in found], autojunk=False)
    pairs = [(match.a + i, match.b + i) for match in matcher.get_matching_blocks() for i in range(match.size)]
    return {i: (abs(truth[i].start - found[j].start), abs(truth[i].end - found[j].end)) for i, j in pairs}


class Ours:
    def __init__(self, folder: Path) -> None:
        self.backend = MlxBackend(folder, device="cpu")
        self.meter = Meter()

    @property
    def seconds(self) -> float:
        return self.meter.seconds.get("word times", 0.0)

    def known(self, audio: Audio, text: str) -> list[Word]:
        (words,) = self.backend.time_words([audio], [text], "en", meter=self.meter)
        return [word for timed in words for word in normalised(timed.word.strip(), timed.start, timed.end)]

    def heard(self, audio: Audio) -> tuple[str, list[Word]]:
        options = DecodingOptions(language="en", beam_size=1, temperatures=(0.0,), word_timestamps=True)
        (result,) = self.backend.decode([audio], options, batch_size=1, on_result=lambda *_: None, meter=self.meter)
        words = (normalised(timed.word.strip(), timed.start, timed.end) for timed in result.words or ())
        return result.text, [word for timed in words for word in timed]


class Theirs:
    def __init__(self, folder: Path) -> None:
        import torch
        from whisper.tokenizer import get_tokenizer

        from tests.oracle.references import openai_whisper

        checkpoint = load_checkpoint(folder)
        arrays = {name: array.astype(np.float32) for name, array in checkpoint.arrays.items()}
        self.model = openai_whisper(checkpoint.dims, arrays)
        heads = torch.zeros(checkpoint.dims.n_text_layer, checkpoint.dims.n_text_head, dtype=torch.bool)
        heads[tuple(checkpoint.alignment_heads.T)] = True
        self.model.register_buffer("alignment_heads", heads.to_sparse(), persistent=False)
        self.tokenizer = get_tokenizer(self.model.is_multilingual, language="en", task="transcribe")
        self.seconds = 0.0

    def known(self, audio: Audio, text: str) -> list[Word]:
        import torch
        from whisper.timing import add_word_timestamps

        segment: dict[str, Any] = {"seek": 0, "start": 0.0, "end": len(audio) / SAMPLE_RATE}
        segment["tokens"] = self.tokenizer.encode(text)
        start = perf_counter()
        add_word_timestamps(
            segments=[segment],
            model=self.model,
            tokenizer=self.tokenizer,
            mel=torch.from_numpy(log_mel_spectrogram(pad_or_trim(audio), self.model.dims.n_mels)),
            num_frames=len(audio) // 160,
            last_speech_timestamp=0.0,
        )
        self.seconds += perf_counter() - start
        return [word for timed in segment["words"] for word in self._word(timed)]

    def heard(self, audio: Audio) -> tuple[str, list[Word]]:
        import whisper

        result = whisper.transcribe(
            self.model,
            audio,
            word_timestamps=True,
            language="en",
            temperature=0.0,
            fp16=False,
            no_speech_threshold=None,
        )
        words = (word for segment in result["segments"] for word in segment["words"])
        return result["text"], [word for timed in words for word in self._word(timed)]

    @staticmethod
    def _word(timed: dict[str, Any]) -> list[Word]:
        return normalised(timed["word"].strip(), float(timed["start"]), float(timed["end"]))


def row(name: str, measured: list[Distances], n_words: int, **more: float) -> dict[str, object]:
    """A line of the table, printed: `measured` has the words of each recording."""
    starts, ends = 1000 * np.array([pair for recording in measured for pair in recording.values()]).T
    columns = {
        "times": name,
        "words": f"{len(starts)}/{n_words}",
        "start_median_ms": round(float(np.median(starts))),
        "start_95_ms": round(float(np.percentile(starts, 95))),
        "over_100_ms": round(float(np.mean(starts > 100)), 3),
        "end_median_ms": round(float(np.median(ends))),
        "end_95_ms": round(float(np.percentile(ends, 95))),
    }
    print(" ".join(f"{value!s:>20}" for value in columns.values()), flush=True)
    return columns | more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--only", default="", help="recordings whose path has this in it")
    parser.add_argument("--openai", action="store_true", help="openai-whisper, too")
    args = parser.parse_args()

    recordings = [
        path
        for path in sorted(args.folder.rglob("*.wav"))
        if args.only in str(path) and any(path.with_suffix(suffix).is_file() for suffix in (".TextGrid", ".json"))
    ]
    samples = [(load_audio(path), reference(path)) for path in recordings]
    samples = [(audio, truth) for audio, truth in samples if len(audio) <= CHUNK_LENGTH * SAMPLE_RATE]
    n_words = sum(len(truth) for _, truth in samples)

    def compared(found: Iterable[list[Word]]) -> list[Distances]:
        return [distances(truth, words) for (_, truth), words in zip(samples, found, strict=True)]

    columns = ("times", "words", "start_median_ms", "start_95_ms", "over_100_ms", "end_median_ms", "end_95_ms")
    print(f"{len(samples)} recordings")
    print(" ".join(f"{column:>20}" for column in columns))
    table = []
    engines: dict[str, Ours | Theirs] = {"ours": Ours(args.model)}
    if args.openai:
        engines["openai"] = Theirs(args.model)
    heard: dict[str, list[Distances]] = {}
    texts: list[str] = []  # of the last engine
    for name, engine in engines.items():
        known = [engine.known(audio, " " + " ".join(word.text for word in truth)) for audio, truth in samples]
        table.append(row(f"{name}, known", compared(known), n_words, seconds=round(engine.seconds, 2)))
        texts, words = zip(*(engine.heard(audio) for audio, _ in samples), strict=True)
        heard[name] = compared(words)
        table.append(row(f"{name}, heard", heard[name], n_words))
    if args.openai:
        same = [engines["ours"].known(audio, text) for (audio, _), text in zip(samples, texts, strict=True)]
        table.append(row("ours, openai's text", compared(same), n_words))
        for name in engines:
            both = [
                {word: (ours if name == "ours" else theirs)[word] for word in ours.keys() & theirs.keys()}
                for ours, theirs in zip(heard["ours"], heard["openai"], strict=True)
            ]
            table.append(row(f"{name}, by both", both, n_words))
    print(json.dumps(table))


if __name__ == "__main__":
    main()
