"""From a path to a result: one object that owns the loaded models and runs the stages in order."""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib import import_module
from itertools import groupby
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from whisperx.alignment import align, load_align_model
from whisperx.asr import find_chunks, load_model
from whisperx.audio import CHUNK_LENGTH, SAMPLE_RATE, load_audio
from whisperx.diarize import DiarizationPipeline, Diarizer, assign_speakers, assign_word_speakers, load_diarizer
from whisperx.errors import ModelError, OptionError, WhisperXError
from whisperx.inputs import STDIN, readable
from whisperx.schema import (
    AlignedTranscriptionResult,
    AlignModel,
    Audio,
    Chunk,
    DecodingOptions,
    Meter,
    SingleAlignedSegment,
    SingleSegment,
    TranscriptionResult,
)
from whisperx.vads import load_vad
from whisperx.writers import get_writer

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "DiarizationPipeline",  # this, `align` and the like: where programs written for WhisperX look for them
    "Lookahead",
    "Prepared",
    "TranscribeOptions",
    "Transcriber",
    "align",
    "assign_word_speakers",
    "get_writer",
    "load_align_model",
    "load_audio",
    "load_model",
    "seconds_of_audio",
]

logger = logging.getLogger(__name__)

InterpolateMethod = Literal["nearest", "linear", "ignore"]
_MOST_ALIGNERS = 2  # in memory: for talk that changes languages, and no more for many recordings in many
ATTENTION = "attention"  # as `align_model`: words are timed by the model that decodes


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscribeOptions:
    """What to transcribe with, and how. The names are those of the command line; `decoding` has the decoder's own.

    Raises OptionError for a number out of its range; what needs the model to be checked is checked when it is loaded.
    """

    model: str = "small"  # name, repository or folder
    model_dir: str | None = None  # where downloaded models are kept; None: the cache of huggingface_hub
    model_cache_only: bool = False  # never download
    hf_token: str | None = field(default=None, repr=False)  # for repositories that ask for one
    backend: str = "auto"
    device: str = "auto"
    device_index: int = 0
    compute_type: str = "default"  # of the weights
    threads: int = 0  # 0: as many as the backend likes
    batch_size: int | Literal["auto"] = 8  # chunks decoded at a time: changes speed and memory, never the result
    vad_method: str = "silero"
    vad_onset: float = 0.5  # speech begins at this probability
    vad_offset: float = 0.363  # and ends below this one
    chunk_size: int = CHUNK_LENGTH  # seconds of audio, at most, that are decoded as one
    no_align: bool = False  # segments as they are decoded, without words
    align_model: str | None = None  # name, repository or folder; None: that of the language; or ATTENTION
    interpolate_method: InterpolateMethod = "nearest"  # how words without a time of their own get one
    return_char_alignments: bool = False
    diarize: bool = False  # say who speaks
    diarize_model: str | None = None  # None: the one that comes with this package
    num_speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None
    speaker_embeddings: bool = False  # keep the voice of each speaker in the result, as a vector
    compat: bool = False  # words, speakers and keys of the result just as in WhisperX
    decoding: DecodingOptions = field(default_factory=DecodingOptions)  # language None: detected in each recording

    def __post_init__(self) -> None:
        if self.batch_size != "auto" and self.batch_size < 1:
            raise OptionError(f"batch_size is 1 or more, or auto, not {self.batch_size}.")
        if not 1 <= self.chunk_size <= CHUNK_LENGTH:
            raise OptionError(f"chunk_size is 1 to {CHUNK_LENGTH} seconds, not {self.chunk_size}.")

    @property
    def times_words(self) -> bool:
        """A translation has no words that are said at a time."""
        return not self.no_align and self.decoding.task == "transcribe"


class Pipeline(Protocol):
    """What `Transcriber` wants of a loaded model."""

    @property
    def device(self) -> str: ...

    def best_batch_size(self, options: DecodingOptions) -> int: ...

    def transcribe(
        self,
        audio: Audio,
        batch_size: int | None = None,
        *,
        chunks: list[Chunk],
        word_timestamps: bool | Callable[[str], bool],
        on_segment: Callable[[SingleSegment], None] | None,
        on_progress: Callable[[float, float], None] | None,
        meter: Meter | None,
    ) -> TranscriptionResult: ...


@dataclass(frozen=True)
class Prepared:
    """A recording that is read."""

    audio: Audio
    chunks: list[Chunk] | None = None  # of its speech; None: nobody has looked for it
    ahead: Meter = field(default_factory=Meter)  # what that took while the model was loaded or had another in work


class Transcriber:
    """`Transcriber(options)(path)` -> result. Each model is loaded once, when it is needed first.

    Raises OptionError for a `vad_method` that there is not, and for thresholds out of their range.
    """

    def __init__(self, options: TranscribeOptions) -> None:
        self.options = options
        self.load_seconds = 0.0  # what loading the models took
        self._vad = load_vad(options.vad_method, onset=options.vad_onset, offset=options.vad_offset)
        self._pipeline: Pipeline | None = None
        self._aligners: dict[str, tuple[AlignModel, dict[str, Any]] | None] = {}  # by language; None: there is none
        self._diarizer: Diarizer | WhisperXError | None = None  # an error: what loading it led to

    @property
    def device(self) -> str | None:
        """Where the model computes; None before it is loaded."""
        return None if self._pipeline is None else self._pipeline.device

    def load(self) -> Pipeline:
        """The pipeline that decodes, loaded now unless it has been.

        Raises ModelError, BackendError or OptionError, and nothing else: whoever sees another error knows that it
        came from a recording.
        """
        if self._pipeline is None:
            start = perf_counter()
            try:
                self._pipeline = self._load()
            except WhisperXError:
                raise
            except Exception as error:
                raise ModelError(
                    f"The model {self.options.model!r} could not be loaded: {type(error).__name__}: {error}"
                ) from error
            self.load_seconds += perf_counter() - start
        return self._pipeline

    def read(self, path: str | os.PathLike[str], meter: Meter) -> Audio:
        """The sound of a recording ("-": of what stdin holds).

        Raises AudioError for a recording that cannot be read.
        """
        with readable(os.fspath(path)) as file, meter.time("decode audio"):
            return load_audio(file)

    def find_speech(self, audio: Audio, meter: Meter) -> list[Chunk]:
        """The chunks to decode of a recording, in order of time. No model is loaded for that.

        Raises ClipError for one that ends before a clip begins.
        """
        with meter.time("vad"):
            return find_chunks(self._vad, audio, self.options.chunk_size, self.options.decoding.clip_timestamps)

    def __call__(
        self,
        recording: str | os.PathLike[str] | Prepared,
        *,
        on_segment: Callable[[SingleSegment], None] | None = None,
        on_progress: Callable[[float, float], None] | None = None,
        on_problem: Callable[[Exception], None] | None = None,
        meter: Meter | None = None,
    ) -> TranscriptionResult | AlignedTranscriptionResult:
        """Transcribe one recording.

        recording : its path, or what `Lookahead` has made of it
        on_segment : called with each segment, in order of time, as soon as it is decoded
        on_progress : called with the seconds of audio that are done and the seconds there are
        on_problem : called with the error of a stage after decoding, without which the result is returned all the same;
            None: the error is raised
        meter : gets the seconds of each stage, loading the model left out, and counts, among them "samples" at 16 kHz

        Raises AudioError for a recording that cannot be read, and what `load` raises.
        """
        meter = meter or Meter()
        prepared = self._prepared(recording, meter)
        chunks = self.find_speech(prepared.audio, meter) if prepared.chunks is None else prepared.chunks
        pipeline = self.load()
        result: Any = pipeline.transcribe(
            prepared.audio,
            batch_size=self._batch_size(pipeline),
            chunks=chunks,
            word_timestamps=self._needs_attention if self.options.times_words else False,
            on_segment=on_segment,
            on_progress=on_progress,
            meter=meter,
        )
        return cast(TranscriptionResult, self._finished(result, prepared.audio, on_problem, meter))

    def align_only(
        self,
        recording: str | os.PathLike[str] | Prepared,
        transcript: Iterable[SingleSegment],
        language: str,
        *,
        on_problem: Callable[[Exception], None] | None = None,
        meter: Meter | None = None,
    ) -> AlignedTranscriptionResult:
        """Word times, and speakers if they are asked for, for a transcript that is known: nothing is decoded.

        transcript : segments of this recording, with `text`, `start` and `end`
        language : its code

        Raises what `load_align_model` raises where there is no alignment model for the language; the rest is as above.
        """
        meter = meter or Meter()
        prepared = self._prepared(recording, meter)
        if self._aligners.get(language) is None:
            self._keep_aligner(language)
        result = {"segments": list(transcript), "language": language}
        return cast(AlignedTranscriptionResult, self._finished(result, prepared.audio, on_problem, meter))

    def _finished(
        self, result: Any, audio: Audio, on_problem: Callable[[Exception], None] | None, meter: Meter
    ) -> dict[str, Any]:
        """A transcript with words and speakers, as far as they are asked for."""
        stages: dict[str, Callable[[Any, Audio], Any]] = {}
        if self.options.times_words:
            stages["align"] = self._aligned
        if self.options.diarize:
            stages["diarize"] = self._diarized
        for stage, run in stages.items():
            load_seconds, start = self.load_seconds, perf_counter()
            try:
                result = run(result, audio)
            except Exception as error:
                if on_problem is None:
                    raise
                on_problem(error)
            meter.add_seconds(stage, perf_counter() - start - (self.load_seconds - load_seconds))
        return _as_whisperx(result) if self.options.compat else result

    def _needs_attention(self, language: str) -> bool:
        """Whether words in this language are timed by the model that decodes."""
        return self.options.align_model == ATTENTION or self._aligner(language) is None

    def _aligner(self, language: str) -> tuple[AlignModel, dict[str, Any]] | None:
        """The alignment model for a language; None, and one warning, where there is none to be had."""
        if language not in self._aligners:
            try:
                self._keep_aligner(language)
            except Exception as error:
                logger.warning("words in %r are timed by the model's attention instead: %s", language, error)
                self._aligners[language] = None
        return self._aligners[language]

    def _keep_aligner(self, language: str) -> None:
        """Load the alignment model for a language, the oldest given up where there would be too many."""
        loaded = [code for code, aligner in self._aligners.items() if aligner is not None]
        if len(loaded) >= _MOST_ALIGNERS:
            del self._aligners[loaded[0]]
        options, start = self.options, perf_counter()
        try:
            self._aligners[language] = load_align_model(
                language,
                options.device,
                model_name=options.align_model,
                model_dir=options.model_dir,
                model_cache_only=options.model_cache_only,
            )
        finally:
            self.load_seconds += perf_counter() - start

    def _aligned(self, result: TranscriptionResult, audio: Audio) -> AlignedTranscriptionResult:
        """The result with words; neighbours in one language are aligned together."""
        segments: list[SingleAlignedSegment] = []
        by_language = groupby(result["segments"], key=lambda segment: segment.get("language", result["language"]))
        for language, group in by_language:
            aligned = self._align(list(group), language, audio)
            if any("language" in segment for segment in result["segments"]):
                aligned = [{**segment, "language": language} for segment in aligned]
            segments += aligned
        words = [word for segment in segments for word in segment["words"]]
        return cast(
            AlignedTranscriptionResult,
            {"segments": segments, "word_segments": words, **_without(result, "segments")},
        )

    def _align(self, segments: list[SingleSegment], language: str, audio: Audio) -> list[SingleAlignedSegment]:
        aligner = None if self.options.align_model == ATTENTION else self._aligner(language)
        if aligner is None:
            return [_with_its_words(segment) for segment in segments]
        return align(
            segments,
            *aligner,
            audio,
            self.options.device,
            interpolate_method=self.options.interpolate_method,
            return_char_alignments=self.options.return_char_alignments,
            compat=self.options.compat,
        )["segments"]

    def _diarized(self, result: dict[str, Any], audio: Audio) -> dict[str, Any]:
        """The result with speakers."""
        options = self.options
        found = self._load_diarizer()(
            audio,
            num_speakers=options.num_speakers,
            min_speakers=options.min_speakers,
            max_speakers=options.max_speakers,
        )
        assign_speakers(found.turns, result, compat=options.compat)
        words = [word for segment in result["segments"] for word in segment.get("words", ())]
        return {
            "segments": result["segments"],
            **({"word_segments": words} if "word_segments" in result else {}),
            **({"speaker_embeddings": found.embeddings} if options.speaker_embeddings and found.embeddings else {}),
            **_without(result, "segments", "word_segments"),
        }

    def _load_diarizer(self) -> Diarizer:
        """The diarizer, loaded now unless it has been. Raises WhisperXError, the same each time."""
        if self._diarizer is None:
            options, start = self.options, perf_counter()
            try:
                self._diarizer = load_diarizer(
                    options.diarize_model,
                    token=options.hf_token,
                    cache_dir=options.model_dir,
                    local_files_only=options.model_cache_only,
                    device=options.device,
                )
            except WhisperXError as error:
                self._diarizer = error
            self.load_seconds += perf_counter() - start
        if isinstance(self._diarizer, WhisperXError):
            raise self._diarizer
        return self._diarizer

    def _prepared(self, recording: str | os.PathLike[str] | Prepared, meter: Meter) -> Prepared:
        prepared = recording if isinstance(recording, Prepared) else Prepared(self.read(recording, meter))
        meter.count("samples", len(prepared.audio))
        return prepared

    def _batch_size(self, pipeline: Pipeline) -> int:
        size = self.options.batch_size
        return pipeline.best_batch_size(self.options.decoding) if size == "auto" else size

    def _load(self) -> Pipeline:
        options = self.options
        asr_options = asdict(options.decoding)
        task, language = asr_options.pop("task"), asr_options.pop("language")
        return load_model(
            options.model,
            device=options.device,
            device_index=options.device_index,
            compute_type=options.compute_type,
            asr_options=asr_options,
            language=language,
            task=task,
            download_root=options.model_dir,
            local_files_only=options.model_cache_only,
            threads=options.threads,
            use_auth_token=options.hf_token,
            backend=options.backend,
        )


def _with_its_words(segment: SingleSegment) -> SingleAlignedSegment:
    """A segment as `align` returns them, with the words that the decoder has timed."""
    words = segment.get("words", [])
    aligned = {"start": segment["start"], "end": segment["end"], "text": segment["text"], "words": words}
    if "avg_logprob" in segment:
        aligned["avg_logprob"] = segment["avg_logprob"]
    return cast(SingleAlignedSegment, aligned)


def _without(result: Any, *keys: str) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in keys}


_KEYS_OF_WHISPERX = ("segments", "word_segments", "speaker_embeddings", "language")
_KEYS_OF_ITS_SEGMENTS = ("text", "start", "end", "words", "chars", "avg_logprob", "speaker")


def _as_whisperx(result: dict[str, Any]) -> dict[str, Any]:
    """The result without the keys that WhisperX does not write."""
    segments = [
        {key: value for key, value in segment.items() if key in _KEYS_OF_ITS_SEGMENTS} for segment in result["segments"]
    ]
    return {"segments": segments, **{key: result[key] for key in _KEYS_OF_WHISPERX[1:] if key in result}}


class Lookahead:
    """Prepares a recording in a thread while the model is loaded or works on the one before; never more than one ahead.

    finds_speech : off where only words of a known text are to be timed

    What comes out does not depend on it: preparing is the same work in another thread.
    """

    def __init__(self, transcriber: Transcriber, paths: Sequence[str], *, finds_speech: bool = True) -> None:
        self._transcriber = transcriber
        self._paths = paths
        self._finds_speech = finds_speech
        self._thread = ThreadPoolExecutor(1, "whisperx-lookahead")
        self._started: dict[int, tuple[Future[Audio], Future[Prepared]]] = {}

    def __enter__(self) -> "Lookahead":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def start(self, index: int) -> None:
        """Begin to prepare the recording of this index, if there is one.

        Not stdin: a thread that waits for it cannot be interrupted, and would hold up the end of the process.
        """
        if index < len(self._paths) and self._paths[index] != STDIN:
            meter = Meter()
            audio = self._thread.submit(self._transcriber.read, self._paths[index], meter)
            self._started[index] = audio, self._thread.submit(self._prepare, audio.result, meter)

    def can_be_read(self, index: int, meter: Meter) -> bool:
        """Whether there is anything to load a model for; `take` raises why not. Waits until that is known."""
        if index not in self._started:
            return True
        audio, _ = self._started[index]
        with meter.time("wait for audio"):
            return audio.exception() is None

    def take(self, index: int, meter: Meter) -> Prepared:
        """The recording of this index, prepared now unless it has been.

        Raises AudioError for a recording that cannot be read, ClipError for one that ends before a clip begins.
        """
        if index not in self._started:
            return Prepared(self._transcriber.read(self._paths[index], meter))
        _, prepared = self._started.pop(index)
        with meter.time("wait for audio"):
            return prepared.result()

    def _prepare(self, audio: Callable[[], Audio], meter: Meter) -> Prepared:
        chunks = self._transcriber.find_speech(audio(), meter) if self._finds_speech else None
        return Prepared(audio(), chunks, ahead=meter)


def seconds_of_audio(meter: Meter) -> float:
    """Length of the recording that `meter` has seen."""
    return meter.counts.get("samples", 0) / SAMPLE_RATE


def __getattr__(name: str) -> Any:
    if name == "transcribe_task":  # lives with the command, but WhisperX has it here
        return import_module("whisperx.cli").transcribe_task
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
