"""The nouns of the project: what each stage takes and returns.

`load_audio -> detect_speech -> pack -> decode -> write`; audio is float32 `(n_samples,)`, 16 kHz mono, and every time
is in seconds. The TypedDicts have the keys of WhisperX, in its order.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from numbers import Real
from time import perf_counter
from typing import Any, Literal, NotRequired, Protocol, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

from whisperx.errors import OptionError

Audio: TypeAlias = npt.NDArray[np.float32]  # (n_samples,), 16 kHz mono, in [-1, 1]
Emission: TypeAlias = npt.NDArray[np.float32]  # (n_frames, n_labels), log-probabilities
Task: TypeAlias = Literal["transcribe", "translate"]
ProgressCallback: TypeAlias = Callable[[float], None] | None  # called with 0..100


class SingleSegment(TypedDict):
    """A piece of transcript as the decoder returns it."""

    text: str  # with Whisper's leading space
    start: float
    end: float
    avg_logprob: NotRequired[float]  # of the chunk, as are the next three
    no_speech_prob: NotRequired[float]
    compression_ratio: NotRequired[float]
    temperature: NotRequired[float]
    tokens: NotRequired[list[int]]  # of this piece
    words: NotRequired[list["SingleWordSegment"]]  # where the decoder was asked for them
    language: NotRequired[str]  # of the chunk, where each was asked for its own
    speaker: NotRequired[str]  # in transcripts that come with speakers


class TranscriptionResult(TypedDict):
    """The result of one recording."""

    segments: list[SingleSegment]
    language: str
    language_probability: NotRequired[float]  # 1 where the language was given


class SingleWordSegment(TypedDict):
    """A word and when it is said. WhisperX leaves `start`, `end` and `score` out where it finds no time."""

    word: str
    start: NotRequired[float]
    end: NotRequired[float]
    score: NotRequired[float]  # mean probability of its characters, or of its tokens
    speaker: NotRequired[str]


class SingleCharSegment(TypedDict):
    """A character and when it is said."""

    char: str
    start: NotRequired[float]
    end: NotRequired[float]
    score: NotRequired[float]


class SegmentData(TypedDict):
    """WhisperX's notes on a segment before it is aligned, for programs that name the type."""

    clean_char: list[str]  # what can be aligned
    clean_cdx: list[int]  # its positions in the text
    clean_wdx: list[int]  # indices of words
    sentence_spans: list[tuple[int, int]]  # in characters


class SingleAlignedSegment(TypedDict):
    """A sentence with its words."""

    start: float
    end: float
    text: str
    words: list[SingleWordSegment]
    chars: NotRequired[list[SingleCharSegment] | None]
    avg_logprob: NotRequired[float]
    speaker: NotRequired[str]
    language: NotRequired[str]  # where each chunk was asked for its own


class AlignedTranscriptionResult(TypedDict):
    """The result of one recording with word times; `word_segments` holds the very dicts of the segments' words."""

    segments: list[SingleAlignedSegment]
    word_segments: list[SingleWordSegment]
    language: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Turn:
    """When a speaker speaks, in seconds."""

    start: float
    end: float
    speaker: str


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
            self.add_seconds(stage, perf_counter() - start)

    def add_seconds(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def count(self, thing: str, n: int = 1) -> None:
        self.counts[thing] = self.counts.get(thing, 0) + n


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """How chunks become text. `replace()` makes a variant."""

    task: Task = "transcribe"
    language: str | None = None  # code, as "en"; None: heard in each chunk by itself

    # What stands before the transcript in every chunk.
    initial_prompt: str | tuple[int, ...] | None = None  # text, or its tokens, that could have gone before
    hotwords: str | None = None  # words to expect; left out where there is a prefix
    prefix: str | None = None  # text that the transcript of each chunk begins with
    condition_on_previous_text: bool = False  # the transcript so far, too; then chunks wait for each other: slower
    prompt_reset_on_temperature: float = 0.5  # but not from before a chunk that took a higher temperature than this

    # Which tokens may come.
    without_timestamps: bool = True  # one segment for each chunk, as WhisperX; else segments by the model's timestamps
    max_initial_timestamp: float = 0.0  # seconds into a chunk by which its first segment begins
    suppress_blank: bool = True  # a transcript does not begin with a blank or end at once
    suppress_tokens: tuple[int, ...] = (-1,)  # never sampled; -1: non-speech annotations, and the model's own list
    suppress_numerals: bool = False  # neither are tokens with a digit or one of % $ £: numbers come out as words
    repetition_penalty: float = 1.0  # above 1, tokens that were there already become less likely
    no_repeat_ngram_size: int = 0  # above 0, so many tokens in a row never stand twice in a chunk
    max_new_tokens: int | None = None  # per chunk; None: all it takes, see models.whisper.attempts

    # How a token is chosen, and when a transcript is good enough.
    beam_size: int = 5  # transcripts followed side by side at temperature 0; 1: the likeliest token each time
    patience: float = 1.0  # a beam search is over when beam_size * patience of them have ended; more takes longer
    length_penalty: float = 1.0  # of those the best by sum of log-probabilities / length ** this; less: shorter text
    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # tried in turn; 0: the likeliest token
    best_of: int = 5  # transcripts sampled at a temperature above 0, of which the likeliest is kept
    compression_ratio_threshold: float | None = 2.4  # above: too repetitive, the next temperature is tried
    log_prob_threshold: float | None = -1.0  # below, on average: too unsure, likewise
    no_speech_threshold: float | None = 0.6  # above, and too unsure: silence, without text
    seed: int = 0  # of the sampling; text depends on it only where the first temperature did not do

    word_timestamps: bool = False  # when each word is said, too: where the model listened while it chose it

    # Which seconds of a recording are decoded, in place of the speech that is found: start, end, start, end, ...; the
    # last clip without an end reaches to that of the recording. Empty: all speech. See `clip_times` for other forms.
    clip_timestamps: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        # As programs written for WhisperX give them: a number or a list.
        temperatures = self.temperatures
        if isinstance(temperatures, Real):
            temperatures = (float(temperatures),)
        object.__setattr__(self, "temperatures", tuple(temperatures))
        object.__setattr__(self, "suppress_tokens", tuple(self.suppress_tokens or ()))
        object.__setattr__(self, "clip_timestamps", clip_times(self.clip_timestamps))
        ranges: dict[str, tuple[bool, str]] = {
            "task": (self.task in ("transcribe", "translate"), "transcribe or translate"),
            "max_initial_timestamp": (0 <= self.max_initial_timestamp <= 30, "0 to 30 seconds"),
            "repetition_penalty": (self.repetition_penalty > 0, "more than 0"),
            "no_repeat_ngram_size": (self.no_repeat_ngram_size >= 0, "0 or more"),
            "max_new_tokens": (self.max_new_tokens is None or self.max_new_tokens > 0, "1 or more"),
            "beam_size": (self.beam_size >= 1, "1 or more"),
            "patience": (
                0 < self.patience < float("inf") and round(self.beam_size * self.patience) >= 1,
                "more than 0, and beam_size * patience 1 or more",
            ),
            "length_penalty": (isfinite(self.length_penalty), "a finite number"),
            "temperatures": (
                len(self.temperatures) > 0 and all(0 <= t < float("inf") for t in self.temperatures),
                "one or more numbers, each 0 or more",
            ),
            "best_of": (self.best_of >= 1, "1 or more"),
        }
        for name, (is_fine, expected) in ranges.items():
            if not is_fine:
                raise OptionError(f"{name} is {expected}, not {getattr(self, name)!r}.")


def clip_times(clips: object) -> tuple[float, ...]:
    """The clips of a recording as start, end, start, end, ... in seconds; the last end may be missing.

    clips : the same as numbers in a sequence or as text with commas between ("0,30,60"), as openai-whisper takes them;
        `{"start": 0, "end": 30}` for each, as faster-whisper takes them; or None for none

    Raises OptionError for clips that are something else, end before they start, or overlap or go back in time.
    """
    expected = 'pairs of start and end in seconds that do not go back, as "0,30,60,90"'
    items: Any = () if clips is None else clips
    given: list[Any] = []
    try:
        for item in items.split(",") if isinstance(items, str) and items else items:
            given += [item["start"], item["end"]] if isinstance(item, Mapping) else [item]
        times = tuple(float(time) for time in given)
    except (TypeError, ValueError, KeyError) as error:
        raise OptionError(f"clip_timestamps is {expected}, not {clips!r}.") from error
    is_in_order = all(before <= after for before, after in pairwise(times))
    has_lengths = all(start < end for start, end in zip(times[::2], times[1::2], strict=False))
    if not (is_in_order and has_lengths and all(isfinite(time) and time >= 0 for time in times)):
        raise OptionError(f"clip_timestamps is {expected}, not {clips!r}.")
    return times


@dataclass(frozen=True, slots=True)
class TimedText:
    """A piece of a chunk's transcript between two timestamps, in seconds from the start of the chunk."""

    text: str
    start: float
    end: float
    tokens: tuple[int, ...]  # of the text


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word of a chunk's transcript and when it is said, in seconds from the start of the chunk."""

    word: str  # with its space and punctuation: the words of a chunk joined are its text
    start: float
    end: float
    probability: float  # mean of its tokens'


@dataclass(frozen=True, slots=True)
class DecodingResult:
    """What the decoder heard in one chunk."""

    text: str  # with Whisper's leading space; empty where the chunk is silence
    tokens: tuple[int, ...]  # without prompt and end of text
    language: str
    avg_logprob: float  # sum of the log-probabilities of the tokens and the end of text / (number of tokens + 1)
    no_speech_prob: float  # of the no-speech token where the transcript starts
    temperature: float  # at which it was decoded
    compression_ratio: float  # of the text by zlib: 2 and more means that it repeats itself
    pieces: tuple[TimedText, ...] | None  # the text by its timestamps; None: decoded without them
    words: tuple[TimedWord, ...] | None = None  # None: not asked for


class Backend(Protocol):
    """An engine that turns chunks of audio into text. Waveforms cross this seam, never mel or device arrays."""

    @property
    def device(self) -> str:
        """Where it computes, for people: "gpu:0", or "cpu" and with what."""

    @property
    def is_multilingual(self) -> bool:
        """Whether the model knows more than English."""

    @property
    def tokenizer(self) -> Any:
        """Its vocabulary, a `tokenizer.Tokenizer`, for those who want to look at tokens."""

    def best_batch_size(self, options: DecodingOptions) -> int:
        """How many chunks to decode at a time with these options: as many as make it faster and fit into memory."""

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

    def time_words(
        self, chunks: Sequence[Audio], texts: Sequence[str], language: str
    ) -> Sequence[tuple[TimedWord, ...]]:
        """When the words of a known text are said in each chunk of at most 30 s; joined they are the text.

        Raises OptionError for a text with more tokens than the model reads at once.
        """


class Vad(Protocol):
    """Anything that finds speech: audio float32 `(n_samples,)` at 16 kHz -> spans in time order, not overlapping."""

    def __call__(self, audio: Audio) -> list[Span]: ...


class AlignModel(Protocol):
    """A network that hears which character is said when (CTC): what `whisperx.alignment` asks of one.

    Its labels (metadata["dictionary"], character -> column) do not belong to it: columns are all it knows.
    """

    @property
    def frame_seconds(self) -> float:
        """Time from one frame to the next: frame i stands for i * frame_seconds to (i + 1) * frame_seconds."""

    def emissions(self, audio: Sequence[Audio], batch_size: int, *, compat: bool = False) -> list[Emission]:
        """Log-probabilities of the labels in each frame of each recording, in the order of `audio`.

        audio : float32 (n_samples,), 16 kHz mono, in any mix of lengths; each at least 400 samples and, since memory
            grows with the square of the length, seldom more than 30 s: the caller cuts longer ones.
        batch_size : how many recordings are computed at a time; changes speed and memory, never the results.
        compat : audio goes in as WhisperX lets it go in, which does not normalise it for models that want it so.

        Returns one float32 (n_frames, n_labels) for each recording, without frames of padding.
        """
