"""How much speech does voice detection lose, how much else does it keep, and how fast is it?

    OPENBLAS_NUM_THREADS=1 python benchmarks/vad.py [--method silero | pyannote] [folder, default ../shared/audio]

Recordings with known times: read sentences and monologues with word times, meetings and telephone calls with turns,
music and noise with no speech at all. Speech is heard as it is and with pink noise, 10 dB below it between 300 and
3400 Hz. For each setting:

    missed     share of the time of words (or turns) outside the spans
    lost       share of recordings in which some word (or turn) lies by more than half outside
    undecoded  missed, after the spans are packed into chunks of 30 s: the pauses within a chunk are decoded too
    pauses     share of the time between words (or turns) inside the spans
    noise      share of the recordings without speech inside the spans

The sources (a book chapter, a folder) are sorted by name and dealt out in turn into two halves, so no chapter is in
both. Settings are chosen by the table of the first half. On the second half the chosen ones stand beside WhisperX's;
pyannote's windows are as far apart as ours there, too.
At the end the processor seconds for an hour of audio, and all figures as a JSON line.
"""

import argparse
import csv
import itertools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from whisperx.audio import SAMPLE_RATE, load_audio
from whisperx.chunks import pack
from whisperx.models.silero import load_silero
from whisperx.schema import Audio, Chunk, Span
from whisperx.vads import Pyannote, Silero
from whisperx.vads.pyannote import speech_scores


@dataclass(frozen=True)
class Method:
    default: Silero | Pyannote
    whisperx: Silero | Pyannote
    scores: Callable[[Audio], np.ndarray]
    grid: Mapping[str, tuple[float, ...]]
    repeats: int  # of the timing


METHODS = {
    "silero": Method(
        Silero(),
        Silero(0.5, None, min_silence_duration_ms=100, min_speech_duration_ms=250, speech_pad_ms=30),
        lambda audio: load_silero()(audio),
        {
            "vad_onset": (0.3, 0.5),
            "min_speech_duration_ms": (0, 100, 250),
            "min_silence_duration_ms": (100, 160, 300, 500),
            "speech_pad_ms": (30, 100, 200, 400),
        },
        repeats=20,
    ),
    "pyannote": Method(
        Pyannote(),
        Pyannote(0.5, 0.363, speech_pad_ms=0),
        lambda audio: speech_scores(audio, Pyannote().step_seconds),
        {
            "vad_onset": (0.3, 0.5, 0.7),
            "min_speech_duration_ms": (0, 250),
            "min_silence_duration_ms": (0, 500),
            "speech_pad_ms": (0, 100, 200, 400),
        },
        repeats=3,
    ),
}
NOISE_DB = -10
COLUMNS = ("missed", "lost", "undecoded", "pauses", "noise")
IN_NOISE_COLUMNS = COLUMNS[:-1]
HEADER = "\n".join(
    [
        f"{'':35s} {'as recorded, %':^49s}  {'in noise, %':^39s}",
        f"{'':10s} onset speech silence  pad  "
        + "  ".join(" ".join(f"{column:>9s}" for column in columns) for columns in (COLUMNS, IN_NOISE_COLUMNS)),
    ]
)
TICKS = 1000  # a second; times are compared in milliseconds

Times = list[tuple[float, float]]


@dataclass(frozen=True)
class Recording:
    source: str  # recordings of one source are in the same half
    kind: str  # "words", "turns" or "no speech"
    audio: Audio
    speech: Times  # where the words or turns are
    known: Times  # where the reference says anything at all


def librispeech(root: Path) -> Iterator[Recording]:
    words_of = {}
    for line in (root / "librispeech" / "references.jsonl").read_text().splitlines():
        clip = json.loads(line)
        if "words_mfa" in clip:
            words_of[clip["id"]] = [(start, end) for start, end, _ in clip["words_mfa"]]
            source = f"librispeech {clip['speaker']}-{clip['chapter']}"
            audio = load_audio(root / "librispeech" / clip["file"])
            yield Recording(source, "words", audio, words_of[clip["id"]], [(0, clip["duration"])])
    for path in sorted((root / "longform").glob("*.json")):
        chapter = json.loads(path.read_text())
        heard = [utterance for utterance in chapter["segments"] if utterance["id"] in words_of]
        words = [(u["start"] + start, u["start"] + end) for u in heard for start, end in words_of[u["id"]]]
        if words:
            source = f"librispeech {path.stem.removeprefix('libri_')}"
            audio = load_audio(path.with_name(chapter["audio"]))
            yield Recording(source, "words", audio, words, [(u["start"], u["end"]) for u in heard])


def word_alignment(root: Path) -> Iterator[Recording]:
    for path in sorted((root / "word_alignment").rglob("*.wav")):
        audio = load_audio(path)
        grid, aligned = path.with_suffix(".TextGrid"), path.with_suffix(".json")
        words = textgrid_words(grid.read_text()) if grid.exists() else pocketsphinx_words(aligned.read_text())
        yield Recording(path.stem.split("_")[0], "words", audio, words, [(0, seconds(audio))])


def textgrid_words(text: str) -> Times:
    """Intervals with a text in the tier "word" or "words" of a TextGrid in Praat's short form."""
    tokens = iter(re.findall(r'"[^"]*"|\S+', text.split("<exists>")[1]))
    for _ in range(int(next(tokens))):
        kind, name, _start, _end, size = itertools.islice(tokens, 5)
        width = 3 if kind == '"IntervalTier"' else 2
        rows = [list(itertools.islice(tokens, width)) for _ in range(int(size))]
        if name in ('"word"', '"words"'):
            return [(float(start), float(end)) for start, end, word in rows if word != '""']
    raise ValueError("no tier of words")


def pocketsphinx_words(text: str) -> Times:
    words = json.loads(text)["w"]
    return [(word["b"], word["b"] + word["d"]) for word in words if not word["t"].startswith("<")]


def turns(root: Path) -> Iterator[Recording]:
    for name in ("pyannote_sample", "ami_pyannote/tst00", "ami_pyannote/dev00"):
        path = root / "diarization" / name
        rows = [line.split() for line in path.with_suffix(".rttm").read_text().splitlines()]
        speech = [(float(row[3]), float(row[3]) + float(row[4])) for row in rows]
        audio = load_audio(path.with_suffix(".wav"))
        uem = path.with_suffix(".uem")
        known = [(float(a), float(b)) for a, b in re.findall(r"(\S+) (\S+)$", uem.read_text())] if uem.exists() else []
        yield Recording(name, "turns", audio, speech, known or [(0, seconds(audio))])
    tests = json.loads((root / "diarization" / "falcon_test_data.json").read_text())["tests"]["diarization_tests"]
    audio = load_audio(root / "diarization" / "falcon_test.wav")
    speech = [(turn["start_sec"], turn["end_sec"]) for turn in tests[0]["segments"]]
    yield Recording("falcon", "turns", audio, speech, [(0, seconds(audio))])


def without_speech(root: Path) -> Iterator[Recording]:
    folder = root / "nonspeech"
    for path in sorted(
        [*folder.glob("speechbrain_noise*"), *folder.glob("music_*"), folder / "ina" / "silence2sec.wav"]
    ):
        audio = load_audio(path)
        yield Recording(path.stem, "no speech", audio, [], [(0, seconds(audio))])
    with (folder / "ina" / "musanmix-smn-gender.csv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    silent = [(float(row["start"]), float(row["stop"])) for row in rows if row["labels"] != "male"]
    yield Recording("musanmix", "no speech", load_audio(folder / "ina" / "musanmix.mp3"), [], silent)


def seconds(audio: Audio) -> float:
    return len(audio) / SAMPLE_RATE


def in_noise(recording: Recording, rng: np.random.Generator) -> Recording:
    """With pink noise, NOISE_DB beside the recording in the telephone band: rumble below it is not speech."""
    n = len(recording.audio)
    frequencies = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    noise = np.fft.rfft(rng.standard_normal(n))
    noise[1:] /= np.sqrt(frequencies[1:])  # power falls as 1 / frequency
    band = (frequencies >= 300) & (frequencies <= 3400)
    power, noise_power = (np.sum(np.abs(x[band]) ** 2) for x in (np.fft.rfft(recording.audio), noise))
    noise *= np.sqrt(power / noise_power) * 10 ** (NOISE_DB / 20)
    return replace(recording, audio=(recording.audio + np.fft.irfft(noise, n)).astype(np.float32))


def mask(times: Iterable[tuple[float, float]], n_ticks: int) -> np.ndarray:
    covered = np.zeros(n_ticks, np.bool_)
    for start, end in times:
        covered[round(start * TICKS) : round(end * TICKS)] = True
    return covered


@dataclass(frozen=True)
class Reference:
    """A recording with its probabilities and masks: what all settings share."""

    recording: Recording
    probabilities: np.ndarray
    speech: np.ndarray
    silence: np.ndarray

    @classmethod
    def of(cls, recording: Recording, scores: Callable[[Audio], np.ndarray]) -> "Reference":
        n_ticks = round(seconds(recording.audio) * TICKS)
        speech, known = mask(recording.speech, n_ticks), mask(recording.known, n_ticks)
        return cls(recording, scores(recording.audio), speech & known, known & ~speech)


def measure(vad: Silero | Pyannote, references: list[Reference]) -> dict[str, float]:
    """The shares that COLUMNS names, in per cent, over the recordings given; 0 where there is nothing to share."""
    part, whole = dict.fromkeys(COLUMNS, 0), dict.fromkeys(COLUMNS, 0)
    for reference in references:
        recording = reference.recording
        spans = vad.spans(reference.probabilities, len(recording.audio))
        found = mask(pairs(spans), len(reference.speech))
        decoded = mask(pairs(pack(spans, recording.audio)), len(reference.speech))
        is_lost = any(found[round(a * TICKS) : round(b * TICKS)].mean() < 0.5 for a, b in recording.speech)
        for column, is_part, is_whole in (
            ("missed", reference.speech & ~found, reference.speech),
            ("undecoded", reference.speech & ~decoded, reference.speech),
            ("pauses" if recording.speech else "noise", reference.silence & found, reference.silence),
            ("lost", is_lost, bool(recording.speech)),
        ):
            part[column] += int(np.sum(is_part))
            whole[column] += int(np.sum(is_whole))
    return {column: round(100 * part[column] / max(whole[column], 1), 2) for column in COLUMNS}


def pairs(intervals: Iterable[Span | Chunk]) -> Times:
    return [(interval.start, interval.end) for interval in intervals]


def variants(method: Method) -> Iterator[Silero | Pyannote]:
    for values in itertools.product(*method.grid.values()):
        yield replace(method.default, **dict(zip(method.grid, values, strict=True)))


def table_row(name: str, vad: Silero | Pyannote, as_recorded: dict[str, float], in_noise: dict[str, float]) -> str:
    lengths = f"{vad.min_speech_duration_ms:6d} {vad.min_silence_duration_ms:7d} {vad.speech_pad_ms:4d}"
    shares = [[as_recorded[column] for column in COLUMNS], [in_noise[column] for column in IN_NOISE_COLUMNS]]
    return f"{name:10s} {vad.vad_onset:5.2f} {lengths}  " + "  ".join(
        " ".join(f"{share:9.2f}" for share in group) for group in shares
    )


def seconds_per_hour(method: Method, recordings: list[Recording]) -> float:
    """Processor seconds; the best of some times two minutes, since other work on the machine only ever adds."""
    audio = np.concatenate([recording.audio for recording in recordings])[: 120 * SAMPLE_RATE]
    times = []
    for _ in range(method.repeats):
        start = time.process_time()
        method.default(audio)
        times.append(time.process_time() - start)
    return 3600 / seconds(audio) * min(times)


def main(method: Method, root: Path) -> None:
    recordings = [*librispeech(root), *word_alignment(root), *turns(root), *without_speech(root)]
    rng = np.random.default_rng(0)
    clean = [Reference.of(recording, method.scores) for recording in recordings]
    noisy = [Reference.of(in_noise(recording, rng), method.scores) for recording in recordings if recording.speech]
    first_half = set(sorted({recording.source for recording in recordings})[::2])

    def both(
        vad: Silero | Pyannote, in_first_half: bool, kinds: tuple[str, ...]
    ) -> tuple[dict[str, float], dict[str, float]]:
        chosen = [
            [r for r in references if (r.recording.source in first_half) == in_first_half and r.recording.kind in kinds]
            for references in (clean, noisy)
        ]
        return measure(vad, chosen[0]), measure(vad, chosen[1])

    everything = ("words", "turns", "no speech")
    print(f"{len(recordings)} recordings, {sum(seconds(r.audio) for r in recordings):.0f} s")
    print(f"first half: {', '.join(sorted(first_half))}\n\n{HEADER}")
    for vad in variants(method):
        print(table_row("default" if vad == method.default else "", vad, *both(vad, True, everything)))

    figures = {}
    for kinds in (everything, *((kind,) for kind in everything)):
        name = "second half" if kinds == everything else f"its {kinds[0]}"
        print(f"\n{name}\n{HEADER}")
        for label, vad in (("default", method.default), ("WhisperX", method.whisperx)):
            as_recorded, with_noise = both(vad, False, kinds)
            print(table_row(label, vad, as_recorded, with_noise))
            figures[f"{label}, {name}"] = {"as recorded": as_recorded, "in noise": with_noise}
    hour = seconds_per_hour(method, recordings)
    print(f"\n{hour:.2f} processor seconds for an hour of audio")
    print(json.dumps({"seconds per hour": round(hour, 2), "per cent": figures}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", choices=METHODS, default="silero")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parents[2] / "shared" / "audio")
    arguments = parser.parse_args()
    main(METHODS[arguments.method], arguments.folder)
