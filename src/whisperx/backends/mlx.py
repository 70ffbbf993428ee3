"""The MLX engine: Whisper on Metal, CUDA or a CPU, many chunks at a time, the same bytes whatever the batch size."""

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import whisperx.models  # noqa: F401 before MLX, which takes the BLAS that is loaded by then

# isort: split
import mlx.core as mx
import numpy as np

from whisperx.audio import N_SAMPLES, log_mel_spectrogram, pad_or_trim
from whisperx.backends.batch_size import available_memory, batch_size_for, fewer_chunks, halved, physical_memory
from whisperx.backends.host_memory import give_back
from whisperx.checkpoints import load_checkpoint
from whisperx.errors import OptionError
from whisperx.models.blas import advice, blas_in_use, set_blas_threads
from whisperx.models.devices import find_device
from whisperx.models.ops import Array
from whisperx.models.whisper.attempts import Attempts
from whisperx.models.whisper.beam import BeamBatch
from whisperx.models.whisper.compute_types import find_compute_type
from whisperx.models.whisper.decoding import Batch, RunningBatch, logprobs_on_host, run
from whisperx.models.whisper.filters import TokenRules
from whisperx.models.whisper.loading import build_whisper
from whisperx.models.whisper.model import KeyValue
from whisperx.models.whisper.row import Row
from whisperx.models.whisper.timing import SAMPLES_PER_FRAME, timed_words, token_times
from whisperx.schema import Audio, DecodingOptions, DecodingResult, Meter, Task, TimedWord
from whisperx.tokenizer import read_tokenizer

_MOST_KEPT = 32  # chunks whose features wait for another attempt: a few MB each

logger = logging.getLogger(__name__)


class _Encoded(NamedTuple):
    """What the encoder has made of a chunk."""

    audio: Audio
    features: Array  # (1, n_audio_ctx, n_audio_state)
    cross: list[KeyValue]  # what the decoder makes of them: many times as large


class MlxBackend:
    """`schema.Backend` on MLX, for one checkpoint.

    Calls from several threads take turns: one model has one device queue.
    """

    def __init__(
        self,
        model: Path,
        *,
        device: str = "auto",
        device_index: int = 0,
        compute_type: str = "default",
    ) -> None:
        checkpoint = load_checkpoint(model)
        self.dims = checkpoint.dims
        folder = model if model.is_dir() else model.parent
        self.tokenizer = read_tokenizer(folder, checkpoint.dims.n_vocab, checkpoint.generation_config)
        self._alignment_heads = checkpoint.alignment_heads
        self._lock = threading.Lock()
        self._max_slots = sys.maxsize  # chunks decoded at a time that memory is known to hold
        self._encoded: _Encoded | None = None  # the newest, wanted again by decode or another sample
        self._device = find_device(device, device_index)
        rounded_to = find_compute_type(compute_type, self._device, checkpoint.quantization)
        if self._device == mx.cpu:
            hint = advice()
            logger.info("The model computes on the CPU with %s%s", blas_in_use(), f" ({hint})" if hint else "")
        # A stream for whichever thread holds the lock; MLX's own streams belong to one thread each.
        self._stream = mx.new_thread_unsafe_stream(self._device)
        with self._on_device():
            self._model = build_whisper(checkpoint, dtype=rounded_to.dtype, quantization=rounded_to.quantization)
        if self._device == mx.cpu:
            give_back()  # what the weights took before they were laid out

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        with self._lock, mx.stream(self._stream):
            yield

    @property
    def device(self) -> str:
        if self._device == mx.cpu:
            return f"cpu, {blas_in_use()}"
        # MLX tells a device's index in its text alone: "Device(gpu, 0)".
        return "gpu:" + "".join(filter(str.isdecimal, str(self._device)))

    def use_threads(self, n_threads: int) -> None:
        """How many threads the BLAS uses on a CPU, for every model of the process; 0: as many as it chooses."""
        if self._device == mx.cpu:
            set_blas_threads(n_threads)

    @property
    def is_multilingual(self) -> bool:
        return self.tokenizer.is_multilingual

    def best_batch_size(self, options: DecodingOptions) -> int:
        is_cpu = self._device == mx.cpu
        device = {} if is_cpu else mx.device_info(self._device)  # Metal and CUDA have names of their own
        memory = int(device.get("memory_size") or device.get("total_memory") or physical_memory())
        bytes_per_chunk = self._bytes_per_chunk(max(options.beam_size, options.best_of))
        return batch_size_for(bytes_per_chunk, memory, is_cpu=is_cpu)

    def _bytes_per_chunk(self, n_beams: int) -> int:
        """What the caches of a chunk take."""
        key_and_value = 2 * self.dims.n_text_layer * self.dims.n_text_state * self._model.bytes_per_number
        return (self.dims.n_audio_ctx + n_beams * self.dims.n_text_ctx) * key_and_value

    def detect_language(self, audio: Audio) -> tuple[str, float]:
        if not self.is_multilingual:
            return "en", 1.0
        with self._on_device():
            return self._hear_language(self._encode(audio, Meter()).cross)

    def decode(
        self,
        chunks: Sequence[Audio],
        options: DecodingOptions,
        *,
        batch_size: int,
        on_result: Callable[[int, DecodingResult], None],
        meter: Meter,
    ) -> list[DecodingResult]:
        if batch_size < 1:
            raise OptionError(f"batch_size must be 1 or more, not {batch_size}")
        if not chunks:
            return []
        results: dict[int, DecodingResult] = {}
        with self._on_device():
            n_slots = 1 if options.condition_on_previous_text else min(batch_size, len(chunks), self._max_slots)
            n_slots = self._slots_that_fit(n_slots, options)
            while len(results) < len(chunks):
                missing = [chunk for chunk in range(len(chunks)) if chunk not in results]
                try:
                    for chunk, result in self._decode(missing, chunks, options, n_slots, meter):
                        results[chunk] = result
                        on_result(chunk, result)
                except (RuntimeError, MemoryError) as error:
                    n_slots = self._max_slots = fewer_chunks(n_slots, error, self.device)
                self._encoded = None
                if len(results) < len(chunks):
                    mx.clear_cache()  # after `except`, for the error holds the arrays of the batch
        return [results[i] for i in range(len(chunks))]

    def time_words(
        self,
        chunks: Sequence[Audio],
        texts: Sequence[str | Sequence[int]],
        language: str,
    ) -> list[tuple[TimedWord, ...]]:
        """When the words of a known text are said in each chunk of at most 30 s; joined they are the text.

        texts : one for each chunk, as text or as its tokens
        language : code; ignored by a model that knows English only

        Raises OptionError for a text with more tokens than the model reads at once (about 440).
        """
        timed = []
        with self._on_device():
            for audio, text in zip(chunks, texts, strict=True):
                tokens = self.tokenizer.encode(text) if isinstance(text, str) else text
                cross = self._encode(audio, Meter()).cross
                timed.append(self._time_words(cross, [tokens], len(audio), language, "transcribe"))
            self._encoded = None
        return timed

    def _decode(
        self, missing: Sequence[int], chunks: Sequence[Audio], options: DecodingOptions, n_slots: int, meter: Meter
    ) -> Iterator[tuple[int, DecodingResult]]:
        """The results of the chunks of these indices, with the index, each as soon as it is there."""
        if not options.condition_on_previous_text:
            yield from self._decode_together(missing, chunks, options, n_slots, meter)
            return
        text_before: list[int] = []
        for chunk in missing:  # each waits for the one before: nothing to batch
            for _, result in self._decode_together([chunk], chunks, options, n_slots, meter, text_before):
                # What took a high temperature may be wrong, and would lead the next chunk astray.
                is_wild = result.temperature > options.prompt_reset_on_temperature
                text_before = [] if is_wild else [*text_before, *result.tokens]
                yield chunk, result

    def _decode_together(
        self,
        missing: Sequence[int],
        chunks: Sequence[Audio],
        options: DecodingOptions,
        n_slots: int,
        meter: Meter,
        text_before: Sequence[int] = (),
    ) -> Iterator[tuple[int, DecodingResult]]:
        attempts = Attempts(self.tokenizer, options, self.dims.n_text_ctx, chunks, text_before)
        waiting = deque(row for chunk in missing for row in attempts.rows(chunk))
        kept: dict[int, Array] = {}  # features of chunks that may be attempted again

        def encode(row: Row) -> list[KeyValue]:
            encoded = self._encode(chunks[row.chunk], meter, kept.get(row.chunk))
            if len(options.temperatures) > 1 and len(kept) < _MOST_KEPT:
                kept[row.chunk] = encoded.features
            if not row.prompt:
                attempts.address(row, self._hear_language(encoded.cross)[0])
            return encoded.cross

        for row in self._decode_rows(waiting, encode, options, n_slots, meter):
            meter.count("tokens", len(row.tokens))
            result = attempts.judge(row)
            if isinstance(result, DecodingResult):
                kept.pop(row.chunk, None)
                if options.word_timestamps:
                    result = self._with_words(result, row, len(chunks[row.chunk]), options.task, meter)
                yield row.chunk, result
            else:
                waiting.extend(result)

    def _with_words(self, result: DecodingResult, row: Row, n_samples: int, task: Task, meter: Meter) -> DecodingResult:
        """A result with its words, timed by the sound that the row has heard."""
        sections = [result.tokens] if result.pieces is None else [piece.tokens for piece in result.pieces]
        with meter.time("word times"):
            words = self._time_words(row.cross(), sections, n_samples, result.language, task)
        return replace(result, words=words)

    def _time_words(
        self, cross: list[KeyValue], sections: Sequence[Sequence[int]], n_samples: int, language: str, task: Task
    ) -> tuple[TimedWord, ...]:
        """The words of all sections of a transcript that is said in `n_samples` of sound.

        Its text tokens are read once more, all at once, whatever stood between them when they were chosen: so the
        times of a text do not depend on how it was found.
        """
        sections = [[token for token in section if token < self.tokenizer.eot] for section in sections]
        text = [token for section in sections for token in section]
        if not text:
            return ()
        prompt = self.tokenizer.prompt(language, task, without_timestamps=True)
        if len(text) > self.dims.n_text_ctx - len(prompt):
            room = self.dims.n_text_ctx - len(prompt)
            raise OptionError(f"the text of a chunk has {len(text)} tokens; at most {room} fit. Give shorter chunks.")
        tokens = [*prompt, *text, self.tokenizer.eot][: self.dims.n_text_ctx]
        first = len(prompt) - 1  # where the first token of the text is chosen
        decoder, n_frames = self._model.decoder, min(max(n_samples // SAMPLES_PER_FRAME, 1), self.dims.n_audio_ctx)
        hidden, scores = decoder.listen(tokens, cross, self._alignment_heads, n_frames)
        logits = np.asarray(decoder.logits(hidden[first : first + len(text)]))[:, : self.tokenizer.eot]
        logprobs = [logprobs_on_host(*row)[0] for row in zip(logits, np.array(text)[:, None], strict=True)]
        starts = token_times(np.asarray(scores), first, len(text))
        probabilities = np.exp(logprobs, dtype=np.float32)
        return tuple(timed_words(self.tokenizer, sections, language, starts, probabilities))

    def _slots_that_fit(self, n_slots: int, options: DecodingOptions) -> int:
        """As many of `n_slots` as memory has room for. A GPU says when it has none; on a CPU the process is killed."""
        if self._device == mx.cpu:
            while n_slots > 1 and n_slots * self._bytes_per_chunk(options.beam_size) > available_memory():
                n_slots = self._max_slots = halved(n_slots)
        return n_slots

    def _decode_rows(
        self,
        waiting: deque[Row],
        encode: Callable[[Row], list[KeyValue]],
        options: DecodingOptions,
        n_slots: int,
        meter: Meter,
    ) -> Iterator[Row]:
        """Decode the rows that wait, and those that are added meanwhile.

        Rows with beams and rows without wait for each other: one batch at a time, for the sake of memory.
        """
        rules = TokenRules(self.tokenizer, options, self._model.decoder.positional_embedding)

        def new_batch() -> RunningBatch[Any]:
            if waiting[0].n_beams > 1:
                return BeamBatch(self._model, rules, n_slots, meter, options)
            return Batch(self._model, rules, n_slots, meter)

        while waiting:
            yield from run(new_batch(), waiting, encode, meter)

    def _hear_language(self, cross: list[KeyValue]) -> tuple[str, float]:
        codes, tokens = zip(*self.tokenizer.language_tokens.items(), strict=True)
        hidden, _ = self._model.decoder.prefill([self.tokenizer.sot], cross)
        scores = np.asarray(self._model.decoder.logits(hidden))[0, list(tokens)]
        best = int(scores.argmax())
        return codes[best], float(np.exp(logprobs_on_host(scores, np.array([best])))[0])

    def _encode(self, audio: Audio, meter: Meter, features: Array | None = None) -> _Encoded:
        """One chunk, always alone and always 30 s long, so that its neighbours cannot matter.

        features : of this chunk, if they are known
        """
        if self._encoded is not None and self._encoded.audio is audio:
            return self._encoded
        self._encoded = None
        if len(audio) > N_SAMPLES:
            raise OptionError(f"a chunk holds at most 30 s ({N_SAMPLES} samples), not {len(audio)}")
        if features is None:
            with meter.time("mel"):
                mel = log_mel_spectrogram(pad_or_trim(audio), self.dims.n_mels)
            with meter.time("encode"):
                features = self._model.encode(mel)
        with meter.time("encode"):
            self._encoded = _Encoded(audio, features, self._model.hear(features))
        return self._encoded


def has_gpu() -> bool:
    """Whether MLX has a GPU here: Apple's, or one with CUDA."""
    return mx.default_device() != mx.cpu


def free_unused_memory() -> None:
    """Give back what MLX keeps for the next arrays."""
    mx.clear_cache()
