"""The ctranslate2 backend: the same seam as MLX's, and the same text on the same weights."""

import json
import logging
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_whisper import TALKER, random_speech, talker_arrays, write_talker
from safetensors.numpy import save_file

import whisperx
from whisperx import backends
from whisperx.audio import load_audio
from whisperx.backends import choose_backend, load_backend, release_models
from whisperx.backends.ctranslate2_models import _spec, cache_folder, converted, is_ctranslate2_model
from whisperx.checkpoints import load_checkpoint
from whisperx.errors import BackendError, CheckpointError, OptionError
from whisperx.schema import Backend, DecodingOptions, DecodingResult, Meter
from whisperx.tokenizer import read_tokenizer

pytest.importorskip("ctranslate2", reason="pip install 'whisperx-mlx[ctranslate2]' to test that engine")

GREEDY = DecodingOptions(language="en", beam_size=1, temperatures=(0.0,), no_speech_threshold=None, max_new_tokens=12)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of their own for these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield cache_folder()
    release_models()


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_talker(tmp_path_factory.mktemp("talker"))


@pytest.fixture(scope="module")
def chunks() -> list[np.ndarray]:
    return [random_speech(seconds, seed) for seed, seconds in enumerate((3, 1, 2))]


def decoded(
    backend: Backend, chunks: list[np.ndarray], options: DecodingOptions, batch_size: int = 3
) -> list[DecodingResult]:
    return backend.decode(chunks, options, batch_size=batch_size, on_result=lambda *_: None, meter=Meter())


def engines(model: Path) -> tuple[Backend, Backend]:
    return load_backend("ctranslate2", model, threads=1), load_backend("mlx", model, device="cpu")


# The same as MLX


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"beam_size": 3},
        {"beam_size": 2, "length_penalty": 0.5},
        {"without_timestamps": False, "max_initial_timestamp": 1.0},
        {"initial_prompt": "Names: Ann", "hotwords": "Bob"},
        {"prefix": "Well"},
        {"suppress_tokens": (), "suppress_blank": False},
        {"suppress_numerals": True},
        {"no_repeat_ngram_size": 1},
        {"repetition_penalty": 1.3},
        {"max_new_tokens": 3},
        {"condition_on_previous_text": True},
        {"task": "translate", "language": "de"},
        {"language": None},
    ],
    ids=str,
)
def test_text_is_that_of_mlx(changes: dict[str, object], talker: Path, chunks: list[np.ndarray]) -> None:
    options = replace(GREEDY, **changes)
    ours, theirs = (decoded(backend, chunks, options) for backend in engines(talker))
    assert len({result.avg_logprob for result in ours}) == len(chunks), "a test of nothing: all chunks are alike"
    for one, other in zip(ours, theirs, strict=True):
        assert (one.text, one.tokens, one.language) == (other.text, other.tokens, other.language)
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-3)
        assert one.no_speech_prob == pytest.approx(other.no_speech_prob, abs=1e-4)
        assert (one.temperature, one.compression_ratio, one.pieces) == (0.0, other.compression_ratio, other.pieces)


def test_language_is_the_one_that_mlx_hears(talker: Path, chunks: list[np.ndarray]) -> None:
    for chunk in chunks:
        (code, probability), expected = (backend.detect_language(chunk) for backend in engines(talker))
        assert code == expected[0]
        assert probability == pytest.approx(expected[1], abs=1e-4)


def test_sound_whose_language_was_heard_is_not_encoded_again(
    talker: Path, chunks: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, _ = engines(talker)
    chunks = [chunk.copy() for chunk in chunks]  # that no other test has shown to the engine
    expected = decoded(backend, chunks, GREEDY)
    encode, n_encoded = backend._encode, []

    def counted(mels: list[np.ndarray]) -> np.ndarray:
        n_encoded.append(len(mels))
        return encode(mels)

    monkeypatch.setattr(backend, "_encode", counted)
    backend.detect_language(chunks[1])
    backend.detect_language(chunks[2])
    assert decoded(backend, chunks, GREEDY) == expected
    assert n_encoded == [1, 1, 1]
    assert decoded(backend, [chunk.copy() for chunk in chunks], GREEDY) == expected
    assert n_encoded[3:] == [3]


def test_demo_says_the_same_with_both(demo_model: Path, demo_audio: Path) -> None:
    audio = load_audio(demo_audio)[: 12 * 16000]
    ours, theirs = (decoded(backend, [audio], replace(GREEDY, max_new_tokens=None)) for backend in engines(demo_model))
    assert ours[0].text == theirs[0].text != ""
    assert ours[0].avg_logprob == pytest.approx(theirs[0].avg_logprob, abs=1e-3)


def test_words_come_when_mlx_hears_them(talker: Path, chunks: list[np.ndarray]) -> None:
    options = replace(GREEDY, word_timestamps=True)
    for ours, theirs in zip(*(decoded(backend, chunks, options) for backend in engines(talker)), strict=True):
        assert ours.words
        assert theirs.words
        assert "".join(word.word for word in ours.words) == ours.text
        assert [word.word for word in ours.words] == [word.word for word in theirs.words]
        # The two smooth in their own ways: most times are equal, none is far away.
        assert [word.probability for word in ours.words] == pytest.approx(
            [word.probability for word in theirs.words], abs=1e-3
        )
        near = [abs(one.start - other.start) < 0.05 for one, other in zip(ours.words, theirs.words, strict=True)]
        assert sum(near) >= 0.7 * len(near)


def test_known_text_is_timed(talker: Path, chunks: list[np.ndarray]) -> None:
    backend, _ = engines(talker)
    (words,) = backend.time_words(chunks[:1], [" Hello you there."], "en")
    assert "".join(word.word for word in words) == " Hello you there."
    assert all(0 <= word.start <= word.end <= 3.0 for word in words)
    assert backend.time_words(chunks[:1], [""], "en") == [()]
    with pytest.raises(OptionError, match="Give shorter chunks"):
        backend.time_words(chunks[:1], [" word" * 500], "en")


# Batches


def test_text_does_not_depend_on_the_batch_size_here(talker: Path, chunks: list[np.ndarray]) -> None:
    backend, _ = engines(talker)
    one, all_at_once = (decoded(backend, chunks, GREEDY, batch_size) for batch_size in (1, 3))
    assert [result.tokens for result in one] == [result.tokens for result in all_at_once]
    assert [result.avg_logprob for result in one] == pytest.approx([r.avg_logprob for r in all_at_once], abs=1e-5)


def test_each_result_is_told_with_its_index(talker: Path, chunks: list[np.ndarray]) -> None:
    backend, _ = engines(talker)
    told: dict[int, DecodingResult] = {}
    meter = Meter()
    results = backend.decode(chunks, GREEDY, batch_size=2, on_result=told.__setitem__, meter=meter)
    assert results == [told[i] for i in range(len(chunks))]
    assert {"mel", "encode", "decode tokens"} <= meter.seconds.keys()
    assert meter.counts["tokens"] == sum(len(result.tokens) for result in results)


def test_no_chunks_have_no_results(talker: Path) -> None:
    backend, _ = engines(talker)
    assert decoded(backend, [], GREEDY) == []
    assert backend.best_batch_size(GREEDY) == 8


# Thresholds


def test_unsure_chunk_is_tried_at_higher_temperatures(talker: Path, chunks: list[np.ndarray]) -> None:
    backend, _ = engines(talker)
    options = replace(GREEDY, temperatures=(0.0, 0.5, 1.0), log_prob_threshold=0.0, best_of=2)
    assert [result.temperature for result in decoded(backend, chunks, options)] == [1.0] * len(chunks)
    (sure,) = decoded(
        backend, chunks[:1], replace(options, log_prob_threshold=-100.0, compression_ratio_threshold=None)
    )
    assert sure.temperature == 0.0


def test_silence_has_no_text(talker: Path, chunks: list[np.ndarray]) -> None:
    backend, _ = engines(talker)
    options = replace(GREEDY, no_speech_threshold=0.0, log_prob_threshold=0.0)
    assert [result.text for result in decoded(backend, chunks, options)] == [""] * len(chunks)


# Memory


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA failed with error out of memory"), RuntimeError("failed to allocate memory"), MemoryError()],
    ids=str,
)
def test_batch_that_does_not_fit_is_halved_and_says_so(
    error: Exception,
    talker: Path,
    chunks: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend, _ = engines(talker)
    expected = decoded(backend, chunks, GREEDY)
    engine = Limited(backend._model, error)
    monkeypatch.setattr(backend, "_model", engine)
    monkeypatch.setattr(backend, "_most_together", 99)
    told: list[int] = []
    results = backend.decode(chunks, GREEDY, batch_size=2, on_result=lambda index, _: told.append(index), meter=Meter())
    assert [result.tokens for result in results] == [result.tokens for result in expected]
    assert (engine.asked, told) == ([2, 1, 1, 1], [0, 1, 2])
    assert "Not enough memory to decode 2 chunks at a time: going on with batch_size 1" in caplog.text
    decoded(backend, chunks, GREEDY)
    assert engine.asked[4:] == [1, 1, 1], "what fits is remembered"


def test_one_chunk_that_does_not_fit_is_an_error(
    talker: Path, chunks: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, _ = engines(talker)
    monkeypatch.setattr(backend, "_model", Limited(backend._model, RuntimeError("out of memory"), most=0))
    monkeypatch.setattr(backend, "_most_together", 99)
    with pytest.raises(BackendError, match=r"Not enough memory on cpu.* to decode one chunk at a time"):
        decoded(backend, chunks, GREEDY)


class Limited:
    """An engine that has no room for more than so many chunks."""

    def __init__(self, engine: Any, error: Exception, most: int = 1) -> None:
        self._engine, self._error, self._most = engine, error, most
        self.asked: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, features: Any, prompts: list[list[int]], **settings: Any) -> Any:
        self.asked.append(len(prompts))
        if len(prompts) > self._most:
            raise self._error
        return self._engine.generate(features, prompts, **settings)


def test_memory_that_is_freed_is_kept_until_models_are_released(talker: Path) -> None:
    code = f"""
import numpy as np
from pathlib import Path
from whisperx.backends import load_backend, release_models
def held(): return int(open("/proc/self/statm").read().split()[1]) * 4096
load_backend("ctranslate2", Path({str(talker)!r}), device="cpu")
for _ in range(2):
    before = held(); block = np.ones(10_000_000); del block
print(held() - before < 4e6)
before = held(); release_models(); print(before - held() > 60e6)
"""
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        pytest.skip("glibc alone is told to keep memory")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True"]


# Models


def test_model_is_converted_once_and_nothing_else_is_left(cache: Path, tmp_path: Path) -> None:
    model = write_talker(tmp_path / "mine")
    release_models()
    before = set(cache.iterdir()) if cache.exists() else set()
    load_backend("ctranslate2", model)
    (made,) = set(cache.iterdir()) - before
    assert made.name.startswith("mine-")
    assert sorted(path.name for path in made.iterdir()) == [
        "config.json",
        "model.bin",
        "vocabulary.json",
        "whisperx.json",
    ]
    written_at = (made / "model.bin").stat().st_mtime_ns
    release_models()
    load_backend("ctranslate2", model)
    assert (made / "model.bin").stat().st_mtime_ns == written_at
    assert set(cache.iterdir()) == before | {made}


def test_conversion_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, talker: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BackendError, match="XDG_CACHE_HOME"):
        load_backend("ctranslate2", talker, threads=2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ctranslate2.specs.whisper_spec.WhisperSpec.save", full)
    with pytest.raises(BackendError, match="No space left"):
        load_backend("ctranslate2", talker, threads=2)
    assert list(cache_folder().iterdir()) == []


def test_folder_of_ctranslate2_is_taken_as_it_is(talker: Path, chunks: list[np.ndarray], tmp_path: Path) -> None:
    backend, _ = engines(talker)
    (made,) = (path for path in cache_folder().iterdir() if path.name.startswith(talker.name + "-"))
    theirs = tmp_path / "faster-whisper-talker"
    theirs.mkdir()
    for name in ("model.bin", "config.json", "vocabulary.json"):
        (theirs / name).write_bytes((made / name).read_bytes())
    assert is_ctranslate2_model(theirs)
    (before, after) = (decoded(engine, chunks, GREEDY) for engine in (backend, load_backend("ctranslate2", theirs)))
    assert before == after
    # Older folders have a line for each token, and as many need not be the same.
    tokens = [f"token {i}" if i < 50256 else token for i, token in enumerate(vocabulary_of(theirs))]
    (theirs / "vocabulary.txt").write_text("".join(f"{token}\n" for token in tokens), newline="")
    (theirs / "vocabulary.json").unlink()
    assert decoded(load_backend("ctranslate2", theirs), chunks, GREEDY) == before
    for broken in (b"\xff", b"[", None):
        (theirs / "vocabulary.txt").unlink(missing_ok=True)
        (theirs / "vocabulary.json").unlink(missing_ok=True)
        if broken is not None:
            (theirs / "vocabulary.json").write_bytes(broken)
        release_models()
        with pytest.raises(CheckpointError, match="vocabulary"):
            load_backend("ctranslate2", theirs)


def test_a_model_that_another_process_converts_at_the_same_time_is_used(
    talker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    there = converted(talker)
    is_dir, asked = Path.is_dir, []

    def not_yet(path: Path) -> bool:
        if path == there and not asked:
            asked.append(path)
            return False
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", not_yet)
    assert converted(talker) == there
    assert list(there.parent.iterdir()) == [there]


@pytest.mark.parametrize("rounded", ["float32", "float16", "int8", "int16", "int8_float16"])
def test_mlx_reads_what_ctranslate2_writes(
    rounded: str, talker: Path, chunks: list[np.ndarray], tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(talker)
    writable = {name: array.copy() for name, array in checkpoint.arrays.items()}
    spec = _spec(replace(checkpoint, arrays=writable), read_tokenizer(talker, checkpoint.dims.n_vocab, {}))
    spec._quantize(rounded)
    spec.save(str(tmp_path))
    # In float32 CTranslate2 computes with what the rounded weights stand for.
    ours = load_backend("ctranslate2", tmp_path, compute_type="float32", threads=1)
    theirs = load_backend("mlx", tmp_path, device="cpu")
    for one, other in zip(decoded(ours, chunks, GREEDY), decoded(theirs, chunks, GREEDY), strict=True):
        assert one.tokens == other.tokens
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-3)


def vocabulary_of(folder: Path) -> list[str]:
    tokens: list[str] = json.loads((folder / "vocabulary.json").read_text("utf-8"))
    return tokens


def test_broken_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"nothing")
    (tmp_path / "vocabulary.json").write_text(json.dumps(["x"] * TALKER.n_vocab))
    with pytest.raises(CheckpointError, match="cannot load"):
        load_backend("ctranslate2", tmp_path)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_weights_of_any_precision_are_converted(
    dtype: type, talker: Path, chunks: list[np.ndarray], tmp_path: Path
) -> None:
    arrays = {name: array.astype(np.float16).astype(dtype) for name, array in talker_arrays().items()}
    save_file(arrays, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(asdict(TALKER)))
    ours, theirs = (decoded(backend, chunks, GREEDY) for backend in engines(tmp_path))
    assert [result.tokens for result in ours] == [result.tokens for result in theirs]


def test_quantised_folder_is_expanded(talker: Path, chunks: list[np.ndarray], tmp_path: Path) -> None:
    from whisperx.convert import main

    main(["--hf-path", str(talker), "--mlx-path", str(tmp_path / "small"), "--quantize", "--q-bits", "8"])
    ours, theirs = (decoded(backend, chunks, GREEDY) for backend in engines(tmp_path / "small"))
    assert [result.tokens for result in ours] == [result.tokens for result in theirs]


def test_8_bit_numbers_say_nearly_the_same(demo_model: Path, demo_audio: Path) -> None:
    audio = load_audio(demo_audio)[: 6 * 16000]
    small = load_backend("ctranslate2", demo_model, compute_type="int8", threads=1)
    assert "int8" in small.device
    (result,) = decoded(small, [audio], replace(GREEDY, max_new_tokens=None))
    (whole,) = decoded(engines(demo_model)[0], [audio], replace(GREEDY, max_new_tokens=None))
    assert result.avg_logprob == pytest.approx(whole.avg_logprob, abs=0.2)
    assert result.text.split()[0] == whole.text.split()[0]


def test_torch_is_left_alone(tmp_path: Path, talker: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('imported')")
    code = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
from pathlib import Path
from whisperx.backends import load_backend
load_backend("ctranslate2", Path({str(talker)!r}))
assert "torch" not in sys.modules
assert "mlx" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"XDG_CACHE_HOME": str(tmp_path / "cache")})


# Options and devices


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"device": "mps"}, BackendError, "use --backend mlx"),
        ({"device": "cuda:7"}, BackendError, "NVIDIA"),
        ({"device": "tpu"}, OptionError, "Unknown device"),
        ({"compute_type": "int4"}, OptionError, "int4"),
        ({"device": "cpu", "compute_type": "float16"}, ValueError, "float16"),
    ],
)
def test_what_it_cannot_do_is_an_error(
    settings: dict[str, str], error: type[Exception], message: str, talker: Path
) -> None:
    with pytest.raises(error, match=message):
        load_backend("ctranslate2", talker, **settings)


def test_chunks_and_batches_out_of_range_are_errors(talker: Path) -> None:
    backend, _ = engines(talker)
    with pytest.raises(OptionError, match="30 s"):
        decoded(backend, [np.zeros(480_001, np.float32)], GREEDY)
    with pytest.raises(OptionError, match="batch_size"):
        decoded(backend, [], GREEDY, batch_size=0)


def test_seed_is_said_to_have_no_effect(
    talker: Path, chunks: list[np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    backend, _ = engines(talker)
    decoded(backend, chunks[:1], replace(GREEDY, temperatures=(0.5,), seed=3))
    assert "seed has no effect" in caplog.text


def test_sampled_text_is_the_same_in_every_run(talker: Path, chunks: list[np.ndarray]) -> None:
    options = replace(GREEDY, temperatures=(1.0,), best_of=2, max_new_tokens=6)
    runs = []
    for _ in range(2):
        release_models()
        runs.append([decoded(load_backend("ctranslate2", talker, threads=1), chunks[:1], options) for _ in range(2)])
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[0][1], "the random numbers go on"


# Which engine


@pytest.mark.parametrize(
    ("mlx_has_gpu", "installed", "settings", "expected"),
    [
        (True, True, {}, "mlx"),
        (True, True, {"device": "cpu"}, "ctranslate2"),
        (True, True, {"device": "cuda"}, "mlx"),
        (False, True, {}, "ctranslate2"),
        (False, True, {"device": "cuda:1"}, "ctranslate2"),
        (False, True, {"device": "mps"}, "mlx"),
        (False, True, {"compute_type": "int4"}, "mlx"),
        (False, False, {}, "mlx"),
    ],
)
def test_auto_takes_the_engine_that_suits_the_machine(
    mlx_has_gpu: bool,
    installed: bool,
    settings: dict[str, str],
    expected: str,
    talker: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(backends, "_mlx_has_gpu", lambda: mlx_has_gpu)
    monkeypatch.setattr(backends, "find_spec", lambda name: object() if installed else None)
    assert choose_backend(**settings) == expected
    assert ("whisperx-mlx[ctranslate2]" in caplog.text) == (not installed)


def test_engine_that_is_not_installed_is_told(talker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    monkeypatch.delitem(sys.modules, "whisperx.backends.ctranslate2", raising=False)
    with pytest.raises(BackendError, match="whisperx-mlx\\[ctranslate2\\]"):
        load_backend("ctranslate2", talker, compute_type="int16")


def test_whole_run_with_ctranslate2(demo_model: Path, demo_audio: Path) -> None:
    audio = load_audio(demo_audio)[: 8 * 16000]
    pipeline = whisperx.load_model(
        demo_model, "cpu", backend="ctranslate2", language="en", asr_options={"beam_size": 2}
    )
    result = pipeline.transcribe(audio, batch_size=2)
    assert result["segments"]
    assert result["language"] == "en"
