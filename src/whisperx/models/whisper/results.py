"""From sampled tokens to a result, and whether it will do. No arrays."""

import zlib
from collections.abc import Sequence

from whisperx.schema import DecodingOptions, DecodingResult, TimedText
from whisperx.tokenizer import SECONDS_PER_TIMESTAMP, Tokenizer


def make_result(
    tokenizer: Tokenizer,
    options: DecodingOptions,
    tokens: Sequence[int],
    *,
    language: str,
    avg_logprob: float,
    no_speech_prob: float,
    temperature: float,
    duration: float,
) -> DecodingResult:
    """The result of a chunk of `duration` seconds; a chunk that is silence has no text and no tokens."""
    if is_silence(options, avg_logprob, no_speech_prob):
        tokens = ()
    text = tokenizer.decode(tokens)
    return DecodingResult(
        text=text,
        tokens=tuple(tokens),
        language=language,
        avg_logprob=avg_logprob,
        no_speech_prob=no_speech_prob,
        temperature=temperature,
        compression_ratio=compression_ratio(text),
        pieces=None if options.without_timestamps else timed_pieces(tokenizer, tokens, duration),
    )


def is_silence(options: DecodingOptions, avg_logprob: float, no_speech_prob: float) -> bool:
    """Whether nobody speaks: the model says so, and is unsure of every word it found all the same."""
    if options.no_speech_threshold is None or no_speech_prob <= options.no_speech_threshold:
        return False
    return options.log_prob_threshold is None or avg_logprob <= options.log_prob_threshold


def needs_fallback(options: DecodingOptions, result: DecodingResult) -> bool:
    """Whether the next temperature should be tried, as in openai/whisper's transcribe."""
    if is_silence(options, result.avg_logprob, result.no_speech_prob):
        return False
    repetitive, unsure = options.compression_ratio_threshold, options.log_prob_threshold
    return (repetitive is not None and result.compression_ratio > repetitive) or (
        unsure is not None and result.avg_logprob < unsure
    )


def compression_ratio(text: str) -> float:
    """How many times smaller zlib makes the text."""
    encoded = text.encode("utf-8")
    return len(encoded) / len(zlib.compress(encoded))


def timed_pieces(tokenizer: Tokenizer, tokens: Sequence[int], duration: float) -> tuple[TimedText, ...]:
    """The text between timestamps, in seconds from the start of the chunk; what has no end ends with the chunk."""
    pieces: list[TimedText] = []
    start, words = 0.0, list[int]()

    def close(end: float) -> None:
        if text := tokenizer.decode(words):
            pieces.append(TimedText(text, min(start, duration), min(max(start, end), duration), tuple(words)))
        words.clear()

    for token in tokens:
        if token < tokenizer.timestamp_begin:
            words.append(token)
        else:
            seconds = (token - tokenizer.timestamp_begin) * SECONDS_PER_TIMESTAMP
            close(seconds)
            start = seconds
    close(duration)
    return tuple(pieces)
