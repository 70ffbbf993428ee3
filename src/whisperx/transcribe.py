"""From a path to a result: one object that owns the loaded models and runs the stages in order."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, Protocol

from whisperx.asr import load_model
from whisperx.audio import CHUNK_LENGTH, SAMPLE_RATE, load_audio
from whisperx.errors import ModelError, OptionError, WhisperXError
from whisperx.inputs import readable
from whisperx.schema import Audio, Chunk, DecodingOptions, Meter, SingleSegment, TranscriptionResult
from whisperx.writers import get_writer

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "Lookahead",
    "Prepared",
    "TranscribeOptions",
    "Transcriber",
    "get_writer",  # this and the next are here because programs written for WhisperX look for them here
    "load_audio",
    "load_model",
    "seconds_of_audio",
]


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
    decoding: DecodingOptions = field(default_factory=DecodingOptions)  # language None: detected in each recording

    def __post_init__(self) -> None:
        if self.batch_size != "auto" and self.batch_size < 1:
            raise OptionError(f"batch_size is 1 or more, or auto, not {self.batch_size}.")
        if not 1 <= self.chunk_size <= CHUNK_LENGTH:
            raise OptionError(f"chunk_size is 1 to {CHUNK_LENGTH} seconds, not {self.chunk_size}.")


class Pipeline(Protocol):
    """What `Transcriber` wants of a loaded model."""

    @property
    def device(self) -> str: ...

    def best_batch_size(self, options: DecodingOptions) -> int: ...

    def find_speech(self, audio: Audio, chunk_size: float) -> list[Chunk]: ...

    def transcribe(
        self,
        audio: Audio,
        batch_size: int | None = None,
        *,
        chunks: list[Chunk],
        on_segment: Callable[[SingleSegment], None] | None,
        on_progress: Callable[[float, float], None] | None,
        meter: Meter | None,
    ) -> TranscriptionResult: ...


@dataclass(frozen=True)
class Prepared:
    """A recording that is read."""

    audio: Audio
    chunks: list[Chunk] | None  # None: nobody has looked for its speech yet
    ahead: Meter = field(default_factory=Meter)  # what that took while the recording before was in work


class Transcriber:
    """`Transcriber(options)(path)` -> result. The model is loaded once, when the first recording has been read."""

    def __init__(self, options: TranscribeOptions) -> None:
        self.options = options
        self.load_seconds = 0.0  # what loading the model took
        self._pipeline: Pipeline | None = None

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
            self.load_seconds = perf_counter() - start
        return self._pipeline

    def prepare(self, path: str | os.PathLike[str], meter: Meter | None = None) -> Prepared:
        """The sound of a recording ("-": of what stdin holds), and its speech if the model is loaded by now.

        Raises AudioError for a recording that cannot be read.
        """
        meter = meter or Meter()
        with readable(os.fspath(path)) as file, meter.time("decode audio"):
            audio = load_audio(file)
        return Prepared(audio, None if self._pipeline is None else self._find_speech(audio, meter))

    def __call__(
        self,
        recording: str | os.PathLike[str] | Prepared,
        *,
        on_segment: Callable[[SingleSegment], None] | None = None,
        on_progress: Callable[[float, float], None] | None = None,
        meter: Meter | None = None,
    ) -> TranscriptionResult:
        """Transcribe one recording.

        recording : its path, or what `prepare` has made of it
        on_segment : called with each segment, in order of time, as soon as it is decoded
        on_progress : called with the seconds of audio that are done and the seconds there are
        meter : gets the seconds of each stage, loading the model left out, and counts, among them "samples" at 16 kHz

        Raises AudioError for a recording that cannot be read, and what `load` raises.
        """
        meter = meter or Meter()
        prepared = recording if isinstance(recording, Prepared) else self.prepare(recording, meter)
        meter.count("samples", len(prepared.audio))
        pipeline = self.load()
        chunks = self._find_speech(prepared.audio, meter) if prepared.chunks is None else prepared.chunks
        return pipeline.transcribe(
            prepared.audio,
            batch_size=self._batch_size(pipeline),
            chunks=chunks,
            on_segment=on_segment,
            on_progress=on_progress,
            meter=meter,
        )

    def _find_speech(self, audio: Audio, meter: Meter) -> list[Chunk]:
        with meter.time("vad"):
            return self.load().find_speech(audio, self.options.chunk_size)

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
            vad_method=options.vad_method,
            vad_options={
                "vad_onset": options.vad_onset,
                "vad_offset": options.vad_offset,
                "chunk_size": options.chunk_size,
            },
            task=task,
            download_root=options.model_dir,
            local_files_only=options.model_cache_only,
            threads=options.threads,
            use_auth_token=options.hf_token,
            backend=options.backend,
        )


class Lookahead:
    """Prepares the next recording in a thread while the model works on this one; never more than one ahead.

    What comes out does not depend on it: preparing is the same work in another thread.
    """

    def __init__(self, transcriber: Transcriber, paths: Sequence[str]) -> None:
        self._transcriber = transcriber
        self._paths = paths
        self._thread = ThreadPoolExecutor(1, "whisperx-lookahead")
        self._started: dict[int, Future[Prepared]] = {}

    def __enter__(self) -> "Lookahead":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def start(self, index: int) -> None:
        """Begin to prepare the recording of this index, if there is one."""
        if index < len(self._paths):
            self._started[index] = self._thread.submit(self._prepare, self._paths[index])

    def take(self, index: int, meter: Meter) -> Prepared:
        """The recording of this index, prepared now unless it has been. Raises what `Transcriber.prepare` raises."""
        if index not in self._started:
            return self._transcriber.prepare(self._paths[index], meter)
        with meter.time("wait for audio"):
            return self._started.pop(index).result()

    def _prepare(self, path: str) -> Prepared:
        meter = Meter()
        return replace(self._transcriber.prepare(path, meter), ahead=meter)


def seconds_of_audio(meter: Meter) -> float:
    """Length of the recording that `meter` has seen."""
    return meter.counts.get("samples", 0) / SAMPLE_RATE


def __getattr__(name: str) -> Any:
    if name == "transcribe_task":  # lives with the command, but WhisperX has it here
        return import_module("whisperx.cli").transcribe_task
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
