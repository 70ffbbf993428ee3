"""Whisper's tokens: text to ids and back, special ids, prompts and the lists of tokens to suppress. No array library.

The ids follow from the vocabulary: byte-pair ranks first, then endoftext, startoftranscript, the languages, translate,
transcribe, startoflm, startofprev, nospeech, notimestamps, and 1501 timestamps of 0.02 s.
"""

import base64
import codecs
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import tiktoken

from whisperx.errors import CheckpointError, OptionError
from whisperx.schema import Task

# In the order of their token ids; the last one exists in vocabularies of 51866 tokens only (large-v3 and later).
# fmt: off
LANGUAGES = {
    "en": "english", "zh": "chinese", "de": "german", "es": "spanish", "ru": "russian", "ko": "korean",
    "fr": "french", "ja": "japanese", "pt": "portuguese", "tr": "turkish", "pl": "polish", "ca": "catalan",
    "nl": "dutch", "ar": "arabic", "sv": "swedish", "it": "italian", "id": "indonesian", "hi": "hindi",
    "fi": "finnish", "vi": "vietnamese", "he": "hebrew", "uk": "ukrainian", "el": "greek", "ms": "malay",
    "cs": "czech", "ro": "romanian", "da": "danish", "hu": "hungarian", "ta": "tamil", "no": "norwegian",
    "th": "thai", "ur": "urdu", "hr": "croatian", "bg": "bulgarian", "lt": "lithuanian", "la": "latin", "mi": "maori",
    "ml": "malayalam", "cy": "welsh", "sk": "slovak", "te": "telugu", "fa": "persian", "lv": "latvian",
    "bn": "bengali", "sr": "serbian", "az": "azerbaijani", "sl": "slovenian", "kn": "kannada", "et": "estonian",
    "mk": "macedonian", "br": "breton", "eu": "basque", "is": "icelandic", "hy": "armenian", "ne": "nepali",
    "mn": "mongolian", "bs": "bosnian", "kk": "kazakh", "sq": "albanian", "sw": "swahili", "gl": "galician",
    "mr": "marathi", "pa": "punjabi", "si": "sinhala", "km": "khmer", "sn": "shona", "yo": "yoruba", "so": "somali",
    "af": "afrikaans", "oc": "occitan", "ka": "georgian", "be": "belarusian", "tg": "tajik", "sd": "sindhi",
    "gu": "gujarati", "am": "amharic", "yi": "yiddish", "lo": "lao", "uz": "uzbek", "fo": "faroese",
    "ht": "haitian creole", "ps": "pashto", "tk": "turkmen", "nn": "nynorsk", "mt": "maltese", "sa": "sanskrit",
    "lb": "luxembourgish", "my": "myanmar", "bo": "tibetan", "tl": "tagalog", "mg": "malagasy", "as": "assamese",
    "tt": "tatar", "haw": "hawaiian", "ln": "lingala", "ha": "hausa", "ba": "bashkir", "jw": "javanese",
    "su": "sundanese", "yue": "cantonese",
}
# fmt: on

TO_LANGUAGE_CODE = {name: code for code, name in LANGUAGES.items()} | {
    "burmese": "my",
    "valencian": "ca",
    "flemish": "nl",
    "haitian": "ht",
    "letzeburgesch": "lb",
    "pushto": "ps",
    "panjabi": "pa",
    "moldavian": "ro",
    "moldovan": "ro",
    "sinhalese": "si",
    "castilian": "es",
    "mandarin": "zh",
}

# Written without spaces between words.
UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "km", "yue"})
LANGUAGES_WITHOUT_SPACES = ["ja", "zh"]  # those of them that WhisperX knows, under its name

# Languages of Punkt, NLTK's sentence splitter, which WhisperX uses.
PUNKT_LANGUAGES = {
    "cs": "czech",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "et": "estonian",
    "fi": "finnish",
    "fr": "french",
    "it": "italian",
    "ml": "malayalam",
    "nl": "dutch",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ru": "russian",
    "sl": "slovene",
    "sv": "swedish",
    "tr": "turkish",
}

N_TIMESTAMPS = 1501
SECONDS_PER_TIMESTAMP = 0.02

# How GPT-2 cuts text into pieces before byte-pair encoding (Radford et al. 2019; kept by Whisper).
_PIECES = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

# What transcribers write but nobody says: brackets, markup, music notes. Suppressed unless asked for (openai/whisper).
_ANNOTATIONS = [
    *'"#()*+/:;<=>@[\\]^_`{|}~「」『』',
    *[
        "<<",
        ">>",
        "<<<",
        ">>>",
        "--",
        "---",
        "-(",
        "-[",
        "('",
        '("',
        "((",
        "))",
        "(((",
        ")))",
        "[[",
        "]]",
        "{{",
        "}}",
        "♪♪",
        "♪♪♪",
    ],
]
_MUSIC = "♩♪♫♬♭♮♯"  # U+2640..267F share their first two bytes, so suppressing the first token of each is safe
_NUMERALS = frozenset("0123456789%$£")


def language_code(name: str) -> str:
    """Code of a language given by code or English name in any case, as "de", "German" or "haitian creole".

    Raises OptionError for a language that Whisper does not know.
    """
    lowered = name.strip().lower()
    code = TO_LANGUAGE_CODE.get(lowered, lowered)
    if code not in LANGUAGES:
        raise OptionError(f"Unsupported language: {name}")
    return code


class Piece(NamedTuple):
    """Tokens that make up whole characters."""

    text: str
    n_tokens: int


@dataclass(frozen=True)
class Tokenizer:
    """Text to token ids and back for one vocabulary, with the ids of its special tokens."""

    encoding: tiktoken.Encoding
    special: Mapping[str, int]  # "<|en|>" -> id
    suppressed: tuple[int, ...] = ()  # what the model's generation_config.json says never to sample
    suppressed_first: tuple[int, ...] = ()  # and what not to begin with

    @cached_property
    def eot(self) -> int:
        return self.special["<|endoftext|>"]

    @cached_property
    def sot(self) -> int:
        return self.special["<|startoftranscript|>"]

    @cached_property
    def sot_prev(self) -> int:
        return self.special["<|startofprev|>"]

    @cached_property
    def no_speech(self) -> int:
        return self.special["<|nospeech|>"]

    @cached_property
    def no_timestamps(self) -> int:
        return self.special["<|notimestamps|>"]

    @cached_property
    def timestamp_begin(self) -> int:
        return self.special["<|0.00|>"]

    @cached_property
    def language_tokens(self) -> dict[str, int]:
        """Language code -> token id; empty for an English-only vocabulary."""
        if not self.is_multilingual:
            return {}
        return {code: self.special[f"<|{code}|>"] for code in LANGUAGES if f"<|{code}|>" in self.special}

    @cached_property
    def is_multilingual(self) -> bool:
        return self.encoding.n_vocab >= 51865

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; special tokens written out in it are text like any other."""
        return self.encoding.encode(text, disallowed_special=())

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of `tokens`, special tokens and timestamps left out."""
        return self.encoding.decode([token for token in tokens if token < self.eot])

    def pieces(self, tokens: Iterable[int]) -> list[Piece]:
        """Text tokens in the smallest pieces of whole characters; their texts joined are `decode(tokens)`."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        pieces = []
        text, n_tokens = "", 0
        for token in tokens:
            text += decoder.decode(self.encoding.decode_single_token_bytes(token))
            n_tokens += 1
            if text and not decoder.getstate()[0]:  # one token of the multilingual vocabulary has no text
                pieces.append(Piece(text, n_tokens))
                text, n_tokens = "", 0
        if text := text + decoder.decode(b"", final=True):
            pieces.append(Piece(text, n_tokens))
        return pieces

    def prompt(self, language: str | None, task: Task, *, without_timestamps: bool) -> tuple[int, ...]:
        """The tokens that start a transcript: startoftranscript, language and task, and notimestamps if so.

        Raises OptionError for a language or a task that this vocabulary has no token for.
        """
        tokens = [self.sot]
        if self.is_multilingual:
            if language not in self.language_tokens:
                raise OptionError(f"Unsupported language: {language} (this model knows {len(self.language_tokens)})")
            tokens += [self.language_tokens[language], self.special[f"<|{task}|>"]]
        elif task == "translate":
            raise OptionError(
                "This model knows English only: it cannot translate. Use a model without .en in its name."
            )
        if without_timestamps:
            tokens.append(self.no_timestamps)
        return tuple(tokens)

    def context(
        self,
        *,
        initial_prompt: str | Sequence[int] | None,
        hotwords: str | None,
        max_tokens: int,
        text_before: Sequence[int] = (),
    ) -> tuple[int, ...]:
        """What goes before a transcript: startofprev, hotwords, and the end of the text before; nothing without any.

        The text before is the initial prompt, text or its tokens, and the tokens of the transcript so far. Hotwords are
        cut to `max_tokens` at their end, the text before at its beginning. Raises OptionError for a token that does not
        exist.
        """
        expected = self.encode(" " + hotwords.strip())[:max_tokens] if hotwords else []
        said = self.encode(" " + initial_prompt.strip()) if isinstance(initial_prompt, str) else initial_prompt or []
        if unknown := [token for token in said if not 0 <= token < self.encoding.n_vocab]:
            last = self.encoding.n_vocab - 1
            raise OptionError(f"initial_prompt: {unknown[0]} is no token; expected text, or ids from 0 to {last}.")
        tokens = expected + [*said, *text_before][-max_tokens:]
        return (self.sot_prev, *tokens) if tokens else ()

    @cached_property
    def non_speech_tokens(self) -> tuple[int, ...]:
        """Tokens that start an annotation instead of speech: speaker tags, brackets, notes. Sorted."""
        suppressed = {self.encode(" -")[0], self.encode(" '")[0]}  # fine inside a word, not at its beginning
        for text in (*_ANNOTATIONS, *_MUSIC):
            for tokens in (self.encode(text), self.encode(" " + text)):
                if len(tokens) == 1 or text in _MUSIC:
                    suppressed.add(tokens[0])
        return tuple(sorted(suppressed))

    @cached_property
    def never_sampled_tokens(self) -> tuple[int, ...]:
        """Special tokens that belong to the prompt and never to a transcript."""
        names = ("startoftranscript", "translate", "transcribe", "startoflm", "startofprev", "nospeech")
        return tuple(sorted(self.special[f"<|{name}|>"] for name in names if f"<|{name}|>" in self.special))

    @cached_property
    def numeral_tokens(self) -> tuple[int, ...]:
        """Tokens whose text has a digit or one of % $ £ (`--suppress_numerals`)."""
        texts = ((token, self.encoding.decode([token])) for token in range(self.eot))
        return tuple(token for token, text in texts if not _NUMERALS.isdisjoint(text))


@cache
def get_tokenizer(n_vocab: int = 51865) -> Tokenizer:
    """The tokenizer of OpenAI's vocabularies: 51864 (English only), 51865 (99 languages), 51866 (100 languages)."""
    n_languages = n_vocab - 51765 - (n_vocab >= 51865)
    if n_languages not in (99, 100):
        raise CheckpointError(
            f"A vocabulary of {n_vocab} tokens is none of Whisper's (51864, 51865, 51866): "
            "the model folder needs its own tokenizer.json."
        )
    name = "multilingual" if n_vocab >= 51865 else "gpt2"
    lines = files("whisperx").joinpath(f"assets/{name}.tiktoken").read_text("ascii").splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(str.split, lines)}
    return _build(name, ranks, _special_tokens(len(ranks), list(LANGUAGES)[:n_languages]))


def read_tokenizer(folder: Path, n_vocab: int, generation_config: Mapping[str, Any] | None = None) -> Tokenizer:
    """The tokenizer of a model folder: its own `tokenizer.json` where there is one, else OpenAI's for `n_vocab` tokens.

    generation_config : the model's; tells which tokens it suppresses

    Only byte-level BPE is read (every Whisper fine-tune has it); anything else raises CheckpointError.
    """
    path = folder / "tokenizer.json"
    tokenizer = _read_vocabulary(path) if path.is_file() else get_tokenizer(n_vocab)

    def tokens(name: str) -> tuple[int, ...]:
        listed = (generation_config or {}).get(name)
        ids = listed if isinstance(listed, list) else []
        return tuple(token for token in ids if type(token) is int and 0 <= token < n_vocab)

    return replace(tokenizer, suppressed=tokens("suppress_tokens"), suppressed_first=tokens("begin_suppress_tokens"))


def _read_vocabulary(path: Path) -> Tokenizer:
    try:
        content = _parse_tokenizer(path.read_bytes())
        vocabulary: dict[str, int] = content["model"]["vocab"]
        added: dict[str, int] = {token["content"]: token["id"] for token in content["added_tokens"]}
        ranks = {_to_bytes(token): rank for token, rank in vocabulary.items() if token not in added}
        _check_ids(list(ranks.values()), list(added.values()))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is no byte-level BPE tokenizer: {error}") from error
    if "<|nocaptions|>" in added:  # the name in Hugging Face's tokenizers of the first two generations
        added.setdefault("<|nospeech|>", added["<|nocaptions|>"])
    # Folders often list only some of the timestamps, or none: the rest of the ids follows from where they begin.
    first = added.get("<|notimestamps|>", -2) + 1
    special = {f"<|{i * SECONDS_PER_TIMESTAMP:.2f}|>": first + i for i in range(N_TIMESTAMPS)} | added
    missing = [f"<|{name}|>" for name in _REQUIRED if f"<|{name}|>" not in added]
    if missing:
        raise CheckpointError(f"{path} lacks the tokens {', '.join(missing)}: this is no Whisper tokenizer.")
    n_missing = sum(bytes([byte]) not in ranks for byte in range(256))
    if n_missing:
        raise CheckpointError(f"{path} has no token for {n_missing} of the 256 bytes: some text could not be encoded.")
    return _build(str(path), ranks, special)


def _check_ids(ranks: list[Any], added: list[Any]) -> None:
    """Raises ValueError for ids that tiktoken does not survive: it panics, which no `except Exception` catches."""
    are_ids = all(type(token) is int and 0 <= token < 1 << 31 for token in (*ranks, *added))
    if not are_ids or len(set(ranks)) < len(ranks):
        raise ValueError("the ids of its tokens are not different whole numbers from 0 up")


def _parse_tokenizer(text: bytes) -> dict[str, Any]:
    """`tokenizer.json`, without its merges where they stand last: nobody here needs them, and they take most time."""
    merges = re.search(rb',\s*"merges"\s*:\s*\[', text)
    if merges is not None:
        with suppress(ValueError):
            content: dict[str, Any] = json.loads(text[: merges.start()] + b"}}")
            if "added_tokens" in content and "vocab" in content.get("model", {}):
                return content
    whole: dict[str, Any] = json.loads(text)
    return whole


_REQUIRED = (
    "endoftext", "startoftranscript", "translate", "transcribe", "startofprev", "nospeech", "notimestamps",
)  # fmt: skip


def _special_tokens(first: int, languages: Sequence[str]) -> dict[str, int]:
    names = [
        *("endoftext", "startoftranscript"),
        *languages,
        *("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"),
        *(f"{i * SECONDS_PER_TIMESTAMP:.2f}" for i in range(N_TIMESTAMPS)),
    ]
    return {f"<|{name}|>": first + i for i, name in enumerate(names)}


def _build(name: str, ranks: dict[bytes, int], special: dict[str, int]) -> Tokenizer:
    encoding = tiktoken.Encoding(name, pat_str=_PIECES, mergeable_ranks=ranks, special_tokens=special)
    return Tokenizer(encoding, special)


@cache
def _byte_of_character() -> dict[int, int]:
    """GPT-2 writes each byte as a printable character: printable Latin-1 as itself, the rest from U+0100 on.

    What cannot stand for a byte becomes a character that Latin-1 has not.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    no_byte = dict.fromkeys(others, 65535)
    return no_byte | {byte: byte for byte in printable} | {256 + i: byte for i, byte in enumerate(others)}


def _to_bytes(token: str) -> bytes:
    return token.translate(_byte_of_character()).encode("latin-1")
