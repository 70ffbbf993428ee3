"""From a path to a result: one object that owns the loaded models and runs the stages in order."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Protocol

from whisperx.asr import load_model
from whisperx.audio import CHUNK_LENGTH, SAMPLE_RATE, load_audio
from whisperx.errors import ModelError, OptionError, WhisperXError
from whisperx.schema import Audio, DecodingOptions, Meter, SingleSegment, TranscriptionResult


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
    batch_size: int = 8  # chunks decoded at a time: changes speed and memory, never the result
    vad_method: str = "silero"
    vad_onset: float = 0.5  # speech begins at this probability
    vad_offset: float = 0.363  # and ends below this one
    chunk_size: int = CHUNK_LENGTH  # seconds of audio, at most, that are decoded as one
    decoding: DecodingOptions = field(default_factory=DecodingOptions)  # language None: detected in each recording

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise OptionError(f"batch_size is 1 or more, not {self.batch_size}.")
        if not 1 <= self.chunk_size <= CHUNK_LENGTH:
            raise OptionError(f"chunk_size is 1 to {CHUNK_LENGTH} seconds, not {self.chunk_size}.")


class Pipeline(Protocol):
    """What `Transcriber` wants of a loaded model."""

    @property
    def device(self) -> str: ...

    def transcribe(
        self,
        audio: Audio,
        batch_size: int | None = None,
        *,
        chunk_size: int,
        on_segment: Callable[[SingleSegment], None] | None,
        on_progress: Callable[[float, float], None] | None,
        meter: Meter | None,
    ) -> TranscriptionResult: ...


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

    def __call__(
        self,
        path: str | os.PathLike[str],
        *,
        on_segment: Callable[[SingleSegment], None] | None = None,
        on_progress: Callable[[float, float], None] | None = None,
        meter: Meter | None = None,
    ) -> TranscriptionResult:
        """Transcribe one recording.

        on_segment : called with each segment, in order of time, as soon as it is decoded
        on_progress : called with the seconds of audio that are done and the seconds there are
        meter : gets the seconds of each stage, loading the model left out, and counts, among them "samples" at 16 kHz

        Raises AudioError for a recording that cannot be read, and what `load` raises.
        """
        meter = meter or Meter()
        with meter.time("decode audio"):
            audio = load_audio(path)
        meter.count("samples", len(audio))
        return self.load().transcribe(
            audio,
            batch_size=self.options.batch_size,
            chunk_size=self.options.chunk_size,
            on_segment=on_segment,
            on_progress=on_progress,
            meter=meter,
        )

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


def seconds_of_audio(meter: Meter) -> float:
    """Length of the recording that `meter` has seen."""
    return meter.counts.get("samples", 0) / SAMPLE_RATE
