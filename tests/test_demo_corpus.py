import importlib.util
import random
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def demo_speech() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_speech", ROOT / "tools" / "demo_speech.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo_speech"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_domain_has_at_least_300_words(demo_speech: ModuleType) -> None:
    assert len({word.lower() for word in demo_speech.vocabulary()}) >= 300


def test_sentences_are_words_of_the_vocabulary_written_as_a_transcript(demo_speech: ModuleType) -> None:
    rng = random.Random(1)  # noqa: S311 - nothing secret
    vocabulary = {word.lower() for word in demo_speech.vocabulary()}
    for text in [demo_speech.sentence(rng) for _ in range(2000)] + [demo_speech.word_salad(rng) for _ in range(200)]:
        assert re.fullmatch(r"[A-Z][a-zA-Z']*(,? [a-zA-Z']+)*[.?]", text), text
        assert {word.lower() for word in re.findall(r"[\w']+", text)} <= vocabulary, text


def test_every_template_can_be_reached(demo_speech: ModuleType) -> None:
    used = set(re.findall(r"\{(\w+)\}", " ".join(line for lines in demo_speech.GRAMMAR.values() for line in lines)))
    assert used | {"sentence"} == set(demo_speech.GRAMMAR)


def test_training_never_sees_a_held_out_sentence(demo_speech: ModuleType) -> None:
    trained = {utterance.text for utterance in demo_speech.training_utterances(3, 3000)}
    held_out = demo_speech.held_out_sentences(4, 200)
    assert len(set(held_out)) == 200
    assert trained.isdisjoint(held_out)


def test_training_never_hears_a_held_out_voice(demo_speech: ModuleType) -> None:
    names = {utterance.voice.name for utterance in demo_speech.training_utterances(3, 3000)}
    assert demo_speech.FLITE_HELD_OUT.name not in names
    assert demo_speech.ESPEAK_HELD_OUT.name not in names


@pytest.mark.parametrize(
    ("spoken", "expected", "matches"),
    [
        ("abc", "abc", [0, 1, 2]),
        ("axc", "abc", [0, 1, 2]),  # another sound
        ("ac", "abc", [0, 2]),  # one too few
        ("abxc", "abc", [0, 1, 2, 2]),  # one too many belongs to what follows
        ("abcx", "abc", [0, 1, 2, 2]),
        ("xabc", "abc", [0, 0, 1, 2]),
        ("bc", "aabc", [2, 3]),
    ],
)
def test_spoken_sounds_find_their_place_in_the_words(
    demo_speech: ModuleType, spoken: str, expected: str, matches: list[int]
) -> None:
    assert demo_speech.matches(list(spoken), list(expected)) == matches


def test_the_same_seed_gives_the_same_corpus(demo_speech: ModuleType) -> None:
    assert list(demo_speech.training_utterances(5, 100)) == list(demo_speech.training_utterances(5, 100))
    assert list(demo_speech.training_utterances(5, 100)) != list(demo_speech.training_utterances(6, 100))


def test_demo_recording_has_at_least_eight_held_out_sentences(demo_speech: ModuleType) -> None:
    sentences = (ROOT / "examples" / "demo.txt").read_text().splitlines()
    assert len(sentences) >= 8
    assert all(demo_speech.is_held_out(sentence) for sentence in sentences)
