"""Diarization error rate, exact: no frames, no rounding.

Between two neighbouring borders of turns nothing changes, so every sum below goes over such stretches of time. Speakers
found are mapped one to one onto those of the reference so that they agree for as long as possible.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from whisperx.schema import Turn

Stretch = tuple[float, frozenset[str], frozenset[str]]  # seconds, who speaks, who is said to


@dataclass(frozen=True)
class Errors:
    """Seconds; where two speak, each second counts twice."""

    missed: float
    false_alarm: float
    confusion: float
    speech: float  # in the reference

    @property
    def rate(self) -> float:
        return (self.missed + self.false_alarm + self.confusion) / self.speech if self.speech else 0.0

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(
            self.missed + other.missed,
            self.false_alarm + other.false_alarm,
            self.confusion + other.confusion,
            self.speech + other.speech,
        )


def score(
    reference: Sequence[Turn],
    found: Sequence[Turn],
    scored: tuple[float, float],
    *,
    collar: float = 0.0,
    overlap: bool = True,
) -> Errors:
    """What is wrong with the turns found between the two times `scored`.

    collar : seconds on each side of a border of a reference turn that are not scored
    overlap : score, too, where more than one speaks in the reference
    """
    stretches = list(_stretches(reference, found, scored, collar))
    if not overlap:
        stretches = [stretch for stretch in stretches if len(stretch[1]) < 2]
    together: dict[tuple[str, str], float] = {}
    for seconds, speaking, said in stretches:
        for pair in ((a, b) for a in speaking for b in said):
            together[pair] = together.get(pair, 0.0) + seconds
    agreed = best_agreement(together)
    both = sum(seconds * min(len(speaking), len(said)) for seconds, speaking, said in stretches)
    return Errors(
        missed=sum(seconds * max(0, len(speaking) - len(said)) for seconds, speaking, said in stretches),
        false_alarm=sum(seconds * max(0, len(said) - len(speaking)) for seconds, speaking, said in stretches),
        confusion=both - agreed,
        speech=sum(seconds * len(speaking) for seconds, speaking, _ in stretches),
    )


def _stretches(
    reference: Sequence[Turn], found: Sequence[Turn], scored: tuple[float, float], collar: float
) -> list[Stretch]:
    unscored = [(t - collar, t + collar) for turn in reference for t in (turn.start, turn.end)] if collar else []
    borders = {t for turn in (*reference, *found) for t in (turn.start, turn.end)}
    borders |= {t for pair in (*unscored, scored) for t in pair}
    stretches = []
    for start, end in pairwise(sorted(t for t in borders if scored[0] <= t <= scored[1])):
        middle = (start + end) / 2
        if not any(a < middle < b for a, b in unscored):
            speaking, said = (
                frozenset(turn.speaker for turn in turns if turn.start < middle < turn.end)
                for turns in (reference, found)
            )
            stretches.append((end - start, speaking, said))
    return stretches


def best_agreement(together: Mapping[tuple[str, str], float]) -> float:
    """The most that speakers and those found can agree when mapped one to one: over all subsets of those found.

    together : for a speaker and one found, how long (or in how many words) they are at once
    """
    best = {frozenset[str](): 0.0}
    others = sorted({b for _, b in together})
    for speaker in sorted({a for a, _ in together}):
        following = dict(best)  # the speaker is nobody
        for used, seconds in best.items():
            for other in others:
                if other not in used and (speaker, other) in together:
                    key = used | {other}
                    following[key] = max(following.get(key, 0.0), seconds + together[speaker, other])
        best = following
    return max(best.values())
