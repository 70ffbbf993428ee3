"""Word times against openai-whisper's on the same weights."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import torch
import whisper
import whisper.timing
from random_whisper import SMALL_DIMS, TALKER, checkpoint, random_arrays, random_mel, random_speech, talker_arrays
from references import openai_whisper

from whisperx.audio import load_audio, log_mel_spectrogram, pad_or_trim
from whisperx.backends.mlx import MlxBackend
from whisperx.checkpoints import load_checkpoint
from whisperx.models.whisper.loading import build_whisper
from whisperx.models.whisper.timing import token_times

ONE_FRAME = 0.02 + 1e-6


def times_of_theirs(model: whisper.Whisper, mel: np.ndarray, tokens: list[int], language: str, n_samples: int):
    """Start of each token and end of the last: their words, told that each token is one."""
    tokenizer = whisper.tokenizer.get_tokenizer(
        model.is_multilingual, num_languages=model.num_languages, language=language, task="transcribe"
    )
    tokenizer.split_to_word_tokens = lambda tokens: ([str(token) for token in tokens], [[token] for token in tokens])
    timings = whisper.timing.find_alignment(model, tokenizer, tokens, torch.from_numpy(mel), n_samples // 160)
    return [timing.start for timing in timings] + [timings[-1].end], [timing.probability for timing in timings]


@pytest.mark.parametrize(("n_tokens", "seconds"), [(1, 30), (7, 2.5), (60, 30), (60, 0.3)])
def test_times_and_probabilities_of_random_weights_equal_those_of_openai_whisper(n_tokens, seconds):
    arrays = talker_arrays()
    theirs, ours = openai_whisper(TALKER, arrays), build_whisper(checkpoint(TALKER, arrays), dtype=mx.float32)
    heads = np.array([[0, 0], [1, 0]])
    theirs.register_buffer("alignment_heads", torch.ones(2, 1, dtype=torch.bool).to_sparse(), persistent=False)
    mel = log_mel_spectrogram(pad_or_trim(random_speech(seconds, 3)), 80)
    text = np.random.default_rng(n_tokens).integers(0, 50000, n_tokens).tolist()
    starts, probabilities = times_of_theirs(theirs, mel, text, "de", round(seconds * 16000))

    prompt = [50258, 50261, 50359, 50363]
    cross = ours.decoder.cross_key_value(ours.encoder(mx.array(mel.T)))
    hidden, scores = ours.decoder.listen([*prompt, *text, 50257], cross, heads, round(seconds * 50))
    times = token_times(np.asarray(scores), 3, n_tokens)
    np.testing.assert_allclose(times[1:], starts[1:], atol=ONE_FRAME)
    assert times[0] >= starts[0] == 0  # theirs gives the sound before the first token to it

    logits = np.asarray(ours.decoder.logits(hidden))[3 : 3 + n_tokens, :50257]
    softmax = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax /= softmax.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax[np.arange(n_tokens), text], probabilities, rtol=1e-3)


@pytest.mark.parametrize("kind", SMALL_DIMS)
def test_scores_equal_the_attention_that_openai_whisper_returns(kind):
    dims = SMALL_DIMS[kind]
    arrays, mel, tokens = random_arrays(dims), random_mel(dims), [3, 1, 4, 1, 5]
    theirs, ours = openai_whisper(dims, arrays), build_whisper(checkpoint(dims, arrays), dtype=mx.float32)
    heads = np.array([[layer, head] for layer in range(dims.n_text_layer) for head in range(dims.n_text_head)])
    scores = ours.decoder.listen(tokens, ours.decoder.cross_key_value(ours.encoder(mx.array(mel.T))), heads, 50)[1]
    expected = []
    for block in theirs.decoder.blocks:
        block.cross_attn.register_forward_hook(lambda _, inputs, outputs: expected.append(outputs[-1][0]))
    with torch.no_grad(), whisper.model.disable_sdpa():
        theirs(torch.from_numpy(mel[None]), torch.tensor([tokens]))
    np.testing.assert_allclose(np.asarray(scores), torch.cat(expected)[:, :, :50].numpy(), atol=1e-3, rtol=1e-4)


def test_words_of_real_speech_begin_and_end_where_openai_whisper_says(shared):
    folder = shared / "models" / "whisper-tiny.en-relearned"
    loaded = load_checkpoint(folder)
    theirs = openai_whisper(loaded.dims, {name: array.astype(np.float32) for name, array in loaded.arrays.items()})
    heads = torch.zeros(loaded.dims.n_text_layer, loaded.dims.n_text_head, dtype=torch.bool)
    heads[tuple(loaded.alignment_heads.T)] = True
    theirs.register_buffer("alignment_heads", heads.to_sparse(), persistent=False)
    ours = MlxBackend(folder, device="cpu")
    recordings = sorted((shared / "audio" / "word_alignment" / "pocketsphinx_librivox").glob("*.wav"))
    assert len(recordings) == 3
    for recording in recordings:
        audio, text = load_audio(recording), known_text(recording)
        tokens = ours.tokenizer.encode(text)
        starts, _ = times_of_theirs(theirs, log_mel_spectrogram(pad_or_trim(audio), 80), tokens, "en", len(audio))
        (words,) = ours.time_words([audio], [text], "en")
        borders = np.cumsum([0, *(len(ours.tokenizer.encode(word.word)) for word in words)])
        assert borders[-1] == len(tokens)
        starts = np.array(starts)
        late = np.array([word.start for word in words]) - starts[borders[:-1]]
        assert (late > -ONE_FRAME).all()  # later where theirs has a pause in the word
        assert np.mean(late < ONE_FRAME) >= 0.75
        np.testing.assert_allclose([word.end for word in words], starts[borders[1:]], atol=ONE_FRAME)


def known_text(recording: Path) -> str:
    return " " + json.loads(recording.with_suffix(".json").read_text())["t"]
