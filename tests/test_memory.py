"""Memory: a batch that does not fit is halved, a long recording costs no more than a short one."""

import json
import subprocess
import sys
import tracemalloc
from dataclasses import asdict, replace

import mlx.core as mx
import numpy as np
import pytest
from random_whisper import random_arrays, random_speech, write_talker
from safetensors.numpy import save_file

from whisperx.backends.batch_size import available_memory
from whisperx.backends.mlx import MlxBackend
from whisperx.checkpoints import WhisperDimensions
from whisperx.chunks import pack
from whisperx.errors import BackendError
from whisperx.models.whisper.model import KVCache
from whisperx.schema import DecodingOptions, Meter, Span

OPTIONS = DecodingOptions(language="en", max_new_tokens=4, beam_size=1, temperatures=(0.0,))


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    return write_talker(tmp_path_factory.mktemp("talker"))


@pytest.fixture(scope="module")
def chunks() -> list[np.ndarray]:
    return [random_speech(1.5 + seed, seed) for seed in range(4)]


@pytest.fixture(scope="module")
def encoded(talker, chunks):
    """The chunks' encodings, which take most of the time and are not what these tests are about."""
    backend = MlxBackend(talker, device="cpu")
    return {len(chunk): backend._encode(chunk, Meter()) for chunk in chunks}


@pytest.fixture
def backend(talker, encoded, monkeypatch):
    monkeypatch.setattr(MlxBackend, "_encode", lambda self, audio, *_: encoded[len(audio)])
    return MlxBackend(talker, device="cpu")


def decode(backend, chunks, batch_size, options=OPTIONS, told=None):
    def on_result(index, result):
        if told is not None:
            told.append(index)

    return backend.decode(chunks, options, batch_size=batch_size, on_result=on_result, meter=Meter())


def room_for(n_slots: int, monkeypatch, error: Exception) -> list[int]:
    """Let KVCache run out of memory above `n_slots`; returns what it will have been asked for."""
    allocate, asked = KVCache.allocate.__func__, []

    def limited(cls, dims, n, *rest, **kwargs):
        asked.append(n)
        if n > n_slots:
            raise error
        return allocate(cls, dims, n, *rest, **kwargs)

    monkeypatch.setattr(KVCache, "allocate", classmethod(limited))
    return asked


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[metal::malloc] Attempting to allocate 9 bytes which is greater than the maximum allowed"),
        RuntimeError("[malloc] Unable to allocate 268435456 bytes."),
        RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory (00000008)"),
        RuntimeError("cudaMallocAsync(&data, size, stream) failed: out of memory"),
        MemoryError("std::bad_alloc"),
    ],
    ids=["metal", "malloc", "command buffer", "cuda", "bad_alloc"],
)
def test_a_batch_that_does_not_fit_is_halved_and_says_so(backend, chunks, monkeypatch, caplog, error):
    expected = decode(backend, chunks[:2], 2)
    asked = room_for(1, monkeypatch, error)
    told: list[int] = []
    assert decode(backend, chunks[:2], 2, told=told) == expected
    assert asked == [2, 1]
    assert sorted(told) == [0, 1]
    assert "Not enough memory to decode 2 chunks at a time: going on with batch_size 1" in caplog.text


def test_the_size_that_fits_is_remembered(backend, chunks, monkeypatch, caplog):
    asked = room_for(2, monkeypatch, MemoryError())
    decode(backend, chunks[:4], 4)
    decode(backend, chunks[:4], 4)
    assert asked == [4, 2, 2]
    assert len(caplog.records) == 1


def test_chunks_that_were_done_before_memory_ran_out_are_not_decoded_again(backend, chunks, monkeypatch):
    expected = decode(backend, chunks, 2)
    encode, asked, told = MlxBackend._encode, [], []

    def fails_once(self, audio, *rest):
        asked.append(len(audio))
        if len(asked) == 4:
            raise RuntimeError("[malloc] Unable to allocate 1 bytes.")
        return encode(self, audio, *rest)

    monkeypatch.setattr(MlxBackend, "_encode", fails_once)
    assert decode(backend, chunks, 2, told=told) == expected
    assert sorted(told) == [0, 1, 2, 3]
    assert len(asked) <= 4 + 4 - 2  # two of the first three had left when the fourth was to enter


def test_samples_drawn_again_after_memory_ran_out_are_the_same(backend, chunks, monkeypatch):
    options = replace(OPTIONS, temperatures=(0.7,), best_of=2)
    expected = decode(backend, chunks[:3], 3, options)
    room_for(1, monkeypatch, MemoryError())
    assert decode(backend, chunks[:3], 3, options) == expected


def test_one_chunk_that_does_not_fit_is_an_error(backend, chunks, monkeypatch):
    room_for(0, monkeypatch, RuntimeError("[malloc] Unable to allocate 1 bytes."))
    with pytest.raises(BackendError, match=r"Not enough memory on cpu.* to decode one chunk at a time.*smaller model"):
        decode(backend, chunks[:2], 2)


def test_another_error_is_not_taken_for_a_lack_of_memory(backend, chunks, monkeypatch, caplog):
    room_for(0, monkeypatch, RuntimeError("There is no Stream(gpu, 1) in current thread."))
    with pytest.raises(RuntimeError, match="no Stream"):
        decode(backend, chunks[:2], 2)
    assert not caplog.records


def test_chunks_are_views_of_the_recording():
    audio = np.zeros(200 * 16000, np.float32)
    chunks = pack([Span(10.0 * i, 10.0 * i + 8) for i in range(20)], audio)
    assert len(chunks) > 5
    assert all(np.shares_memory(chunk.samples, audio) for chunk in chunks)


def test_memory_does_not_grow_with_the_number_of_chunks(backend, chunks, encoded, monkeypatch):
    def new_arrays(self, audio, *_):
        known = encoded[len(audio)]
        return known._replace(features=known.features + 0, cross=[(k + 0, v + 0) for k, v in known.cross])

    monkeypatch.setattr(MlxBackend, "_encode", new_arrays)
    peaks = []
    for n_chunks in (8, 64):  # 4 minutes of speech, half an hour
        tracemalloc.start()
        decode(backend, chunks[:1] * n_chunks, 4, replace(OPTIONS, max_new_tokens=1))
        after, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        peaks.append(peak)
        assert after < 1e6
    assert peaks[1] <= 1.01 * peaks[0]


def test_a_batch_beyond_the_free_memory_of_a_cpu_is_halved_before_it_is_tried(backend, chunks, monkeypatch, caplog):
    options = replace(OPTIONS, beam_size=2)
    expected = decode(backend, chunks, 4, options)
    asked = room_for(4, monkeypatch, MemoryError())
    caches = KVCache.allocate(backend.dims, 1, mx.float32, n_beams=2)
    monkeypatch.setattr(
        "whisperx.backends.mlx.available_memory", lambda: 2 * sum(array.nbytes for array in caches._arrays())
    )
    asked.clear()
    assert decode(backend, chunks, 4, options) == expected
    assert asked == [2]
    assert "Not enough memory to decode 4 chunks at a time: going on with batch_size 2" in caplog.text


def test_one_chunk_is_always_tried(backend, chunks, monkeypatch):
    monkeypatch.setattr("whisperx.backends.mlx.available_memory", lambda: 0)
    assert len(decode(backend, chunks[:2], 2)) == 2


def test_available_memory_is_what_kernel_and_container_leave(tmp_path):
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    assert available_memory(proc, cgroup) == sys.maxsize
    proc.mkdir()
    (proc / "meminfo").write_text("MemTotal:       16 kB\nMemAvailable:   12 kB\nHugePages_Total:  0\n")
    assert available_memory(proc, cgroup) == 12 * 1024
    cgroup.mkdir()
    (cgroup / "memory.max").write_text("max\n")
    assert available_memory(proc, cgroup) == 12 * 1024
    for name, text in (("max", "9000\n"), ("current", "5000\n"), ("stat", "anon 4000\ninactive_file 700\n")):
        (cgroup / f"memory.{name}").write_text(text)
    assert available_memory(proc, cgroup) == 4700
    assert available_memory() > 0


LONG = """
import json, resource, sys
import tracemalloc
from pathlib import Path
import numpy as np
from whisperx.asr import load_model
from whisperx.schema import Span

minutes = int(sys.argv[2])
audio = np.zeros(minutes * 60 * 16000, np.float32)  # that nobody writes to: pages that are all zero take no memory
options = {"max_new_tokens": 1, "beam_size": 1, "temperatures": 0.0, "no_speech_threshold": None}
speech = [Span(60.0 * minute, 60.0 * minute + 30) for minute in range(minutes)]
pipeline = load_model(
    sys.argv[1], "cpu", language="en", asr_options=options, vad_model=lambda audio: speech, backend="mlx"
)
segments = pipeline.transcribe(audio, batch_size=8)["segments"]
print(json.dumps([len(segments), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""
SMALL_EARS = WhisperDimensions(80, 1500, 16, 1, 1, 51865, 448, 16, 1, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_three_hours_take_no_more_memory_than_ten_minutes_but_for_the_samples(tmp_path):
    save_file(random_arrays(SMALL_EARS), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(asdict(SMALL_EARS)))
    (n_short, short), (n_long, long) = (
        json.loads(subprocess.check_output([sys.executable, "-c", LONG, str(tmp_path), str(minutes)], text=True))
        for minutes in (10, 180)
    )
    assert (n_short, n_long) == (10, 180)
    # In kB. Two runs alike differ by 30 MB; the samples alone would be 650 MB, the spectrograms of all chunks 160 MB.
    assert long - short < 100_000
