"""Our tokenizer against openai-whisper's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from whisper.tokenizer import get_tokenizer as reference_tokenizer

from whisperx.tokenizer import LANGUAGES, get_tokenizer

VOCABULARIES = [(51864, False, 99), (51865, True, 99), (51866, True, 100)]


@pytest.mark.parametrize(("n_vocab", "multilingual", "n_languages"), VOCABULARIES)
def test_every_id_and_suppress_list_is_equal(n_vocab, multilingual, n_languages):
    ours, reference = get_tokenizer(n_vocab), reference_tokenizer(multilingual, num_languages=n_languages)
    assert ours.encoding.n_vocab == reference.encoding.n_vocab == n_vocab
    assert ours.special == reference.special_tokens
    assert ours.non_speech_tokens == reference.non_speech_tokens
    if multilingual:
        assert set(ours.language_tokens.values()) == set(reference.all_language_tokens)


@pytest.mark.parametrize("language", [*LANGUAGES][:-1])
@pytest.mark.parametrize("task", ["transcribe", "translate"])
def test_every_prompt_is_equal(language, task):
    reference = reference_tokenizer(True, num_languages=99, language=language, task=task)
    ours = get_tokenizer(51865)
    assert ours.prompt(language, task, without_timestamps=True) == reference.sot_sequence_including_notimestamps
    assert ours.prompt(language, task, without_timestamps=False) == reference.sot_sequence


@given(st.text(max_size=60))
def test_any_text_has_the_same_tokens(text):
    for n_vocab, multilingual, n_languages in VOCABULARIES:
        reference = reference_tokenizer(multilingual, num_languages=n_languages)
        tokens = reference.encoding.encode(text, disallowed_special=())
        assert get_tokenizer(n_vocab).encode(text) == tokens
        assert get_tokenizer(n_vocab).decode(tokens) == reference.decode(tokens)
