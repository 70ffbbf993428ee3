"""Which rows to decode for each chunk, and what to do with those that are done. No arrays but the sound itself.

A chunk whose transcript will not do waits at the end of the line for its next temperature; the others go on.

A transcript gets half of the text context, as Whisper was trained and as openai/whisper, faster-whisper and WhisperX
cut it. One that fills it and will do all the same, as there are in scripts with many tokens for a word, is decoded once
more with all the room there is, so that none of it is lost; one that says the same again and again is not.
"""

import zlib
from collections.abc import Sequence

import numpy as np

from whisperx.audio import SAMPLE_RATE
from whisperx.errors import OptionError
from whisperx.models.whisper.results import make_result, needs_fallback
from whisperx.models.whisper.row import Row
from whisperx.schema import Audio, DecodingOptions, DecodingResult
from whisperx.tokenizer import Tokenizer


class Attempts:
    """The attempts at the transcripts of some chunks.

    text_before : tokens of the transcript so far, as context for the chunks
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        options: DecodingOptions,
        n_text_ctx: int,
        chunks: Sequence[Audio],
        text_before: Sequence[int] = (),
    ) -> None:
        self._tokenizer = tokenizer
        self._options = options
        self._n_text_ctx = n_text_ctx
        self._chunks = chunks
        self._text_before = text_before
        self._languages: dict[int, str] = {}  # of the chunks that were asked for theirs
        self._finished: dict[int, list[Row]] = {}
        self._given_prompt = () if self._listens else self._prompt(options.language)

    def rows(self, chunk: int, attempt: int = 0, *, is_long: bool = False) -> list[Row]:
        """The rows of one attempt at a chunk. Their prompt is empty while the chunk's language is to be heard.

        is_long : with all the room there is
        """
        temperature = self._options.temperatures[attempt]
        prompt = self._prompt(self._languages[chunk]) if chunk in self._languages else self._given_prompt
        return [
            Row(
                chunk,
                prompt,
                self._tokenizer.sot,
                self._tokenizer.eot,
                self._max_new_tokens(prompt, is_long=is_long),
                temperature,
                attempt,
                self._key(chunk, attempt, sample) if temperature else 0,
                1 if temperature else self._options.beam_size,
            )
            for sample in range(self._options.best_of if temperature else 1)
        ]

    def address(self, row: Row, language: str) -> None:
        """Give a row without a prompt the one for the language that was heard in its chunk."""
        self._languages[row.chunk] = language
        row.prompt = self._prompt(language)
        row.max_new_tokens = self._max_new_tokens(row.prompt)

    def judge(self, row: Row) -> DecodingResult | list[Row]:
        """The result of the row's chunk; or the rows that are to be decoded for it, none while others are under way."""
        finished = self._finished.setdefault(row.chunk, [])
        finished.append(row)
        if len(finished) < (self._options.best_of if row.temperature else 1):
            return []
        del self._finished[row.chunk]
        # Of equal ones always the same, whichever was done first.
        best = max(sorted(finished, key=lambda row: row.key), key=lambda row: row.avg_logprob)
        result = self._result(best)
        if needs_fallback(self._options, result):
            is_last = row.attempt + 1 == len(self._options.temperatures)
            return result if is_last else self.rows(row.chunk, row.attempt + 1)
        if len(result.tokens) == best.max_new_tokens < self._room(best.prompt):
            return self.rows(row.chunk, row.attempt, is_long=True)
        return result

    @property
    def _listens(self) -> bool:
        """Whether each chunk is asked for its language."""
        return self._options.language is None and self._tokenizer.is_multilingual

    def _prompt(self, language: str | None) -> tuple[int, ...]:
        return whole_prompt(self._tokenizer, self._options, language, self._n_text_ctx, self._text_before)

    def _max_new_tokens(self, prompt: tuple[int, ...], *, is_long: bool = False) -> int:
        room = self._room(prompt)
        return room if is_long or self._options.max_new_tokens else min(self._n_text_ctx // 2, room)

    def _room(self, prompt: tuple[int, ...]) -> int:
        room = self._n_text_ctx - len(prompt)
        return min(self._options.max_new_tokens or room, room)

    def _result(self, row: Row) -> DecodingResult:
        return make_result(
            self._tokenizer,
            self._options,
            row.tokens,
            language=self._languages.get(row.chunk) or self._options.language or "en",
            avg_logprob=row.avg_logprob,
            no_speech_prob=row.no_speech_prob,
            temperature=row.temperature,
            duration=len(self._chunks[row.chunk]) / SAMPLE_RATE,
        )

    def _key(self, chunk: int, attempt: int, sample: int) -> int:
        """Random numbers follow from the sound, not from its place, so that order and neighbours do not matter."""
        sound = zlib.crc32(np.ascontiguousarray(self._chunks[chunk]).data)
        return int(np.random.SeedSequence([self._options.seed, sound, attempt, sample]).generate_state(1)[0])


def whole_prompt(
    tokenizer: Tokenizer,
    options: DecodingOptions,
    language: str | None,
    n_text_ctx: int,
    text_before: Sequence[int] = (),
) -> tuple[int, ...]:
    """What stands before the transcript of a chunk: context, start of transcript, prefix.

    As in faster-whisper: hotwords, the text before (initial prompt and transcript so far) and prefix take less than
    half of the text context each, and a prefix makes hotwords void.
    """
    longest = n_text_ctx // 2 - 1
    hotwords = None if options.prefix else options.hotwords
    context = tokenizer.context(
        initial_prompt=options.initial_prompt, hotwords=hotwords, max_tokens=longest, text_before=text_before
    )
    start = tokenizer.prompt(language, options.task, without_timestamps=options.without_timestamps)
    prefix = tokenizer.encode(" " + options.prefix.strip())[:longest] if options.prefix else []
    prompt = (*context, *start, *prefix)
    if len(prompt) >= n_text_ctx:
        raise OptionError(
            f"initial_prompt, hotwords and prefix take {len(prompt)} tokens; at most {n_text_ctx - 1} fit."
        )
    return prompt


def suppressed_tokens(tokenizer: Tokenizer, options: DecodingOptions) -> set[int]:
    """Tokens that are never sampled: those of the prompt, those asked for, and -1 expanded.

    Raises OptionError for an id that is not in the vocabulary.
    """
    suppressed = set(tokenizer.never_sampled_tokens)
    n_vocab = tokenizer.encoding.n_vocab
    for token in options.suppress_tokens:
        if not -1 <= token < n_vocab:
            raise OptionError(f"suppress_tokens: {token} is no token; expected -1 or 0 to {n_vocab - 1}.")
        suppressed.update([*tokenizer.non_speech_tokens, *tokenizer.suppressed] if token == -1 else [token])
    if options.suppress_numerals:
        suppressed.update(tokenizer.numeral_tokens)
    return suppressed
