import json

import pytest

from whisperx.errors import CheckpointError, OptionError
from whisperx.tokenizer import LANGUAGES, TO_LANGUAGE_CODE, get_tokenizer, language_code, read_tokenizer

VOCABULARIES = [51864, 51865, 51866]


@pytest.mark.parametrize(
    ("n_vocab", "eot", "sot", "first_language", "transcribe", "no_timestamps", "timestamp_begin"),
    [
        (51864, 50256, 50257, 50258, 50358, 50362, 50363),
        (51865, 50257, 50258, 50259, 50359, 50363, 50364),
        (51866, 50257, 50258, 50259, 50360, 50364, 50365),
    ],
)
def test_special_tokens_stand_where_whisper_has_them(
    n_vocab, eot, sot, first_language, transcribe, no_timestamps, timestamp_begin
):
    tokenizer = get_tokenizer(n_vocab)
    assert tokenizer.encoding.n_vocab == n_vocab
    assert (tokenizer.eot, tokenizer.sot, tokenizer.special["<|en|>"]) == (eot, sot, first_language)
    assert (tokenizer.special["<|transcribe|>"], tokenizer.no_timestamps) == (transcribe, no_timestamps)
    assert tokenizer.timestamp_begin == timestamp_begin
    assert tokenizer.special["<|30.00|>"] == n_vocab - 1


@pytest.mark.parametrize("n_vocab", VOCABULARIES)
@pytest.mark.parametrize("text", [" Hello, world.", "naïve 你好 🎙️", "<|endoftext|> is text", "", " don't  stop\n"])
def test_text_survives_a_round_trip(n_vocab, text):
    tokenizer = get_tokenizer(n_vocab)
    tokens = tokenizer.encode(text)
    assert max(tokens, default=0) < tokenizer.eot
    assert tokenizer.decode(tokens) == text


def test_decoding_leaves_special_tokens_out():
    tokenizer = get_tokenizer(51865)
    tokens = [tokenizer.sot, tokenizer.timestamp_begin, *tokenizer.encode(" Yes."), 50500, tokenizer.eot]
    assert tokenizer.decode(tokens) == " Yes."


@pytest.mark.parametrize(
    ("n_vocab", "language", "task", "without_timestamps", "expected"),
    [
        (51864, None, "transcribe", True, (50257, 50362)),
        (51864, "en", "transcribe", False, (50257,)),
        (51865, "en", "transcribe", True, (50258, 50259, 50359, 50363)),
        (51865, "de", "translate", False, (50258, 50261, 50358)),
        (51866, "yue", "transcribe", True, (50258, 50358, 50360, 50364)),
    ],
)
def test_a_prompt_names_language_task_and_timestamps(n_vocab, language, task, without_timestamps, expected):
    assert get_tokenizer(n_vocab).prompt(language, task, without_timestamps=without_timestamps) == expected


@pytest.mark.parametrize(
    ("n_vocab", "language", "task"),
    [(51864, None, "translate"), (51865, "yue", "transcribe"), (51866, None, "transcribe")],
)
def test_a_prompt_that_the_vocabulary_has_no_token_for_is_refused(n_vocab, language, task):
    with pytest.raises(OptionError):
        get_tokenizer(n_vocab).prompt(language, task, without_timestamps=True)


def test_suppressed_tokens_start_annotations_and_no_words():
    tokenizer = get_tokenizer(51865)
    texts = {tokenizer.decode([token]) for token in tokenizer.non_speech_tokens}
    assert {"[", " (", "♪♪", '"', " -"} <= texts
    assert not texts & {"-", "'", ".", ",", "?", "!", " a", "I"}
    assert len(tokenizer.non_speech_tokens) == 82


def test_numeral_tokens_have_a_digit_or_a_sign_of_money():
    tokenizer = get_tokenizer(51865)
    texts = {tokenizer.decode([token]) for token in tokenizer.numeral_tokens}
    assert {"7", " 2019", "%", " $", "$"} <= texts
    assert all(set(text) & set("0123456789%$£") for text in texts)


def test_languages_are_known_by_code_and_name_in_any_case():
    assert len(LANGUAGES) == 100
    assert [language_code(name) for name in ("DE", "german", "Haitian Creole", "Castilian", "yue")] == [
        "de", "de", "ht", "es", "yue",
    ]  # fmt: skip
    assert all(language_code(name) in LANGUAGES for name in TO_LANGUAGE_CODE)
    with pytest.raises(OptionError, match="Unsupported language: Klingon"):
        language_code("Klingon")


def test_an_unknown_vocabulary_asks_for_its_tokenizer():
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        get_tokenizer(60000)


def write_tokenizer(folder, vocabulary: dict[str, int], added: dict[str, int]) -> None:
    tokens = [{"content": content, "id": token} for content, token in added.items()]
    content = {"model": {"type": "BPE", "vocab": vocabulary, "merges": []}, "added_tokens": tokens}
    (folder / "tokenizer.json").write_text(json.dumps(content))


ADDED = [
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>",
    "<|startoflm|>", "<|startofprev|>", "<|nocaptions|>", "<|notimestamps|>",
]  # fmt: skip


# How GPT-2 writes bytes: printable ones of Latin-1 as themselves, the others as what follows Latin-1.
PRINTABLE = [chr(byte) for byte in (*range(33, 127), *range(161, 173), *range(174, 256))]
CHARACTERS = [*PRINTABLE, *(chr(256 + i) for i in range(256 - len(PRINTABLE)))]


def vocabulary_of(*tokens: str) -> dict[str, int]:
    """These tokens, and behind them the bytes that are not among them."""
    return {token: rank for rank, token in enumerate(dict.fromkeys([*tokens, *CHARACTERS]))}


def special_after(vocabulary: dict[str, int]) -> dict[str, int]:
    return {content: len(vocabulary) + i for i, content in enumerate(ADDED)}


def test_a_folder_brings_its_own_tokenizer(tmp_path):
    vocabulary = vocabulary_of("a", "b", "hi", "Ġhi")
    added = special_after(vocabulary)
    write_tokenizer(tmp_path, vocabulary | added, added)
    tokenizer = read_tokenizer(tmp_path, 51865)
    assert tokenizer.decode([3, 0, 1, tokenizer.eot]) == " hiab"
    assert tokenizer.decode(tokenizer.encode(" 你好 \x00\xad")) == " 你好 \x00\xad"
    assert tokenizer.no_speech == tokenizer.special["<|nocaptions|>"]
    assert tokenizer.special["<|30.00|>"] == tokenizer.no_timestamps + 1501


MODEL = {"type": "BPE", "vocab": vocabulary_of("a", "Ġa", "merges", ',"merges":[')}
MERGES = {"merges": [["Ġ", "a"]]}
TOKENS = {"added_tokens": [{"content": content, "id": 259 + i} for i, content in enumerate(ADDED)]}


@pytest.mark.parametrize(
    "content",
    [
        TOKENS | {"model": MODEL | MERGES},
        {"model": MODEL | MERGES} | TOKENS,
        TOKENS | {"model": MERGES | MODEL},
        TOKENS | {"model": MODEL | MERGES | {"dropout": None}},
        TOKENS | {"model": MODEL},
        {"trainer": MERGES, "model": MODEL} | TOKENS,
    ],
    ids=["merges last", "model first", "merges first", "merges amid", "no merges", "merges elsewhere"],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_tokenizer_is_the_same_wherever_its_merges_stand(tmp_path, content, indent):
    (tmp_path / "tokenizer.json").write_text(json.dumps(content, indent=indent, ensure_ascii=False))
    tokenizer = read_tokenizer(tmp_path, 51865)
    assert [tokenizer.decode([token]) for token in range(4)] == ["a", " a", "merges", ',"merges":[']
    assert tokenizer.eot == 259


@pytest.mark.parametrize(
    ("vocabulary", "added", "message"),
    [
        ({"a": 0}, {"<|endoftext|>": 1}, "lacks the tokens"),
        ({"日": 0}, {}, "no byte-level BPE"),
        ({"a b": 0}, {}, "no byte-level BPE"),  # a space is written as Ġ
        # tiktoken ends the process, past `except Exception`, where one of these reaches it.
        (vocabulary_of() | {"ab": 0}, special_after(vocabulary_of()), "different whole numbers"),
        (vocabulary_of() | {"ab": -1}, special_after(vocabulary_of()), "different whole numbers"),
        (vocabulary_of() | {"ab": 2**32}, special_after(vocabulary_of()), "different whole numbers"),
        (vocabulary_of() | {"ab": "256"}, special_after(vocabulary_of()), "different whole numbers"),
        (vocabulary_of(), special_after(vocabulary_of()) | {"<|notimestamps|>": "9"}, "different whole numbers"),
        ({"a": 0, "b": 1}, special_after({"a": 0, "b": 1}), "no token for 254 of the 256 bytes"),
    ],
)
def test_a_tokenizer_of_something_else_is_refused(tmp_path, vocabulary, added, message):
    write_tokenizer(tmp_path, vocabulary, added)
    with pytest.raises(CheckpointError, match=message):
        read_tokenizer(tmp_path, 51865)


def test_a_broken_tokenizer_file_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="no byte-level BPE"):
        read_tokenizer(tmp_path, 51865)
