"""How often is it the wrong speaker, how many speakers are found, and how fast?

    python -m benchmarks.diarization [folder of recordings, ../shared/audio by default] [--pipeline NAME]

Recordings with turns written down by people: a telephone call, two excerpts of meetings, a broadcast and a staged
conversation. Each is diarized twice: told nothing, and told how many speakers there are. The error rates are those of
`benchmarks/der.py`, in per cent, with the time within 0.25 s of a reference border ("collar") scored or not, and with
the time in which several speak scored or not; missed, false and wrong (confusion) belong to the first of them.
Monologues show whether one speaker is found to be one.

One recording has a transcript with a speaker for each word, too. It has times for turns only; the words of a turn share
them by their number of letters. Each word is given the speaker found who speaks longest during it, and the share of
words that have the right one is printed; beside it the share that the turns written down would give, which is less than
all where people speak at once.

The recordings are sorted by name and dealt out in turn into two halves. With --choose, the distance between speakers
and the least that a speaker speaks are tried out, and the table of the first half says which are best: those are the
defaults. So is the step from one window to the next, as a share of a window. Where windows fall is chance, so each
recording is heard five times there, behind 0 to 4 s of silence. At the end the speed, and all figures as a JSON line.

    python -m benchmarks.diarization --minutes 20,60,180

does nothing of that, but shows what length costs: pieces of 10 to 30 s of the five recordings, at random and louder or
softer, make a long one. Each length is a process of its own; `memory` is the most that it held, `beyond samples` that
less the samples (float32, 16 kHz).
"""

import argparse
import itertools
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.der import Errors, best_agreement, score
from whisperx.audio import SAMPLE_RATE, load_audio
from whisperx.diarize import Diarizer, diarize, load_diarizer
from whisperx.models.segmentation import packaged_powerset_segmentation
from whisperx.models.speaker_encoder import load_speaker_encoder
from whisperx.schema import Audio, Turn
from whisperx.speaker_turns import DiarizeSettings, find_voices, turns_of_voices
from whisperx.word_speakers import assign_speakers

STEPS = (0.25, 0.5, 0.625, 0.75, 0.875)
OFFSETS = (0.0, 1.0, 2.0, 3.0, 4.0)  # seconds
DISTANCES = (0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
LEAST_SECONDS = (1.0, 2.0, 3.0)
SCORINGS = {
    "all": {"collar": 0.0},
    "collar": {"collar": 0.25},
    "no overlap": {"collar": 0.0, "overlap": False},
    "neither": {"collar": 0.25, "overlap": False},
}

WORKER = """
import json, resource, sys, time
from pathlib import Path
from benchmarks.diarization import long_recording
from whisperx.diarize import load_diarizer
audio = long_recording(Path(sys.argv[1]), float(sys.argv[2]))
diarizer = load_diarizer(sys.argv[3] or None)
wall, processor = time.perf_counter(), time.process_time()
speakers = len(diarizer(audio).embeddings)
seconds = {"seconds": time.perf_counter() - wall, "processor": time.process_time() - processor}
unit = 1 if sys.platform == "darwin" else 1024
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
print(json.dumps(seconds | {"memory": memory, "samples": audio.nbytes, "speakers": speakers}))
"""


@dataclass(frozen=True)
class Recording:
    name: str
    audio: Audio
    turns: list[Turn]

    @property
    def seconds(self) -> float:
        return len(self.audio) / SAMPLE_RATE

    @property
    def n_speakers(self) -> int:
        return len({turn.speaker for turn in self.turns})

    def behind_silence(self, seconds: float) -> "Recording":
        audio = np.concatenate([np.zeros(round(seconds * SAMPLE_RATE), np.float32), self.audio])
        turns = [Turn(turn.start + seconds, turn.end + seconds, turn.speaker) for turn in self.turns]
        return replace(self, audio=audio, turns=turns)

    def errors(self, found: list[Turn], **scoring: float) -> Errors:
        return score(self.turns, found, (0, self.seconds), **scoring)


Word = Turn  # when a word is said, and by whom


def recordings(folder: Path) -> Iterator[Recording]:
    for name in ("ami_pyannote/dev00", "ami_pyannote/tst00", "pyannote_sample"):
        rows = [line.split() for line in (folder / name).with_suffix(".rttm").read_text().splitlines()]
        turns = [Turn(float(row[3]), float(row[3]) + float(row[4]), row[7]) for row in rows]
        audio = load_audio((folder / name).with_suffix(".wav"))
        uem = (folder / name).with_suffix(".uem")
        if uem.exists():  # beyond it the reference says nothing
            (end,) = re.findall(r" (\S+)$", uem.read_text().strip())
            audio = audio[: round(float(end) * SAMPLE_RATE)]
        yield Recording(name.replace("pyannote/", ""), audio, turns)
    tests = json.loads((folder / "falcon_test_data.json").read_text())["tests"]["diarization_tests"]
    turns = [Turn(turn["start_sec"], turn["end_sec"], str(turn["speaker_tag"])) for turn in tests[0]["segments"]]
    yield Recording("falcon_test", load_audio(folder / "falcon_test.wav"), turns)
    rows = [line.split() for line in (folder / "diarizationExample.segments").read_text().splitlines()]
    turns = [Turn(float(start), float(end), speaker) for start, end, speaker in rows]
    yield Recording("diarizationExample", load_audio(folder / "diarizationExample.wav"), turns)


def attributed_words(transcript: Path, seconds: float) -> list[Word]:
    """The words said before `seconds`: when, and by whom."""
    words = []
    for turn in json.loads(transcript.read_text())["turns"]:
        said = turn["text"].split()
        ends = [sum(map(len, said[: i + 1])) / sum(map(len, said)) for i in range(len(said))]
        times = [turn["start"] + share * (turn["end"] - turn["start"]) for share in (0.0, *ends)]
        words += [Word(start, end, turn["speaker"]) for start, end in itertools.pairwise(times) if end <= seconds]
    return words


def share_of_words(words: list[Word], turns: list[Turn]) -> float:
    """With the right speaker, those found mapped one to one so that it is most; a word without one is wrong."""
    entries = [{"word": "", "start": word.start, "end": word.end} for word in words]
    segment = {"start": words[0].start, "end": words[-1].end, "text": "", "words": entries}
    assign_speakers(turns, {"segments": [segment]}, compat=True)
    pairs = ((word.speaker, entry.get("speaker")) for word, entry in zip(words, entries, strict=True))
    return best_agreement(Counter((speaker, found) for speaker, found in pairs if found)) / len(words)


def choose(half: list[Recording]) -> None:
    """Print, for each pair of settings, how many recordings of a half have the right number, and the errors."""
    segmenter, encoder, defaults = packaged_powerset_segmentation(), load_speaker_encoder(), DiarizeSettings()
    step_seconds = defaults.step * segmenter.window_seconds
    geometry = segmenter.geometry(step_seconds)
    heard = []
    for recording in half:
        scores = segmenter.scores(recording.audio, step_seconds=step_seconds)
        voices = find_voices(scores, geometry, recording.audio, encoder, defaults, lambda share: None)
        heard.append((recording, scores, voices))
    print(f"first half: {', '.join(recording.name for recording in half)}\ndistance  least  right number  error, %")
    for distance, least in itertools.product(DISTANCES, LEAST_SECONDS):
        settings = replace(defaults, max_distance=distance, min_speaker_seconds=least)
        found = [turns_of_voices(v, s, geometry, len(r.audio), 1, None, settings) for r, s, v in heard]
        right = sum(len(f.embeddings) == r.n_speakers for f, r in zip(found, half, strict=True))
        errors = [r.errors(f.turns, collar=0.25) for f, r in zip(found, half, strict=True)]
        total = sum(errors[1:], errors[0])
        print(f"{distance:8.2f} {least:6.1f} {right:7d} of {len(half)} {100 * total.rate:9.1f}")


def choose_step(halves: tuple[list[Recording], list[Recording]]) -> None:
    """Print, for each step and half, how often the number is right, the errors, and processor seconds for an hour."""
    print("step   right number, error in % of the first half, of the second half   processor s/h")
    for step in STEPS:
        settings, cells, seconds = replace(DiarizeSettings(), step=step), [], 0.0
        processor = time.process_time()
        for half in halves:
            right, errors = 0, []
            for recording, offset in itertools.product(half, OFFSETS):
                later = recording.behind_silence(offset)
                found = diarize(later.audio, settings=settings)
                right += len(found.embeddings) == later.n_speakers
                errors.append(later.errors(found.turns, collar=0.25))
                seconds += later.seconds
            cells.append(f"{right:3d} of {len(errors)} {100 * sum(errors[1:], errors[0]).rate:6.1f}")
        processor = 3600 * (time.process_time() - processor) / seconds
        print(f"{step:5.3f}  {'   '.join(cells)} {processor:11.0f}", flush=True)


def row(name: str, recording: Recording, found: list[Turn]) -> dict[str, float]:
    errors = recording.errors(found)
    rates = {scoring: 100 * recording.errors(found, **options).rate for scoring, options in SCORINGS.items()}
    kinds = {"missed": errors.missed, "false": errors.false_alarm, "wrong": errors.confusion}
    figures = rates | {kind: 100 * seconds / errors.speech for kind, seconds in kinds.items()}
    n_found = len({turn.speaker for turn in found})
    print(f"{name:26s} {n_found:3d} of {recording.n_speakers:2d}  " + " ".join(f"{x:10.1f}" for x in figures.values()))
    return {"speakers": n_found} | {kind: round(figure, 1) for kind, figure in figures.items()}


def measure(diarizer: Diarizer, several: list[Recording]) -> dict[str, dict[str, float]]:
    print(f"\n{'':26s}  speakers  " + " ".join(f"{name:>10s}" for name in (*SCORINGS, "missed", "false", "wrong")))
    figures = {}
    for recording in several:
        for told in (None, recording.n_speakers):
            name = recording.name + ("" if told is None else ", told")
            figures[name] = row(name, recording, diarizer(recording.audio, num_speakers=told).turns)
    return figures


def long_recording(folder: Path, minutes: float) -> Audio:
    random = np.random.default_rng(0)
    sources = [recording.audio for recording in recordings(folder / "diarization")]
    audio: Audio = np.empty(round(60 * minutes * SAMPLE_RATE), np.float32)
    start = 0
    while start < len(audio):
        source = sources[random.integers(len(sources))]
        n_samples = min(int(random.integers(10, 30)) * SAMPLE_RATE, len(source), len(audio) - start)
        first = random.integers(len(source) - n_samples + 1)
        piece = source[first : first + n_samples]
        audio[start : start + n_samples] = piece * np.float32(random.uniform(0.5, 1))
        start += n_samples
    return audio


def measure_lengths(folder: Path, several: list[float], pipeline: str | None) -> None:
    print(
        f"{'minutes':>7} {'seconds':>8} {'x real time':>11} {'processor s/h':>13} {'memory':>8} {'beyond samples':>15}"
    )
    rows = []
    for minutes in several:
        command = [sys.executable, "-c", WORKER, str(folder), str(minutes), pipeline or ""]
        row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        rows.append({"minutes": minutes} | row)
        beyond = (row["memory"] - row["samples"]) / 1e6
        speed, per_hour = 60 * minutes / row["seconds"], 60 * row["processor"] / minutes
        print(
            f"{minutes:>7g} {row['seconds']:>8.1f} {speed:>11.1f} {per_hour:>13.0f} {row['memory'] / 1e6:>5.0f} MB "
            f"{beyond:>12.0f} MB",
            flush=True,
        )
    print(json.dumps(rows))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", default="../shared/audio", type=Path)
    parser.add_argument("--pipeline", help="name or folder of a pipeline of pyannote; by default the packaged one")
    parser.add_argument("--choose", action="store_true", help="try out settings on the first half")
    parser.add_argument("--minutes", type=lambda text: [float(n) for n in text.split(",")], help="cost by length")
    arguments = parser.parse_args()
    if arguments.minutes:
        measure_lengths(arguments.folder, arguments.minutes, arguments.pipeline)
        return
    several = sorted(recordings(arguments.folder / "diarization"), key=lambda recording: recording.name)
    if arguments.choose:
        choose(several[::2])
        choose_step((several[::2], several[1::2]))
    diarizer = load_diarizer(arguments.pipeline)
    figures = measure(diarizer, several)

    spoken = {}
    for recording in several:
        transcript = arguments.folder / "diarization" / f"{recording.name.replace('_', '_pyannote/')}.transcript.json"
        if transcript.exists():
            words = attributed_words(transcript, recording.seconds)
            found, written = (share_of_words(words, t) for t in (diarizer(recording.audio).turns, recording.turns))
            print(
                f"{recording.name:26s} {len(words)} words, right speaker: {found:.1%}; by the reference {written:.1%}"
            )
            spoken[recording.name] = {"found": round(100 * found, 1), "reference": round(100 * written, 1)}

    alone = {}
    for path in sorted((arguments.folder / "word_alignment" / "mfa").glob("*.wav")):
        alone[path.stem] = len(diarizer(load_audio(path)).embeddings)
        print(f"{path.stem:26s} {alone[path.stem]:3d} of  1")

    wall, processor = time.perf_counter(), time.process_time()
    for recording in several:
        diarizer(recording.audio)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    seconds = sum(recording.seconds for recording in several)
    print(f"\n{seconds / wall:.0f} times real time; {3600 * processor / seconds:.0f} processor seconds for an hour")
    speed = {"times real time": round(seconds / wall, 1), "seconds per hour": round(3600 * processor / seconds)}
    print(json.dumps({"per cent": figures, "words": spoken, "monologues": alone} | speed))


if __name__ == "__main__":
    main()
