"""Whole decoding against openai-whisper on the same random weights: the same tokens with the same probabilities."""

from collections import deque

import mlx.core as mx
import numpy as np
import pytest
import torch
import whisper
from random_whisper import TALKER, checkpoint, random_speech, talker_arrays
from references import openai_whisper

from whisperx.audio import log_mel_spectrogram, pad_or_trim
from whisperx.models.whisper.decoding import Batch, run
from whisperx.models.whisper.filters import TokenRules
from whisperx.models.whisper.loading import build_whisper
from whisperx.models.whisper.row import Row
from whisperx.schema import DecodingOptions, Meter
from whisperx.tokenizer import get_tokenizer

N_CHUNKS = 6
TOKENIZER = get_tokenizer(51865)


@pytest.fixture(scope="module")
def mels() -> list[np.ndarray]:
    return [log_mel_spectrogram(pad_or_trim(random_speech(4 + 3 * seed, seed)), 80) for seed in range(N_CHUNKS)]


@pytest.fixture(scope="module")
def reference() -> whisper.Whisper:
    return openai_whisper(TALKER, talker_arrays())


@pytest.fixture(scope="module")
def ours():
    return build_whisper(checkpoint(TALKER, talker_arrays()), dtype=mx.float32)


def decode(model, mels: list[np.ndarray], options: DecodingOptions, batch_size: int) -> list[Row]:
    prompt = TOKENIZER.context(initial_prompt=options.initial_prompt, hotwords=None, max_tokens=223) + TOKENIZER.prompt(
        options.language, options.task, without_timestamps=options.without_timestamps
    )
    rows = deque(Row(i, prompt, TOKENIZER.sot, TOKENIZER.eot, options.max_new_tokens) for i in range(len(mels)))
    batch = Batch(model, TokenRules(TOKENIZER, options, model.decoder.positional_embedding), batch_size, Meter())

    def encode(row):
        return model.decoder.cross_key_value(model.encoder(mx.array(mels[row.chunk].T)))

    return sorted(run(batch, rows, encode, Meter()), key=lambda row: row.chunk)


@pytest.mark.parametrize(
    "options",
    [
        DecodingOptions(language="en", max_new_tokens=40),
        DecodingOptions(language="de", task="translate", max_new_tokens=40),
        DecodingOptions(language="en", max_new_tokens=40, without_timestamps=False, max_initial_timestamp=1.0),
        DecodingOptions(language="en", max_new_tokens=40, initial_prompt="It was a dark and stormy night."),
    ],
    ids=["transcribe", "translate", "timestamps", "prompt"],
)
def test_tokens_and_probabilities_equal_those_of_openai_whisper(ours, reference, mels, options):
    expected = whisper.decode(
        reference,
        torch.from_numpy(np.stack(mels)),
        whisper.DecodingOptions(
            task=options.task,
            language=options.language,
            temperature=0.0,
            sample_len=options.max_new_tokens,
            prompt=options.initial_prompt,
            without_timestamps=options.without_timestamps,
            max_initial_timestamp=options.max_initial_timestamp,
            fp16=False,
        ),
    )
    for row, result in zip(decode(ours, mels, options, batch_size=4), expected, strict=True):
        assert row.tokens == result.tokens
        assert row.avg_logprob == pytest.approx(result.avg_logprob, abs=2e-4)
        assert row.no_speech_prob == pytest.approx(result.no_speech_prob, abs=1e-5)
