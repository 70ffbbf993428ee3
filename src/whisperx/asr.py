"""load_model and the pipeline object: recording -> spans -> chunks -> text."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import zip_longest
from numbers import Integral, Real
from types import NoneType
from typing import Any, get_args, get_type_hints

from whisperx.audio import CHUNK_LENGTH, SAMPLE_RATE, as_samples
from whisperx.backends import load_backend
from whisperx.chunks import pack
from whisperx.errors import ClipError, OptionError
from whisperx.hub import first_token, resolve
from whisperx.schema import (
    Audio,
    Backend,
    Chunk,
    DecodingOptions,
    DecodingResult,
    Meter,
    ProgressCallback,
    SingleSegment,
    SingleWordSegment,
    Span,
    Task,
    TimedText,
    TimedWord,
    TranscriptionResult,
    Vad,
    clip_times,
)
from whisperx.tokenizer import UNSPACED_LANGUAGES, Tokenizer, language_code
from whisperx.vads import Vad as WhisperXVad
from whisperx.vads import adapted, load_vad

logger = logging.getLogger(__name__)

LANGUAGE_OF_EACH_CHUNK = "auto-chunk"  # as the language: heard in each chunk by itself, for talk that changes languages

# A language heard this clearly in the first chunk is the recording's; else several chunks vote.
_SURE_LANGUAGE = 0.8
_VOTING_CHUNKS = 5

_BATCH_SIZE = 8  # where nobody says one, as on WhisperX's command line


class FasterWhisperPipeline:
    """A loaded model and a voice detector. `transcribe` leaves nothing of a call behind on this object, so several
    threads may use one.

    The name, the attributes and the order of the arguments are WhisperX's. `options` may be exchanged for
    `dataclasses.replace(pipeline.options, ...)`.
    """

    def __init__(
        self,
        model: Backend,
        vad: Vad,
        vad_params: Mapping[str, Any],
        options: DecodingOptions,
        tokenizer: Any = None,
        device: object = None,
        framework: str = "",
        language: str | None = None,
        suppress_numerals: bool = False,
        *,
        batch_size: int | None = None,
    ) -> None:
        """vad_params : "chunk_size", bound of all chunks in seconds; the detector has its other options already
        tokenizer : of the model, for those who want to look at tokens
        device, framework : there because WhisperX has them; the model knows where it computes
        language : of all recordings, None: detected in each
        suppress_numerals : as the option of that name
        batch_size : of calls that say none
        """
        self.model = model
        self.vad_model = vad
        self.options = replace(options, suppress_numerals=True) if suppress_numerals else options
        self._tokenizer = tokenizer
        self.preset_language = language
        self._vad_params = dict(vad_params)
        self._batch_size = batch_size

    @property
    def device(self) -> str:
        """Where the model computes, as "gpu:0"."""
        return self.model.device

    @property
    def tokenizer(self) -> Any:
        """Of the model, unless another was given."""
        return self._tokenizer or self.model.tokenizer

    @tokenizer.setter
    def tokenizer(self, value: Any) -> None:
        self._tokenizer = value

    def best_batch_size(self, options: DecodingOptions) -> int:
        """How many chunks to decode at a time with these options, as far as memory allows."""
        return self.model.best_batch_size(options)

    @property
    def suppress_numerals(self) -> bool:
        """The option of that name; WhisperX keeps it apart."""
        return self.options.suppress_numerals

    @suppress_numerals.setter
    def suppress_numerals(self, value: bool) -> None:
        self.options = replace(self.options, suppress_numerals=value)

    def find_speech(self, audio: str | os.PathLike[str] | Audio, chunk_size: float = CHUNK_LENGTH) -> list[Chunk]:
        """The chunks that `transcribe` decodes, for callers who find the speech of one recording while another is
        decoded: `transcribe(audio, chunks=find_speech(audio))` is `transcribe(audio)`.

        Where `options.clip_timestamps` are given they are the chunks, and the detector is not asked.
        """
        return self._chunks(as_samples(audio), chunk_size, self.options.clip_timestamps)

    def _chunks(self, samples: Audio, chunk_size: float, clip_timestamps: tuple[float, ...]) -> list[Chunk]:
        longest = min(chunk_size, self._vad_params.get("chunk_size", CHUNK_LENGTH))
        return find_chunks(self.vad_model, samples, longest, clip_timestamps)

    def transcribe(
        self,
        audio: str | os.PathLike[str] | Audio,
        batch_size: int | None = None,
        num_workers: int = 0,
        language: str | None = None,
        task: Task | None = None,
        chunk_size: float = CHUNK_LENGTH,
        print_progress: bool = False,
        combined_progress: bool = False,
        verbose: bool = False,
        progress_callback: ProgressCallback = None,
        *,
        chunks: list[Chunk] | None = None,
        word_timestamps: bool | Callable[[str], bool] = False,
        on_segment: Callable[[SingleSegment], None] | None = None,
        on_progress: Callable[[float, float], None] | None = None,
        meter: Meter | None = None,
        **options: Any,
    ) -> TranscriptionResult:
        """Text of a recording, a segment for each chunk of speech.

        audio : path, or float32 `(n_samples,)` at 16 kHz; a torch tensor will do
        batch_size : chunks decoded at a time; None or 0: the pipeline's. Changes speed and memory, never the result
        num_workers : accepted as in WhisperX; the front end of a chunk needs no workers
        language : code or name; None: the pipeline's, or detected on the first chunk of speech
        chunk_size : longest chunk in seconds, at most 30
        print_progress, combined_progress : print percentages, up to 50 when alignment is to follow
        verbose : print each segment
        progress_callback : called with 0..100
        chunks : what `find_speech` has found in `audio`; None: it is found now
        word_timestamps : whether segments have `words` with times, by the model's attention; or a function that tells
            so of a language, by its code
        on_segment : called with each segment in order of time, as soon as all up to it are decoded
        on_progress : called with (seconds of speech decoded, seconds in all)
        meter : filled with the seconds of each stage
        options : for this call, as in `asr_options`; a name that is not known is warned about

        Raises AudioError for a recording that cannot be read, OptionError for an option out of its range.
        """
        base = _with_options(self.options, options)
        _check_task(task or base.task, self.model)
        meter = meter or Meter()
        with meter.time("decode audio"):
            samples = as_samples(audio)
        if chunks is None:
            with meter.time("vad"):
                chunks = self._chunks(samples, chunk_size, base.clip_timestamps)
        meter.count("chunks", len(chunks))
        with meter.time("language"):
            code, probability = self._language(language, chunks, samples)
        times_words = _asked(base.word_timestamps or word_timestamps)
        decoding = replace(
            base,
            task=task or base.task,
            language=code,
            word_timestamps=times_words(code) if code else bool(base.word_timestamps or word_timestamps),
        )
        if not chunks:
            logger.warning("No active speech found in audio")
        reports = _Reports(
            chunks,
            print_progress,
            combined_progress,
            verbose,
            progress_callback,
            on_segment,
            on_progress,
            tell_languages=code is None,
            times_words=times_words,
        )
        self.model.decode(
            [chunk.samples for chunk in chunks],
            decoding,
            batch_size=batch_size or self._batch_size or _BATCH_SIZE,
            on_result=reports.add,
            meter=meter,
        )
        if code is None:
            return {"segments": reports.segments, "language": _spoken_most(chunks, reports.languages)}
        return {"segments": reports.segments, "language": code, "language_probability": probability}

    def __call__(
        self, inputs: Iterable[Mapping[str, Any]], batch_size: int | None = None, num_workers: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Text of sounds that are chunks already: `{"inputs": waveform}` -> `{"text", "avg_logprob"}`, in order.

        Each at most 30 s, float32 `(n_samples,)` at 16 kHz. As in WhisperX, both values are lists of one where
        `batch_size` is 1, 0 or None.
        """
        results = self.model.decode(
            [as_samples(item["inputs"]) for item in inputs],
            replace(self.options, language=self.preset_language if self.model.is_multilingual else "en"),
            batch_size=batch_size or 1,
            on_result=lambda *_: None,
            meter=Meter(),
        )
        for result in results:
            plain = {"text": result.text, "avg_logprob": result.avg_logprob}
            yield plain if batch_size and batch_size > 1 else {key: [value] for key, value in plain.items()}

    def time_words(
        self, segments: Iterable[SingleSegment], audio: str | os.PathLike[str] | Audio, language: str
    ) -> list[SingleSegment]:
        """Segments of a known text, each with its `words`, timed by the model's attention.

        Raises OptionError for a segment of more than 30 s, or of more text than the model reads at once.
        """
        samples, code = as_samples(audio), language_code(language)
        timed: list[SingleSegment] = []
        for segment in segments:
            end = min(segment["end"], len(samples) / SAMPLE_RATE)  # which may be infinite: "to the end"
            sound = samples[int(segment["start"] * SAMPLE_RATE) : int(end * SAMPLE_RATE)]
            (words,) = self.model.time_words([sound], [segment["text"]], code)
            timed.append({**segment, "words": _words(words, segment["start"], end, code)})
        return timed

    def detect_language(self, audio: str | os.PathLike[str] | Audio) -> str:
        """Language code of a recording, heard in its speech (in its first 30 s when there is none)."""
        samples = as_samples(audio)
        return self._detect(self.find_speech(samples), samples)[0]

    def _language(self, language: str | None, chunks: list[Chunk], samples: Audio) -> tuple[str | None, float]:
        """Code and probability of the language to decode in; no code where each chunk has its own."""
        if not self.model.is_multilingual:
            return "en", 1.0
        name = language or self.preset_language
        if name == LANGUAGE_OF_EACH_CHUNK:
            return None, 1.0
        return (language_code(name), 1.0) if name else self._detect(chunks, samples)

    def _detect(self, chunks: list[Chunk], samples: Audio) -> tuple[str, float]:
        """The language that is heard in the first chunk or, where that is unsure, most clearly over several of them."""
        voters = [chunks[i].samples for i in _spread(len(chunks), _VOTING_CHUNKS)]
        votes: dict[str, float] = {}
        for n_votes, heard in enumerate(voters or [samples[: CHUNK_LENGTH * SAMPLE_RATE]], start=1):
            code, probability = self.model.detect_language(heard)
            votes[code] = votes.get(code, 0.0) + probability
            if n_votes == 1 and probability >= _SURE_LANGUAGE:
                break
        winner = max(votes, key=lambda code: votes[code])
        where = "the first chunk" if n_votes == 1 else f"{n_votes} chunks"
        logger.info("Detected language: %s (%.2f) in %s of speech", winner, votes[winner] / n_votes, where)
        return winner, votes[winner] / n_votes


def find_chunks(vad: Vad, samples: Audio, longest: float, clip_timestamps: tuple[float, ...] = ()) -> list[Chunk]:
    """Speech in chunks of at most `longest` seconds; where clips are given they are the speech, and nobody is asked.

    Raises ClipError for a clip that begins behind the end of the recording.
    """
    if not clip_timestamps:
        return pack(vad(samples), samples, longest)
    # Each by itself: what lies between two clips is not to be heard.
    clips = _clips(clip_timestamps, len(samples) / SAMPLE_RATE)
    return [chunk for clip in clips for chunk in pack([clip], samples, longest)]


def _clips(times: tuple[float, ...], duration: float) -> list[Span]:
    """The spans that `clip_timestamps` mean in a recording of so many seconds."""
    last = max(times[::2])
    if last >= duration:
        raise ClipError(f"clip_timestamps: a clip begins at {last:g} s, but the recording ends at {duration:.2f} s.")
    spans = zip_longest(times[::2], times[1::2], fillvalue=duration)
    return [Span(start, min(end, duration)) for start, end in spans]


def _spoken_most(chunks: list[Chunk], languages: dict[int, str]) -> str:
    """The language of the longest part of the speech; English where nobody speaks."""
    seconds: dict[str, float] = {}
    for index, code in languages.items():
        seconds[code] = seconds.get(code, 0.0) + chunks[index].end - chunks[index].start
    return max(seconds, key=lambda code: seconds[code], default="en")


def _spread(n: int, n_wanted: int) -> list[int]:
    """At most `n_wanted` of 0..n-1, the first and the last among them, evenly spread."""
    if n <= n_wanted:
        return list(range(n))
    return [round(i * (n - 1) / (n_wanted - 1)) for i in range(n_wanted)]


class _Reports:
    """Tells of chunks as they are decoded: counts them in any order, shows them in order of time."""

    def __init__(
        self,
        chunks: list[Chunk],
        print_progress: bool,
        combined_progress: bool,
        verbose: bool,
        progress_callback: ProgressCallback,
        on_segment: Callable[[SingleSegment], None] | None,
        on_progress: Callable[[float, float], None] | None,
        *,
        tell_languages: bool,
        times_words: Callable[[str], bool],
    ) -> None:
        self.segments: list[SingleSegment] = []
        self._tell_languages = tell_languages
        self._times_words = times_words
        self._chunks = chunks
        self._results: dict[int, DecodingResult] = {}
        self._n_told = 0  # chunks whose segments are out
        self._seconds = 0.0
        self._total = sum(chunk.end - chunk.start for chunk in chunks)
        self._print_progress = print_progress
        self._print_scale = 50 if combined_progress else 100
        self._verbose = verbose
        self._progress_callback = progress_callback
        self._on_segment = on_segment
        self._on_progress = on_progress

    def add(self, index: int, result: DecodingResult) -> None:
        self._results[index] = result
        self._seconds += self._chunks[index].end - self._chunks[index].start
        self._tell_progress()
        while self._n_told in self._results:
            result = self._results[self._n_told]
            if not self._times_words(result.language):
                result = replace(result, words=None)  # timed for the sake of chunks in other languages
            for segment in _segments(self._chunks[self._n_told], result):
                self._tell_segment({**segment, "language": result.language} if self._tell_languages else segment)
            self._n_told += 1

    @property
    def languages(self) -> dict[int, str]:
        """The language of each chunk that is decoded."""
        return {index: result.language for index, result in self._results.items()}

    def _tell_progress(self) -> None:
        share = len(self._results) / len(self._chunks)
        if self._print_progress:
            print(f"Progress: {share * self._print_scale:.2f}%...")
        if self._progress_callback is not None:
            self._progress_callback(100 * share)
        if self._on_progress is not None:
            self._on_progress(self._seconds, self._total)

    def _tell_segment(self, segment: SingleSegment) -> None:
        self.segments.append(segment)
        if self._verbose:
            print(f"Transcript: [{segment['start']} --> {segment['end']}] {segment['text']}")
        if self._on_segment is not None:
            self._on_segment(segment)


def _segments(chunk: Chunk, result: DecodingResult) -> list[SingleSegment]:
    """The segments of a chunk: one for all of it, or one for each piece between timestamps; none without text."""
    pieces = result.pieces
    if pieces is None:
        whole = TimedText(result.text, 0.0, chunk.end - chunk.start, result.tokens)
        pieces = (whole,) if result.text.strip() else ()
    segments: list[SingleSegment] = [
        {
            "text": piece.text,
            "start": round(chunk.start + piece.start, 3),
            "end": round(chunk.start + piece.end, 3),
            "avg_logprob": result.avg_logprob,
            "no_speech_prob": result.no_speech_prob,
            "compression_ratio": result.compression_ratio,
            "temperature": result.temperature,
            "tokens": list(piece.tokens),
        }
        for piece in pieces
    ]
    if result.words is not None:
        words = iter(result.words)
        for segment in segments:
            segment["words"] = _words(_take(words, len(segment["text"])), chunk.start, chunk.end, result.language)
    return segments


def _take(words: Iterator[TimedWord], n_characters: int) -> Iterator[TimedWord]:
    """The next words, as many as make up so much text."""
    while n_characters > 0:
        word = next(words)
        n_characters -= len(word.word)
        yield word


def _words(words: Iterable[TimedWord], start: float, end: float, language: str) -> list[SingleWordSegment]:
    """The words of a piece of sound between two times, without the spaces that set them apart, if those do."""
    return [
        {
            "word": word.word if language in UNSPACED_LANGUAGES else word.word.strip(),
            "start": round(min(start + word.start, end), 3),
            "end": round(min(start + word.end, end), 3),
            "score": round(word.probability, 3),
        }
        for word in words
    ]


def _asked(word_timestamps: bool | Callable[[str], bool]) -> Callable[[str], bool]:
    return word_timestamps if callable(word_timestamps) else lambda code: bool(word_timestamps)


def load_model(
    whisper_arch: str | os.PathLike[str],
    device: object = "auto",
    device_index: int = 0,
    compute_type: str = "default",
    asr_options: Mapping[str, Any] | None = None,
    language: str | None = None,
    vad_model: Vad | WhisperXVad | None = None,
    vad_method: str = "silero",
    vad_options: Mapping[str, Any] | None = None,
    model: Backend | None = None,
    task: Task = "transcribe",
    download_root: str | None = None,
    local_files_only: bool = False,
    threads: int = 4,
    use_auth_token: str | bool | None = None,
    *,
    token: str | None = None,
    hf_token: str | None = None,
    backend: str = "auto",
) -> FasterWhisperPipeline:
    """Load a Whisper model, unless this process has it loaded (see `release_models`), and a voice detector.

    whisper_arch : name ("small", "large-v3"), folder, checkpoint file or repository id
    device : "auto", "cpu", "cuda", "cuda:1", "mps" or "mlx" (the GPU of a Mac), or what `str()` turns into one of them
    device_index : which GPU, where `device` does not say
    compute_type : "default" (float16 on a GPU, float32 on a CPU), "float16", "bfloat16", "float32", "int8", "int4", or
        one of CTranslate2's names; docs/models.md has what each becomes
    asr_options : fields of `DecodingOptions` by name, but task and language; see `decoding_options`
    language : of all recordings; None: detected for each; "auto-chunk": for each chunk
    vad_model : any callable audio -> spans, or a `whisperx.vads.Vad`, in place of `vad_method`
    vad_method : "silero", "pyannote" or "none"
    vad_options : "vad_onset", "vad_offset" (probabilities between which speech starts and ends), "chunk_size" (seconds)
    model : an engine that is loaded already
    download_root, local_files_only : where models are kept; whether never to download
    use_auth_token, token, hf_token : of the Hub, under any of its names
    threads : on a CPU, no more than it has cores; 0: as many as the engine chooses
    backend : "mlx", "ctranslate2", or "auto": MLX where that has a GPU, else CTranslate2 if it is installed

    Raises ModelNotFoundError, CheckpointError, BackendError, and OptionError (a ValueError) for an option out of its
    range; TypeError for an unknown name in `asr_options` or `vad_options`.
    """
    options = decoding_options(asr_options or {}, task)
    for sentence in idle_options(options):
        logger.warning(sentence)
    vad_settings = _VadOptions(**(vad_options or {}))
    if vad_model is not None:
        logger.info("Use manually assigned vad_model. vad_method is ignored.")
        vad = adapted(vad_model, onset=vad_settings.vad_onset, offset=vad_settings.vad_offset)
    else:
        vad = load_vad(vad_method, onset=vad_settings.vad_onset, offset=vad_settings.vad_offset)
    preset_language = language_code(language) if language and language != LANGUAGE_OF_EACH_CHUNK else language
    if model is None:
        model = WhisperModel(
            whisper_arch,
            device,
            device_index,
            compute_type,
            cpu_threads=threads,
            download_root=download_root,
            local_files_only=local_files_only,
            use_auth_token=first_token(use_auth_token, token, hf_token),
            backend=backend,
        )
    _check_task(options.task, model)
    if not model.is_multilingual and preset_language not in (None, "en", LANGUAGE_OF_EACH_CHUNK):
        logger.warning("%s is an English-only model but received %r; using English instead.", whisper_arch, language)
    return FasterWhisperPipeline(model, vad, asdict(vad_settings), options, language=preset_language)


TranscriptionOptions = DecodingOptions  # as faster-whisper and WhisperX call them


def WhisperModel(  # noqa: N802 - a class in WhisperX
    model_size_or_path: str | os.PathLike[str],
    device: object = "auto",
    device_index: int = 0,
    compute_type: str = "default",
    cpu_threads: int = 0,
    num_workers: int = 1,
    download_root: str | None = None,
    local_files_only: bool = False,
    use_auth_token: str | bool | None = None,
    *,
    backend: str = "auto",
) -> Backend:
    """An engine with a model, as faster-whisper's class of this name is made; `load_model(model=...)` takes it.

    num_workers : accepted as in faster-whisper; calls from several threads take turns
    """
    folder = resolve(
        model_size_or_path,
        download_root=download_root,
        local_files_only=local_files_only,
        token=first_token(use_auth_token),
    )
    return load_backend(
        backend,
        folder,
        device=str(device),
        device_index=device_index,
        compute_type=compute_type,
        threads=cpu_threads,
    )


def find_numeral_symbol_tokens(tokenizer: Tokenizer) -> list[int]:
    """The tokens that `suppress_numerals` rules out: those whose text has a digit or one of % $ £."""
    return list(tokenizer.numeral_tokens)


# Options of faster-whisper that nothing here can honour, and the values at which WhisperX leaves them.
WITHOUT_EFFECT: dict[str, object] = {
    "multilingual": True,
    "prepend_punctuations": "\"'“¿([{-",
    "append_punctuations": "\"'.。,，!！?？:：”)]}、",
    "hallucination_silence_threshold": None,
}


def decoding_options(asr_options: Mapping[str, Any], task: Task = "transcribe") -> DecodingOptions:
    """The options that WhisperX's `asr_options` stand for.

    As there, `temperatures` is a number, a list or a tuple, and `suppress_tokens` a list; a search for None candidates
    keeps one. An initial prompt is text or a list of tokens.

    Options in WITHOUT_EFFECT are taken; another value than that is warned about.

    Raises TypeError for an unknown name, OptionError for a value of another kind or out of its range.
    """
    for name in asr_options:
        if name not in _OPTION_NAMES and name not in WITHOUT_EFFECT:
            hint = "; it is an argument of its own" if name in ("task", "language") else ""
            raise TypeError(f"asr_options has no {name!r}{hint}. It has: {', '.join(sorted(_OPTION_NAMES))}.")
    return _with_options(DecodingOptions(task=task), asr_options)


_OPTION_NAMES = {field.name for field in fields(DecodingOptions)} - {"task", "language"}


def _with_options(base: DecodingOptions, changes: Mapping[str, Any]) -> DecodingOptions:
    """`base` with the options of these names; a name without effect is warned about."""
    for name, value in changes.items():
        if name not in _OPTION_NAMES and not (name in WITHOUT_EFFECT and value == WITHOUT_EFFECT[name]):
            logger.warning("%s=%r has no effect", name, value)
    values = {name: _converted(name, value) for name, value in changes.items() if name in _OPTION_NAMES}
    return replace(base, **values)


_KINDS: dict[type, tuple[type, str]] = {
    str: (str, "text"),
    bool: (bool, "True or False"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    NoneType: (NoneType, "None"),
}


def _converted(name: str, value: Any) -> Any:
    if name in ("temperatures", "suppress_tokens"):
        return _numbers(name, value)
    if name == "clip_timestamps":
        return clip_times(value)
    if name == "initial_prompt" and not isinstance(value, str | NoneType):
        return _tokens(value)
    if name in ("best_of", "beam_size") and value is None:
        return 1
    kind = get_type_hints(DecodingOptions)[name]
    kinds = [_KINDS[part] for part in get_args(kind) or [kind] if part in _KINDS]
    if not isinstance(value, tuple(accepted for accepted, _ in kinds)):
        raise OptionError(f"{name} is {' or '.join(text for _, text in kinds)}, not {value!r}.")
    return value


def _tokens(value: Any) -> tuple[int, ...]:
    tokens = tuple(value) if isinstance(value, Iterable) else ()
    if not tokens or not all(isinstance(token, Integral) for token in tokens):
        raise OptionError(f"initial_prompt is text, a list of tokens or None, not {value!r}.")
    return tuple(map(int, tokens))


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    try:
        if isinstance(value, str):
            raise TypeError("text has items too, but they are no numbers")
        if name == "suppress_tokens":
            return tuple(map(int, value or ()))
        return (float(value),) if isinstance(value, Real) else tuple(map(float, value))
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name} is a list of numbers, not {value!r}.") from error


def idle_options(options: DecodingOptions) -> list[str]:
    """What can have no effect beside the other options, in a sentence each."""
    default = DecodingOptions()
    reasons = [
        (options.without_timestamps, ["max_initial_timestamp"], "without_timestamps is on"),
        (not options.condition_on_previous_text, ["prompt_reset_on_temperature"], "the text before is not given"),
        (bool(options.prefix), ["hotwords"], "a prefix takes their place"),
        (len(options.temperatures) == 1, ["compression_ratio_threshold"], "there is no second temperature to try"),
        (max(options.temperatures) == 0, ["best_of", "seed"], "no temperature is above 0"),
        (min(options.temperatures) > 0, ["beam_size", "patience", "length_penalty"], "no temperature is 0"),
        (options.beam_size == 1, ["patience", "length_penalty"], "there is one beam"),
    ]
    idle = {
        name: reason
        for is_idle, names, reason in reasons
        for name in names
        if is_idle and getattr(options, name) != getattr(default, name)
    }
    return [f"{name} has no effect: {reason}" for name, reason in idle.items()]


def _check_task(task: Task, model: Backend) -> None:
    if task == "translate" and not model.is_multilingual:
        raise OptionError("This model knows English only: it cannot translate. Use a model without .en in its name.")


@dataclass(frozen=True)
class _VadOptions:
    chunk_size: float = CHUNK_LENGTH
    vad_onset: float = 0.5
    vad_offset: float | None = None
