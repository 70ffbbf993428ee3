"""Beam search against openai-whisper on the same random weights: the same tokens with the same probabilities."""

from collections import deque
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
import torch
import whisper
from random_whisper import TALKER, checkpoint, random_speech, talker_arrays
from references import openai_whisper

from whisperx.audio import log_mel_spectrogram, pad_or_trim
from whisperx.models.whisper.beam import BeamBatch
from whisperx.models.whisper.decoding import run
from whisperx.models.whisper.filters import TokenRules
from whisperx.models.whisper.loading import build_whisper
from whisperx.models.whisper.model import KeyValue, Whisper
from whisperx.models.whisper.row import Row
from whisperx.schema import DecodingOptions, Meter
from whisperx.tokenizer import get_tokenizer

N_CHUNKS = 5
TOKENIZER = get_tokenizer(51865)
OPTIONS = DecodingOptions(language="en", max_new_tokens=40)
TIMESTAMPS = replace(OPTIONS, without_timestamps=False, max_initial_timestamp=1.0)


@pytest.fixture(scope="module")
def mels() -> list[np.ndarray]:
    return [log_mel_spectrogram(pad_or_trim(random_speech(4 + 3 * seed, seed)), 80) for seed in range(N_CHUNKS)]


@pytest.fixture(scope="module")
def reference() -> whisper.Whisper:
    return openai_whisper(TALKER, talker_arrays())


@pytest.fixture(scope="module")
def heard_by_reference(reference, mels) -> list[torch.Tensor]:
    with torch.no_grad():
        return [reference.encoder(torch.from_numpy(mel[None]))[0] for mel in mels]


@pytest.fixture(scope="module")
def ours() -> Whisper:
    return build_whisper(checkpoint(TALKER, talker_arrays()), dtype=mx.float32)


@pytest.fixture(scope="module")
def heard_by_ours(ours, mels) -> list[list[KeyValue]]:
    return [ours.decoder.cross_key_value(ours.encoder(mx.array(mel.T))) for mel in mels]


def decode(model: Whisper, heard: list[list[KeyValue]], options: DecodingOptions) -> list[Row]:
    prompt = TOKENIZER.prompt(options.language, options.task, without_timestamps=options.without_timestamps)
    rows = deque(
        Row(i, prompt, TOKENIZER.sot, TOKENIZER.eot, options.max_new_tokens, n_beams=options.beam_size)
        for i in range(len(heard))
    )
    batch = BeamBatch(model, TokenRules(TOKENIZER, options, model.decoder.positional_embedding), 3, Meter(), options)
    return sorted(run(batch, rows, lambda row: heard[row.chunk], Meter()), key=lambda row: row.chunk)


@pytest.mark.parametrize("options", [OPTIONS, TIMESTAMPS], ids=["text", "timestamps"])
@pytest.mark.parametrize(("beam_size", "patience"), [(5, 1.0), (2, 1.0), (2, 2.0), (3, 0.5)])
def test_tokens_and_probabilities_equal_those_of_openai_whisper(
    ours, heard_by_ours, reference, heard_by_reference, options, beam_size, patience
):
    rows = decode(ours, heard_by_ours, replace(options, beam_size=beam_size, patience=patience))
    for row, heard in zip(rows, heard_by_reference, strict=True):
        # One at a time: with patience below 1 what openai-whisper yields depends on its batch.
        expected = whisper.decode(
            reference,
            heard,
            whisper.DecodingOptions(
                language="en",
                beam_size=beam_size,
                patience=patience,
                sample_len=options.max_new_tokens,
                without_timestamps=options.without_timestamps,
                max_initial_timestamp=options.max_initial_timestamp,
                fp16=False,
            ),
        )
        assert row.tokens == expected.tokens
        assert row.avg_logprob == pytest.approx(expected.avg_logprob, abs=2e-4)
        assert row.no_speech_prob == pytest.approx(expected.no_speech_prob, abs=1e-5)
    lengths = {len(row.tokens) for row in rows}
    assert len(lengths) > 1
    assert min(lengths) < options.max_new_tokens
