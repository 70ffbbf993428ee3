"""Train examples/demo-aligner: a wav2vec2 of a million parameters that hears which letter is said when.

    python tools/train_demo_aligner.py                   synthesise, train, export, evaluate
    python tools/train_demo_aligner.py --evaluate        evaluate the exported folder
    python tools/train_demo_aligner.py --test_recording  write tests/data/words.flac and words.json

Needs torch (CPU), transformers, this project on the path, and the programs espeak-ng and flite. One core is enough.

What makes so small a network learn in half an hour when a word begins: the synthesiser knows. The loss is CTC (Graves
et al. 2006) over those paths only that write the first letter of a word within a frame of its first sound, the other
letters while it is spoken, and `|` in the gap behind it; a path that does otherwise pays for it.

Half of the text is the demo domain, half any words of GPT-2's vocabulary. One word in sixteen is never trained on.
"""

import argparse
import json
import logging
import math
import random
import re
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import av
import demo_speech
import numpy as np
import torch
from demo_speech import Speech, Utterance, Voice
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from whisperx.alignment import align, load_align_model
from whisperx.audio import SAMPLE_RATE
from whisperx.schema import SingleSegment
from whisperx.tokenizer import get_tokenizer

log = logging.getLogger("train_demo_aligner")

ROOT = Path(__file__).parents[1]
LABELS = ("<pad>", "<s>", "</s>", "<unk>", "|", "'", *"abcdefghijklmnopqrstuvwxyz")
LABEL_IDS = {label: i for i, label in enumerate(LABELS)}

CONFIG = Wav2Vec2Config(
    vocab_size=len(LABELS),
    pad_token_id=0,
    conv_dim=(64, 96, 128, 128),
    conv_kernel=(80, 4, 4, 2),
    conv_stride=(10, 4, 4, 2),  # a frame each 20 ms, as in every wav2vec2
    conv_bias=True,
    feat_extract_norm="layer",
    do_stable_layer_norm=True,
    hidden_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=384,
    num_conv_pos_embeddings=32,
    num_conv_pos_embedding_groups=4,
    hidden_dropout=0.0,
    attention_dropout=0.0,
    activation_dropout=0.0,
    feat_proj_dropout=0.0,
    final_dropout=0.0,
    layerdrop=0.0,
    apply_spec_augment=False,
)
SAMPLES_PER_FRAME = math.prod(CONFIG.conv_stride)


@dataclass(frozen=True)
class Plan:
    """How to train. The schedule counts steps, so that the result does not depend on the speed of the machine."""

    seed: int = 20261122
    n_utterances: int = 2200
    n_words: int = 2500  # of GPT-2's vocabulary
    n_steps: int = 1500
    window_seconds: tuple[float, ...] = (6.0, 10.0, 16.0)  # of which a batch has one kind
    seconds_per_step: float = 32.0  # of audio in a batch
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.02
    averaging: float = 0.99  # the exported weights are a running mean of the trained ones


# ---- speech whose words have times ----


@dataclass(frozen=True)
class TimedWord:
    """A word in small letters and the seconds from its first sound to the end of its last."""

    word: str
    start: float
    end: float


def word_times(text: str, speech: Speech) -> list[TimedWord]:
    """The words of `text` as `speech` says them. Raises ValueError when a word has no sound of its own."""
    words = demo_speech.words(text)
    ends = [start for _, start, _ in speech.sounds[1:]] + [len(speech.audio) / SAMPLE_RATE]
    spans: dict[int, tuple[float, float]] = {}
    for (_, start, number), end in zip(speech.sounds, ends, strict=True):
        if number >= 0:
            spans[number] = (spans.get(number, (start, end))[0], end)
    if sorted(spans) != list(range(len(words))):
        raise ValueError(f"not every word of {text!r} has a sound of its own")
    return [TimedWord(word, *spans[i]) for i, word in enumerate(words)]


def common_words(n: int) -> list[str]:
    """The first `n` English words of four to nine letters that are one token of Whisper's English vocabulary."""
    encoding = get_tokenizer(51864).encoding
    tokens = (encoding.decode_single_token_bytes(i) for i in range(50000))
    words = (token[1:].decode() for token in tokens if re.fullmatch(rb" [a-z]{4,9}", token))
    return [word for word, _ in zip(words, range(n), strict=False)]


def is_held_out(word: str) -> bool:
    return zlib.crc32(word.encode()) % 16 == 0


def salad(words: Sequence[str], rng: random.Random) -> str:
    """Three to six of the words, here and there with a comma."""
    chosen = rng.choices(words, k=rng.randint(3, 6))
    return "".join(word + rng.choice((" ", " ", " ", " ", ", ")) for word in chosen[:-1]) + chosen[-1] + "."


def training_utterances(plan: Plan) -> Iterator[Utterance]:
    """The domain in all voices, other words in those of espeak-ng: flite takes ten times as long."""
    rng = random.Random(plan.seed)  # noqa: S311 - nothing secret
    trained = [word for word in common_words(plan.n_words) if not is_held_out(word)]
    for utterance in demo_speech.training_utterances(plan.seed, plan.n_utterances):
        if rng.random() < 0.5:
            yield Utterance(salad(trained, rng), _espeak_voice(rng))
        else:
            yield utterance


def _espeak_voice(rng: random.Random) -> Voice:
    while (voice := demo_speech.random_voice(rng)).program != "espeak-ng":
        pass
    return voice


@dataclass(frozen=True)
class Recording:
    audio: np.ndarray  # float32 (n_samples,)
    words: list[TimedWord]


def speak(utterances: Iterator[Utterance]) -> list[Recording]:
    recordings = []
    for utterance in utterances:
        speech = demo_speech.synthesize(utterance.text, utterance.voice)
        try:
            recordings.append(Recording(speech.audio, word_times(utterance.text, speech)))
        except ValueError:  # one sentence in a hundred, where words run into each other
            continue
        if len(recordings) % 200 == 0:
            log.info("%d utterances, %.0f s of CPU", len(recordings), time.process_time())
    return recordings


# ---- what to learn: letters, and when each may be written ----


@dataclass(frozen=True)
class Window:
    """Recordings one after the other: audio float32 (n_samples,), labels and their frames as (label, first, last)."""

    audio: np.ndarray
    targets: list[tuple[int, int, int]]
    starts: list[int]  # frames in which words begin


def make_window(recordings: Iterator[Recording], n_samples: int, rng: np.random.Generator) -> Window:
    """As many recordings as fit, at random levels, with pauses and faint noise; the rest is silence."""
    audio = (10 ** rng.uniform(-5, -2.2) * rng.standard_normal(n_samples)).astype(np.float32)
    words: list[TimedWord] = []
    place = int(rng.uniform(0, 0.5) * SAMPLE_RATE)
    for recording in recordings:
        if place + len(recording.audio) > n_samples:
            break
        audio[place : place + len(recording.audio)] += recording.audio * rng.uniform(0.3, 1.5)
        offset = place / SAMPLE_RATE
        words += [TimedWord(word.word, word.start + offset, word.end + offset) for word in recording.words]
        place += len(recording.audio) + int(rng.exponential(0.3) * SAMPLE_RATE)
    starts = [frame_of(word.start) for word in words]
    return Window(audio * 10 ** rng.uniform(-0.8, 0.2), letters(words), starts)


def frame_of(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE / SAMPLES_PER_FRAME)


def letters(words: list[TimedWord]) -> list[tuple[int, int, int]]:
    targets = []
    for word, follower in zip_longest(words, words[1:]):
        start, end = frame_of(word.start), frame_of(word.end)
        targets.append((LABEL_IDS[word.word[0]], start - 1, start + 1))
        targets += [(LABEL_IDS[letter], start + 1, max(end - 1, start + 1)) for letter in word.word[1:]]
        if follower is not None:
            targets.append((LABEL_IDS["|"], end - 1, max(frame_of(follower.start) - 1, end)))
    return targets


def timed_ctc_loss(logits: Tensor, windows: list[Window]) -> Tensor:
    """CTC of logits (B, T, n_labels); a label outside its frames costs 15, a word's first beside its frame 1."""
    cost = torch.full_like(logits, 15.0)
    cost[:, :, 0] = 0
    for row, window in zip(cost, windows, strict=True):
        for label, first, last in window.targets:
            row[max(first, 0) : last + 1, label] = 0
        for start in window.starts:
            beside = row[max(start - 1, 0) : start + 2 : 2]
            beside[:, 5:] = beside[:, 5:].clamp(min=1.0)
    log_probabilities = logits.log_softmax(2) - cost
    targets = torch.tensor([label for window in windows for label, _, _ in window.targets])
    lengths = torch.tensor([len(window.targets) for window in windows])
    n_frames = torch.full((len(windows),), logits.shape[1])
    loss = torch.nn.functional.ctc_loss(
        log_probabilities.transpose(0, 1), targets, n_frames, lengths, reduction="sum", zero_infinity=True
    )
    return loss / len(targets)


# ---- training ----


def new_network() -> Wav2Vec2ForCTC:
    """Random, but for the first filters: bands of the mel scale, cosines and sines under a Hann window."""
    network = Wav2Vec2ForCTC(CONFIG)
    n_filters, _, n_taps = network.wav2vec2.feature_extractor.conv_layers[0].conv.weight.shape
    mel = np.linspace(0, 2595 * math.log10(1 + 7600 / 700), n_filters // 2 + 1)[1:]
    hertz = 700 * (10 ** (mel / 2595) - 1)
    phase = 2 * np.pi * hertz[:, None] * (np.arange(n_taps) - n_taps / 2) / SAMPLE_RATE
    filters = np.concatenate([np.cos(phase), np.sin(phase)]) * np.hanning(n_taps) / math.sqrt(n_taps)
    with torch.no_grad():
        network.wav2vec2.feature_extractor.conv_layers[0].conv.weight.copy_(torch.tensor(filters)[:, None])
    return network


def learning_rate(plan: Plan, step: int) -> float:
    return plan.learning_rate * min((step + 1) / plan.warmup, 1 - step / plan.n_steps)


def train(recordings: list[Recording], plan: Plan) -> Wav2Vec2ForCTC:
    torch.manual_seed(plan.seed)
    rng = np.random.default_rng(plan.seed)
    network = new_network()
    averaged = Wav2Vec2ForCTC(CONFIG)
    averaged.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=plan.weight_decay, betas=(0.9, 0.98))
    supply = shuffled(recordings, rng)
    for step in range(plan.n_steps):
        seconds = plan.window_seconds[rng.integers(len(plan.window_seconds))]
        windows = [
            make_window(supply, round(seconds * SAMPLE_RATE), rng)
            for _ in range(round(plan.seconds_per_step / seconds))
        ]
        logits = network(torch.from_numpy(np.stack([window.audio for window in windows]).astype(np.float32))).logits
        loss = timed_ctc_loss(logits, windows)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(plan, step)
        optimizer.step()
        with torch.no_grad():
            for mean, weight in zip(averaged.parameters(), network.parameters(), strict=True):
                mean.lerp_(weight, max(1 - plan.averaging, 1 / (step + 1)))
        if step % 25 == 0:
            log.info("step %d, loss of a letter %.3f, %.0f s of CPU", step, loss.item(), time.process_time())
    return averaged


def shuffled(recordings: list[Recording], rng: np.random.Generator) -> Iterator[Recording]:
    while True:
        for i in rng.permutation(len(recordings)):
            yield recordings[i]


# ---- export and evaluation ----


def export(network: Wav2Vec2ForCTC, folder: Path) -> None:
    """Write a model folder as the Hugging Face Hub has it, in float16."""
    network.half().save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(LABEL_IDS))
    preprocessor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": False, "feature_size": 1}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor | {"sampling_rate": SAMPLE_RATE}))
    tokenizer = {"tokenizer_class": "Wav2Vec2CTCTokenizer", "do_lower_case": True, "word_delimiter_token": "|"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))


def test_sets() -> dict[str, list[Utterance]]:
    """Utterances that training never yields."""
    rng = random.Random(1)  # noqa: S311 - nothing secret
    plan = Plan()
    unknown = [word for word in common_words(plan.n_words) if is_held_out(word)]
    texts = demo_speech.held_out_sentences(2, 80)
    strangers = (demo_speech.FLITE_HELD_OUT, demo_speech.ESPEAK_HELD_OUT)
    return {
        "domain, known voices": [Utterance(text, demo_speech.known_voice(rng)) for text in texts[:40]],
        "domain, other voices": [Utterance(text, rng.choice(strangers)) for text in texts[40:]],
        "words never trained on": [Utterance(salad(unknown, rng), _espeak_voice(rng)) for _ in range(40)],
    }


def evaluate(folder: Path) -> list[str]:
    """Lines of a table: how far word starts are from the truth, by the command's own aligner."""
    model, metadata = load_align_model("en", "cpu", str(folder))
    lines = [f"{'word starts':26}{'words':>6}{'median':>9}{'95 %':>9}{'over 100 ms':>13}"]
    for name, utterances in test_sets().items():
        errors: list[float] = []
        for utterance in utterances:
            speech = demo_speech.synthesize(utterance.text, utterance.voice)
            truth = word_times(utterance.text, speech)
            silence = np.zeros(3 * SAMPLE_RATE // 10, np.float32)
            audio = np.concatenate([silence, speech.audio, silence])
            segment: SingleSegment = {"text": utterance.text, "start": 0.0, "end": len(audio) / SAMPLE_RATE}
            words = align([segment], model, metadata, audio, "cpu")["word_segments"]
            offset = len(silence) / SAMPLE_RATE
            errors += [abs(w["start"] - offset - t.start) for w, t in zip(words, truth, strict=True)]
        median, worse = np.percentile(errors, (50, 95)) * 1000
        late = 100 * np.mean(np.array(errors) > 0.1)
        lines.append(f"{name:26}{len(errors):6}{median:6.0f} ms{worse:6.0f} ms{late:11.1f} %")
    return lines


Spoken = Sequence[tuple[Voice, str, float]]  # who says what, and the pause that follows in seconds


def record(spoken: Spoken) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """All sentences in a row as `demo_speech.write_demo` has them, int16 samples, and when each and its words are said:
    a list of {"text", "start", "end", "words": [{"word", "start", "end"}]}."""
    pieces = [np.zeros(SAMPLE_RATE // 2, np.float32)]
    sentences = []
    for voice, text, pause in spoken:
        speech = demo_speech.synthesize(text, voice)
        place = sum(len(piece) for piece in pieces) / SAMPLE_RATE
        words = [
            {"word": word.word, "start": round(place + word.start, 3), "end": round(place + word.end, 3)}
            for word in word_times(text, speech)
        ]
        sentences.append({"text": text, "start": words[0]["start"], "end": words[-1]["end"], "words": words})
        pieces += [speech.audio, np.zeros(round(pause * SAMPLE_RATE), np.float32)]
    return np.rint(np.concatenate(pieces) * 32767).astype(np.int16), sentences


def write_sentences(path: Path, sentences: list[dict[str, Any]]) -> None:
    path.write_text("[\n" + ",\n".join(json.dumps(sentence) for sentence in sentences) + "\n]\n")


def write_test_recording(folder: Path) -> None:
    """Write `words.flac` and `words.json`: held-out sentences, and words that were never trained on."""
    sets = test_sets()
    chosen = [utterance for name in sets for utterance in sets[name][:3]]
    samples, sentences = record([(utterance.voice, utterance.text, 0.4) for utterance in chosen])
    folder.mkdir(exist_ok=True)
    with av.open(str(folder / "words.flac"), "w") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono", format="s16")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    write_sentences(folder / "words.json", sentences)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "examples" / "demo-aligner")
    parser.add_argument("--evaluate", action="store_true", help="only measure the exported folder")
    parser.add_argument("--test_recording", action="store_true", help="only write tests/data/words.flac, words.json")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    if args.test_recording:
        write_test_recording(ROOT / "tests" / "data")
        return
    if not args.evaluate:
        plan = Plan()
        export(train(speak(training_utterances(plan)), plan), args.output)
    print("\n".join(evaluate(args.output)))


if __name__ == "__main__":
    main()
