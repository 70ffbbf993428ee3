"""The CTranslate2 engine, WhisperX's own: Whisper on a CPU, also in 8-bit numbers, or on an NVIDIA GPU.

Chunks are decoded in batches that stay together from the first token to the last. The text of a chunk may depend on its
batch, where scores are as good as equal: nothing promises that a product's last bits do not depend on its rows.
"""

import logging
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import numpy.typing as npt

from whisperx.audio import N_SAMPLES, log_mel_spectrogram, pad_or_trim
from whisperx.backends.batch_size import batch_size_for, fewer_chunks, physical_memory
from whisperx.backends.ctranslate2_models import model_folder
from whisperx.backends.host_memory import keep_freed_memory
from whisperx.errors import BackendError, CheckpointError, OptionError
from whisperx.models.whisper.attempts import Attempts, suppressed_tokens
from whisperx.models.whisper.row import Row
from whisperx.models.whisper.timing import SAMPLES_PER_FRAME, SECONDS_PER_FRAME, timed_words
from whisperx.schema import Audio, DecodingOptions, DecodingResult, Meter, Task, TimedWord
from whisperx.tokenizer import SECONDS_PER_TIMESTAMP, Tokenizer

COMPUTE_TYPES = (
    "default", "auto", "float32", "float16", "bfloat16", "int16", "int8", "int8_float32", "int8_float16",
    "int8_bfloat16",
)  # fmt: skip

Features = npt.NDArray[Any]  # (n_chunks, n_frames, n_states): what the encoder makes of the sound

_SEED = 1
_MOST_HEARD = 5  # chunks that vote for a language

logger = logging.getLogger(__name__)


class CTranslate2Backend:
    """`schema.Backend` on CTranslate2, for one model. Calls from several threads take turns inside the engine."""

    def __init__(
        self,
        model: Path,
        *,
        device: str = "auto",
        device_index: int = 0,
        compute_type: str = "default",
        threads: int = 0,
    ) -> None:
        """
        model : folder or weights file; what is not CTranslate2's own is converted once, see `ctranslate2_models`
        threads : of the CPU; 0: four, as CTranslate2 chooses
        """
        kind, index = find_device(device, device_index)
        folder = model_folder(model)
        self.tokenizer: Tokenizer = folder.tokenizer
        self._n_text_ctx = folder.n_text_ctx
        self._most_together = sys.maxsize  # chunks that memory is known to hold at a time
        # What the encoder made of the chunks whose language was heard last, for when they are decoded.
        self._heard: deque[tuple[weakref.ref[Audio], npt.NDArray[Any]]] = deque(maxlen=_MOST_HEARD)
        self._bytes_of_weights = (folder.path / "model.bin").stat().st_size
        if kind == "cpu":
            keep_freed_memory()
        # Each model's random numbers begin with this, and go on from call to call: the same run gives the same text.
        ctranslate2.set_random_seed(_SEED)
        try:
            self._model = ctranslate2.models.Whisper(
                str(folder.path),
                device=kind,
                device_index=index,
                compute_type=_compute_type(compute_type, kind),
                intra_threads=threads,
            )
        except ValueError as error:  # a compute type that this device has not
            raise OptionError(f"compute_type {compute_type}: {error}") from error
        except RuntimeError as error:
            raise CheckpointError(f"{folder.path}: CTranslate2 cannot load the model: {error}") from error

    @property
    def device(self) -> str:
        index = self._model.device_index[0] if self._model.device == "cuda" else None
        where = "cpu" if index is None else f"cuda:{index}"
        return f"{where}, CTranslate2 {ctranslate2.__version__} in {self._model.compute_type}"

    @property
    def is_multilingual(self) -> bool:
        return self.tokenizer.is_multilingual

    def best_batch_size(self, options: DecodingOptions) -> int:
        # The keys and values of a chunk take about a quarter of what the weights take, those of five beams as much.
        n_rows = max(options.beam_size, options.best_of)
        per_chunk = round(self._bytes_of_weights * (0.25 + 0.05 * n_rows))
        return batch_size_for(per_chunk, physical_memory(), is_cpu=self._model.device == "cpu")

    def detect_language(self, audio: Audio) -> tuple[str, float]:
        if not self.is_multilingual:
            return "en", 1.0
        features = self._encode([self._mel(audio)])
        self._heard.append((weakref.ref(audio), features[0]))
        return self._hear_languages(features)[0]

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
        if max(options.temperatures) > 0 and options.seed != 0:
            logger.warning(
                "seed has no effect with the ctranslate2 backend: its random numbers begin when the model is loaded"
            )
        if not chunks:
            return []
        results: dict[int, DecodingResult] = {}
        n_together = 1 if options.condition_on_previous_text else min(batch_size, self._most_together)
        while len(results) < len(chunks):
            missing = [chunk for chunk in range(len(chunks)) if chunk not in results]
            try:
                for chunk, result in self._decode(missing, chunks, options, n_together, meter):
                    results[chunk] = result
                    on_result(chunk, result)
            except (RuntimeError, MemoryError) as error:
                n_together = self._most_together = fewer_chunks(n_together, error, self.device)
        return [results[i] for i in range(len(chunks))]

    def _decode(
        self, missing: Sequence[int], chunks: Sequence[Audio], options: DecodingOptions, n_together: int, meter: Meter
    ) -> Iterator[tuple[int, DecodingResult]]:
        """The results of the chunks of these indices, with the index, each as soon as it is there."""
        text_before: list[int] = []
        attempts = Attempts(self.tokenizer, options, self._n_text_ctx, chunks)
        for batch, mels in self._batches(missing, chunks, n_together, meter):
            if options.condition_on_previous_text:
                attempts = Attempts(self.tokenizer, options, self._n_text_ctx, chunks, text_before)
            with meter.time("encode"):
                features = self._encode_once([chunks[i] for i in batch], mels)
            for chunk, result in self._decode_batch(batch, features, attempts, options, meter):
                # What took a high temperature may be wrong, and would lead the next chunk astray.
                is_wild = result.temperature > options.prompt_reset_on_temperature
                text_before = [] if is_wild else [*text_before, *result.tokens]
                if options.word_timestamps:
                    with meter.time("word times"):
                        own = features[batch.index(chunk)]
                        result = self._with_words(result, own, len(chunks[chunk]), options)
                yield chunk, result

    def _batches(
        self, missing: Sequence[int], chunks: Sequence[Audio], size: int, meter: Meter
    ) -> Iterator[tuple[list[int], list[npt.NDArray[np.float32]]]]:
        """Indices of the chunks of each batch, and their spectrograms, made while the engine has the batch before."""
        batches = [list(missing[i : i + size]) for i in range(0, len(missing), size)]

        def mels(batch: list[int]) -> list[npt.NDArray[np.float32]]:
            return [self._mel(chunks[i]) for i in batch]

        with ThreadPoolExecutor(1) as worker:
            following = worker.submit(mels, batches[0])
            for batch, after in pairwise([*batches, []]):
                with meter.time("mel"):
                    ready = following.result()
                following = worker.submit(mels, after)
                yield batch, ready

    def _decode_batch(
        self, batch: list[int], features: Features, attempts: Attempts, options: DecodingOptions, meter: Meter
    ) -> Iterator[tuple[int, DecodingResult]]:
        """One attempt after another, each for the chunks that still need it."""
        waiting = [attempts.rows(chunk) for chunk in batch]
        if any(not rows[0].prompt for rows in waiting):
            with meter.time("language"):
                languages = self._hear_languages(features)
            for rows, (language, _) in zip(waiting, languages, strict=True):
                for row in rows:
                    attempts.address(row, language)
        while waiting:
            for group in _alike(waiting):
                own = features[[batch.index(rows[0].chunk) for rows in group]]
                with meter.time("decode tokens"):
                    self._generate(group, own, options)
            finished, waiting = waiting, []
            for row in (row for rows in finished for row in rows):
                meter.count("tokens", len(row.tokens))
                outcome = attempts.judge(row)
                if isinstance(outcome, DecodingResult):
                    yield row.chunk, outcome
                elif outcome:
                    waiting.append(outcome)

    def _generate(self, group: Sequence[Sequence[Row]], features: Features, options: DecodingOptions) -> None:
        """Fill the rows of one attempt at each of several chunks."""
        first = group[0][0]
        sampling = {"sampling_topk": 0, "sampling_temperature": first.temperature} if first.temperature else {}
        n_given = len(first.prompt) - first.start - self._n_task_tokens(options)  # of the prefix, which comes back
        n_most, n_before = n_given + first.max_new_tokens, len(first.prompt) - n_given - 1
        generated = self._run(
            self._model.generate,
            _on_device(features),
            [list(rows[0].prompt) for rows in group],
            beam_size=first.n_beams,
            patience=options.patience,
            num_hypotheses=len(group[0]),
            length_penalty=options.length_penalty,
            repetition_penalty=options.repetition_penalty,
            no_repeat_ngram_size=options.no_repeat_ngram_size,
            max_length=max(2 * n_most, n_most + n_before),  # it takes half of this, or this less what stands before
            return_scores=True,
            return_no_speech_prob=True,
            max_initial_timestamp_index=round(options.max_initial_timestamp / SECONDS_PER_TIMESTAMP),
            suppress_blank=options.suppress_blank,
            suppress_tokens=sorted(suppressed_tokens(self.tokenizer, options)),
            **sampling,
        )
        for rows, result in zip(group, generated, strict=True):
            for row, tokens, score in zip(rows, result.sequences_ids, result.scores, strict=True):
                row.tokens = list(tokens)[n_given:]
                # A score is the sum of the log-probabilities / length ** length_penalty.
                row.sum_logprob = score * max(1, len(tokens)) ** options.length_penalty
                row.no_speech_prob = result.no_speech_prob
                row.done = True

    def time_words(self, chunks: Sequence[Audio], texts: Sequence[str], language: str) -> list[tuple[TimedWord, ...]]:
        """When the words of a known text are said in each chunk of at most 30 s; joined they are the text.

        Raises OptionError for a text with more tokens than the model reads at once (about 440).
        """
        timed = []
        for audio, text in zip(chunks, texts, strict=True):
            (features,) = self._encode([self._mel(audio)])
            timed.append(self._time_words(features, [self.tokenizer.encode(text)], len(audio), language, "transcribe"))
        return timed

    def _with_words(
        self, result: DecodingResult, features: Features, n_samples: int, options: DecodingOptions
    ) -> DecodingResult:
        """A result with its words, timed by the features of its sound."""
        sections = [result.tokens] if result.pieces is None else [piece.tokens for piece in result.pieces]
        words = self._time_words(features, sections, n_samples, result.language, options.task)
        return replace(result, words=words)

    def _time_words(
        self, features: Features, pieces: Sequence[Sequence[int]], n_samples: int, language: str, task: Task
    ) -> tuple[TimedWord, ...]:
        """The words of all pieces of a transcript that is said in `n_samples` of sound."""
        sections = [[token for token in piece if token < self.tokenizer.eot] for piece in pieces]
        text = [token for section in sections for token in section]
        if not text:
            return ()
        start = self.tokenizer.prompt(language, task, without_timestamps=False)
        room = self._n_text_ctx - len(start) - 2  # the engine adds no-timestamps and the end of the text
        if len(text) > room:
            raise OptionError(f"the text of a chunk has {len(text)} tokens; at most {room} fit. Give shorter chunks.")
        n_frames = max(n_samples // SAMPLES_PER_FRAME, 1)
        (alignment,) = self._run(
            self._model.align,
            _on_device(features[None]),
            list(start),
            [text],
            2 * n_frames,  # of the spectrogram
        )
        starts = _starts(alignment.alignments, len(text))
        probabilities = np.array(alignment.text_token_probs, np.float32)
        return tuple(timed_words(self.tokenizer, sections, language, starts, probabilities))

    def _hear_languages(self, features: Features) -> list[tuple[str, float]]:
        """Code and probability of the likeliest language of each chunk."""
        heard = self._run(self._model.detect_language, _on_device(features))
        return [(name.strip("<|>"), float(probability)) for ((name, probability), *_) in heard]

    def _mel(self, audio: Audio) -> npt.NDArray[np.float32]:
        if len(audio) > N_SAMPLES:
            raise OptionError(f"a chunk holds at most 30 s ({N_SAMPLES} samples), not {len(audio)}")
        return log_mel_spectrogram(pad_or_trim(audio), self._model.n_mels)

    def _encode_once(self, audio: Sequence[Audio], mels: Sequence[npt.NDArray[np.float32]]) -> Features:
        """What the encoder makes of each piece of sound; not again where its language was heard just now."""
        heard = [next((kept for ref, kept in list(self._heard) if ref() is sound), None) for sound in audio]
        new = [mel for mel, kept in zip(mels, heard, strict=True) if kept is None]
        encoded = iter(self._encode(new) if new else ())
        return np.stack([next(encoded) if kept is None else kept for kept in heard])

    def _encode(self, mels: Sequence[npt.NDArray[np.float32]]) -> Features:
        """What the encoder makes of each spectrogram. On a CPU one after another: a batch is no faster and takes more
        memory."""
        batches = [mels] if self._model.device == "cuda" else [[mel] for mel in mels]
        return np.concatenate([self._encode_together(batch) for batch in batches])

    def _encode_together(self, mels: Sequence[npt.NDArray[np.float32]]) -> Features:
        encoded = self._run(self._model.encode, _on_device(np.stack(mels)), to_cpu=True)
        if encoded.dtype == ctranslate2.DataType.bfloat16:  # NumPy has none
            encoded = encoded.to(ctranslate2.DataType.float32)
        return np.array(encoded)

    def _n_task_tokens(self, options: DecodingOptions) -> int:
        """How many tokens start a transcript: the start, language and task, and no-timestamps."""
        return (3 if self.is_multilingual else 1) + options.without_timestamps

    @staticmethod
    def _run(function: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
        """Call the engine. What it says when memory runs out differs by device, so that all it says is passed on."""
        try:
            return function(*arguments, **settings)
        except RuntimeError as error:
            raise BackendError(
                f"CTranslate2 failed: {error}. If memory ran out, use a smaller batch_size, or compute_type int8."
            ) from error


def _on_device(array: npt.NDArray[Any]) -> ctranslate2.StorageView:
    """An array as the engine takes it, which moves it where it computes."""
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))


def _alike(waiting: Sequence[Sequence[Row]]) -> list[list[Sequence[Row]]]:
    """Attempts in groups that the engine takes at once: of one temperature and length, with prompts of one shape."""
    groups: dict[tuple[float, int, int, int], list[Sequence[Row]]] = {}
    for rows in waiting:
        row = rows[0]
        groups.setdefault((row.temperature, row.max_new_tokens, len(row.prompt), row.start), []).append(rows)
    return list(groups.values())


def _starts(path: Sequence[tuple[int, int]], n_tokens: int) -> npt.NDArray[np.float64]:
    """When each token begins and the last one ends, (n_tokens + 1,), of a path of (token, frame)."""
    frames = dict(reversed(path))  # the first of each token
    return np.array([frames[token] for token in range(n_tokens + 1)]) * SECONDS_PER_FRAME


def find_device(name: str, index: int = 0) -> tuple[str, int]:
    """Kind, "cpu" or "cuda", and index of the device called "auto", "cpu", "cuda", "cuda:1" or "gpu".

    Raises OptionError for another name, BackendError for a GPU that CTranslate2 cannot use here.
    """
    kind, _, number = name.lower().partition(":")
    if kind in ("mps", "metal", "mlx"):
        raise BackendError(f"The ctranslate2 backend cannot compute on {name!r}: use --backend mlx, or --device cpu.")
    if kind not in ("auto", "cpu", "cuda", "gpu") or not (number or "0").isdecimal():
        raise OptionError(f"Unknown device: {name}; expected auto, cpu, cuda or cuda:N.")
    n_gpus = ctranslate2.get_cuda_device_count()
    wanted = int(number) if number else index
    if kind == "cpu" or (kind == "auto" and n_gpus == 0):
        return "cpu", 0
    if wanted >= n_gpus:
        raise BackendError(f"CTranslate2 finds {n_gpus} NVIDIA GPUs here, and so not {name!r}. Use --device cpu.")
    return "cuda", wanted


def _compute_type(name: str, kind: str) -> str:
    """What CTranslate2 calls a compute type; the default is that of WhisperX."""
    if name not in COMPUTE_TYPES:
        raise OptionError(
            f"compute_type {name} is not one of the ctranslate2 backend; expected one of {', '.join(COMPUTE_TYPES)}."
        )
    return name if name != "default" else "float16" if kind == "cuda" else "float32"
