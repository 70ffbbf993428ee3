"""The nouns of the project: what each stage takes and returns.

`load_audio -> detect_speech -> pack -> decode -> write`; audio is float32 `(n_samples,)`, 16 kHz mono, and every time
is in seconds. The TypedDicts have the keys of WhisperX, in its order.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal, NotRequired, Protocol, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

Audio: TypeAlias = npt.NDArray[np.float32]  # (n_samples,), 16 kHz mono, in [-1, 1]
Task: TypeAlias = Literal["transcribe", "translate"]
ProgressCallback: TypeAlias = Callable[[float], None] | None  # called with 0..100


class SingleSegment(TypedDict):
    """A piece of transcript as the decoder returns it."""

    text: str  # with Whisper's leading space
    start: float
    end: float
    avg_logprob: NotRequired[float]


class TranscriptionResult(TypedDict):
    """The result of one recording."""

    segments: list[SingleSegment]
    language: str


@dataclass(frozen=True, slots=True)
class Span:
    """Where somebody speaks, in seconds."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """Merged spans of at most 30 s and the samples between the first start and the last end: one row of the decoder."""

    start: float
    end: float
    spans: tuple[Span, ...]
    samples: Audio


@dataclass
class Meter:
    """Seconds spent in each stage and things counted on the way, of one recording.

    Stages never nest, so their sum is at most the wall time.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - start

    def count(self, thing: str, n: int = 1) -> None:
        self.counts[thing] = self.counts.get(thing, 0) + n


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """How chunks become text. `replace()` makes a variant."""

    task: Task = "transcribe"
    language: str | None = None  # code, as "en"; None only for models that know English alone
    without_timestamps: bool = True  # do not ask the model for timestamps, as WhisperX
    suppress_blank: bool = True  # a transcript does not begin with a blank or end at once
    suppress_tokens: tuple[int, ...] = (
        -1,
    )  # never sampled; -1 stands for the non-speech annotations of the vocabulary
    suppress_numerals: bool = False  # neither are tokens with a digit or one of % $ £: numbers come out as words
    max_new_tokens: int | None = None  # per chunk; None: as many as the text context holds


@dataclass(frozen=True, slots=True)
class DecodingResult:
    """What the decoder heard in one chunk."""

    text: str  # with Whisper's leading space
    tokens: tuple[int, ...]  # without prompt and end of text
    language: str
    avg_logprob: float  # sum of the log-probabilities of the tokens and the end of text / (number of tokens + 1)
    no_speech_prob: float  # of the no-speech token where the transcript starts


class Backend(Protocol):
    """An engine that turns chunks of audio into text. Waveforms cross this seam, never mel or device arrays."""

    @property
    def is_multilingual(self) -> bool:
        """Whether the model knows more than English."""

    def detect_language(self, audio: Audio) -> tuple[str, float]:
        """Language code and its probability, of at most 30 s of audio."""

    def decode(
        self,
        chunks: Sequence[Audio],
        options: DecodingOptions,
        *,
        batch_size: int,
        on_result: Callable[[int, DecodingResult], None],
        meter: Meter,
    ) -> list[DecodingResult]:
        """Text of each chunk of at most 30 s. `on_result(i, result)` is called when chunk i is ready, in any order.

        `batch_size` chunks are decoded at a time; it changes speed and memory, never the results.
        """


class Vad(Protocol):
    """Anything that finds speech: audio float32 `(n_samples,)` at 16 kHz -> spans in time order, not overlapping."""

    def __call__(self, audio: Audio) -> list[Span]: ...
