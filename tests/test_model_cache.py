"""A process that asks twice for the same model gets the one that is loaded."""

import gc
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from random_whisper import random_speech, write_talker

import whisperx
from whisperx import backends
from whisperx.asr import load_model
from whisperx.backends import load_backend, release_models
from whisperx.errors import CheckpointError
from whisperx.schema import DecodingOptions, Meter

OPTIONS = DecodingOptions(language="en", max_new_tokens=5, temperatures=(0.0,))


@pytest.fixture(autouse=True)
def _nothing_loaded():
    release_models()
    yield
    release_models()


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    return write_talker(tmp_path_factory.mktemp("talker"))


class Fake:
    """Instead of the engine, and quicker."""

    loads = 0

    def __init__(self, model, **settings):
        Fake.loads += 1
        self.model, self.settings = model, settings
        self.threads = []

    def use_threads(self, n):
        self.threads.append(n)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr("whisperx.backends.mlx.MlxBackend", Fake)
    monkeypatch.setattr(Fake, "loads", 0)
    return Fake


@pytest.fixture
def folder(tmp_path):
    for name in ("config.json", "model.safetensors", "tokenizer.json", "notes.txt"):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_two_pipelines_share_a_model_and_nothing_else(talker):
    first = load_model(talker, language="en", asr_options={"temperatures": 0.0}, backend="mlx")
    second = load_model(talker, backend="mlx")
    assert first.model is second.model
    assert first.options != second.options
    assert (first.preset_language, second.preset_language) == ("en", None)


def test_a_model_loaded_in_one_thread_decodes_in_another(talker):
    chunks = [random_speech(2, seed) for seed in range(2)]

    def decode(_: int) -> list[object]:
        backend = load_backend("mlx", talker)
        return backend.decode(chunks, OPTIONS, batch_size=2, on_result=lambda *_: None, meter=Meter())

    here = decode(0)
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(decode, range(3))) == [here] * 3


def test_the_same_model_is_loaded_once(fake, folder, monkeypatch):
    first = load_backend("mlx", folder)
    monkeypatch.chdir(folder.parent)
    assert load_backend("mlx", Path(folder.name)) is first
    (folder / "notes.txt").write_text("changed")  # no file of a model
    assert load_backend("mlx", folder) is first
    assert fake.loads == 1


@pytest.mark.parametrize("settings", [{"compute_type": "int8"}, {"device": "cpu"}, {"device_index": 1}], ids=str)
def test_other_settings_are_another_model(fake, folder, settings):
    assert load_backend("mlx", folder) is not load_backend("mlx", folder, **settings)
    assert load_backend("mlx", folder, **settings).settings.items() >= settings.items()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_model_whose_files_changed_is_loaded_again(fake, folder, name):
    first = load_backend("mlx", folder)
    stat = (folder / name).stat()
    os.utime(folder / name, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    second = load_backend("mlx", folder)
    assert second is not first
    (folder / name).write_text("longer than it was")
    os.utime(folder / name, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert load_backend("mlx", folder) is not second


def test_the_two_asked_for_last_are_kept(fake, folder):
    kept, dropped = load_backend("mlx", folder), weakref.ref(load_backend("mlx", folder, compute_type="int8"))
    assert load_backend("mlx", folder) is kept
    load_backend("mlx", folder, compute_type="int4")
    gc.collect()
    assert dropped() is None
    assert load_backend("mlx", folder) is kept
    assert fake.loads == 3


def test_there_are_no_more_threads_than_cores(fake, folder, monkeypatch):
    monkeypatch.setattr("whisperx.backends._n_cores", lambda: 2)
    assert load_backend("mlx", folder, threads=4).threads == [2]  # 4 is what WhisperX's load_model asks for
    assert load_backend("mlx", folder, threads=0).threads == [2, 0]


def test_threads_are_those_of_the_newest_request(fake, folder, monkeypatch):
    monkeypatch.setattr("whisperx.backends._n_cores", lambda: 4)
    for n in (4, 1, 4):
        backend = load_backend("mlx", folder, threads=n)
    assert backend.threads == [4, 1, 4]
    assert fake.loads == 1


def test_several_threads_that_ask_at_once_get_one_model(monkeypatch, folder, fake):
    loading, asked = threading.Event(), threading.Event()

    class Slow(Fake):
        def __init__(self, model, **settings):
            loading.set()
            assert asked.wait(30)
            super().__init__(model, **settings)

    monkeypatch.setattr("whisperx.backends.mlx.MlxBackend", Slow)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(load_backend, "mlx", folder)
        assert loading.wait(30)
        second = threads.submit(load_backend, "mlx", folder)
        asked.set()
        assert first.result() is second.result()
    assert fake.loads == 1


def test_a_model_that_cannot_be_loaded_is_not_kept(folder):
    for _ in range(2):
        with pytest.raises(CheckpointError):
            load_backend("mlx", folder)
    assert not backends._loaded


def test_released_models_are_gone_and_those_in_use_stay(talker):
    model = load_backend("mlx", talker)
    network = weakref.ref(model._model)
    whisperx.release_models()
    assert network() is not None
    assert load_backend("mlx", talker) is not model
    whisperx.release_models()
    del model
    gc.collect()
    assert network() is None
