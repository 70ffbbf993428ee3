import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors

from whisperx import hub
from whisperx.alignment import load_align_model
from whisperx.community import load_community_pipeline
from whisperx.errors import ModelNotFoundError
from whisperx.hub import MODELS, resolve

COMMIT = "a" * 40


@dataclass
class FakeHub:
    """Stands in for `huggingface_hub`: repositories as dicts of files, and a record of what was asked."""

    cache: Path
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    failure: Exception | None = None
    requests: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)

    def api(self, token: str | None = None) -> SimpleNamespace:
        def model_info(repository: str) -> SimpleNamespace:
            self.requests.append(f"info {repository}")
            self.tokens.append(token)
            if self.failure is not None:
                raise self.failure
            return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in self.repositories[repository]])

        return SimpleNamespace(model_info=model_info)

    def snapshot_download(self, repository, *, cache_dir=None, local_files_only=False, token=None, allow_patterns):
        folder = Path(cache_dir or self.cache) / repository.replace("/", "--")
        if local_files_only:
            if not folder.is_dir():
                raise errors.LocalEntryNotFoundError("not cached")
            return str(folder)
        self.requests.append(f"download {repository}")
        self.tokens.append(token)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.repositories[repository].items():
            if any(Path(name).match(pattern) for pattern in allow_patterns):
                (folder / name).write_bytes(content)
        return str(folder)


@pytest.fixture
def fake_hub(tmp_path, monkeypatch) -> FakeHub:
    fake = FakeHub(tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", fake.api)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGINGFACE_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    return fake


def repository(*names: str) -> dict[str, bytes]:
    return dict.fromkeys(names, b"{}")


def content(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# What is here already


@pytest.mark.parametrize("as_type", [str, Path])
def test_an_existing_folder_or_file_is_used_as_it_is(as_type, fake_hub, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model.pt").touch()
    assert resolve(as_type(tmp_path / "model")) == tmp_path / "model"
    assert resolve(as_type(tmp_path / "model.pt")) == tmp_path / "model.pt"
    assert fake_hub.requests == []


def test_a_folder_named_like_a_model_comes_first(fake_hub, tmp_path):
    (tmp_path / "tiny").mkdir()
    assert resolve("tiny") == Path("tiny")


def test_the_home_folder_may_be_written_as_a_tilde(fake_hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert resolve("~/model") == tmp_path / "model"


@pytest.mark.parametrize(
    "model", ["./missing", "/missing/model", "~/missing", "a/b/c", "models/", Path("tiny"), Path("a/b")]
)
def test_a_missing_path_is_not_looked_for_on_the_hub(model, fake_hub):
    with pytest.raises(ModelNotFoundError, match="no such model folder or file"):
        resolve(model)
    assert fake_hub.requests == []


# Names


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("tiny", "openai/whisper-tiny"),
        ("tiny.en", "openai/whisper-tiny.en"),
        ("medium", "openai/whisper-medium"),
        ("large-v1", "openai/whisper-large"),
        ("large", "openai/whisper-large-v3"),
        ("large-v3", "openai/whisper-large-v3"),
        ("turbo", "openai/whisper-large-v3-turbo"),
        ("large-v3-turbo", "openai/whisper-large-v3-turbo"),
        ("distil-large-v3.5", "distil-whisper/distil-large-v3.5"),
        ("Systran/faster-whisper-large-v2", "Systran/faster-whisper-large-v2"),
        ("mlx-community/whisper-large-v3-mlx", "mlx-community/whisper-large-v3-mlx"),
        ("somebody/whisper-fine-tuned", "somebody/whisper-fine-tuned"),
    ],
)
def test_a_name_leads_to_its_repository(model, expected, fake_hub):
    fake_hub.repositories[expected] = repository("config.json", "model.safetensors")
    assert resolve(model) == fake_hub.cache / expected.replace("/", "--")
    assert fake_hub.requests == [f"info {expected}", f"download {expected}"]


def test_a_conversion_that_is_here_saves_a_download(fake_hub, caplog):
    fake_hub.repositories["Systran/faster-whisper-tiny"] = repository("config.json", "model.bin", "vocabulary.txt")
    theirs = resolve("Systran/faster-whisper-tiny")
    with caplog.at_level(logging.INFO, "whisperx.hub"):
        assert resolve("tiny", local_files_only=True) == theirs
    assert "model 'tiny': using Systran/faster-whisper-tiny, which is on this machine" in caplog.text
    fake_hub.repositories["openai/whisper-tiny"] = repository("config.json", "model.safetensors")
    ours = resolve("openai/whisper-tiny")
    assert resolve("tiny") == ours != theirs


def test_every_name_has_its_conversion():
    assert hub.CONVERSIONS.keys() == MODELS.keys()
    expected = {
        "large-v2": "Systran/faster-whisper-large-v2",
        "large": "Systran/faster-whisper-large-v3",
        "distil-small.en": "Systran/faster-distil-whisper-small.en",
        "distil-large-v3": "Systran/faster-distil-whisper-large-v3",
        "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    }
    assert {name: hub.CONVERSIONS[name] for name in expected} == expected


@pytest.mark.parametrize("model", ["huge", "Tiny", "LARGE-V3", "tiny ", "whisper-tiny", "", "a b/c"])
def test_an_unknown_name_lists_the_known_ones(model, fake_hub):
    with pytest.raises(
        ValueError, match=rf"^Invalid model size '{model}', expected one of: tiny.en, tiny, base.en, .* turbo; or a"
    ) as caught:
        resolve(model)
    assert isinstance(caught.value, ModelNotFoundError)
    assert "\n" not in str(caught.value)
    assert fake_hub.requests == []


@pytest.mark.parametrize("name", ["~who.is.that/x", "~who.is.that"])
def test_a_folder_in_a_home_that_nobody_has_is_not_here(name, fake_hub):
    with pytest.raises(ModelNotFoundError, match=f"no such model folder or file: {name}"):
        resolve(name)
    for load in (load_community_pipeline, lambda name: load_align_model("en", model_name=name)):
        with pytest.raises(ModelNotFoundError, match=name):
            load(name)
    assert fake_hub.requests == []


def test_every_name_of_whisperx_is_known():
    sizes = "tiny.en tiny base.en base small.en small medium.en medium large-v1 large-v2 large-v3 large"
    distilled = "distil-large-v2 distil-medium.en distil-small.en distil-large-v3 distil-large-v3.5"
    assert list(MODELS) == f"{sizes} {distilled} large-v3-turbo turbo".split()


# Downloads


@pytest.mark.parametrize(
    ("files", "downloaded"),
    [
        (
            "README.md config.json generation_config.json tokenizer.json vocab.json flax_model.msgpack tf_model.h5 "
            "model.safetensors model.safetensors.index.fp32.json model.fp32-00001-of-00002.safetensors "
            "pytorch_model.bin onnx.bin",
            "config.json generation_config.json tokenizer.json model.safetensors",
        ),
        (
            "config.json model.safetensors.index.json model-1-of-2.safetensors model-2-of-2.safetensors "
            "model.fp32-00001-of-00002.safetensors pytorch_model.bin",
            "config.json model.safetensors.index.json model-1-of-2.safetensors model-2-of-2.safetensors",
        ),
        ("config.json weights.safetensors weights.npz", "config.json weights.safetensors"),
        (
            "README.md config.json model.bin preprocessor_config.json tokenizer.json vocabulary.json",
            "config.json model.bin preprocessor_config.json tokenizer.json vocabulary.json",
        ),
        ("config.json model.bin tokenizer.json vocabulary.txt", "config.json model.bin tokenizer.json vocabulary.txt"),
        ("config.json weights.npz README.md", "config.json weights.npz"),
        ("config.json pytorch_model.bin training_args.bin optimizer.pt", "config.json pytorch_model.bin"),
        (
            "config.json pytorch_model.bin.index.json pytorch_model-00001-of-00001.bin training_args.bin",
            "config.json pytorch_model.bin.index.json pytorch_model-00001-of-00001.bin",
        ),
    ],
)
def test_only_what_is_read_is_downloaded(files, downloaded, fake_hub):
    fake_hub.repositories["a/b"] = repository(*files.split())
    assert content(resolve("a/b")) == set(downloaded.split())


def test_a_complete_model_is_used_without_a_request(fake_hub):
    fake_hub.repositories["a/b"] = repository("config.json", "model.safetensors")
    folder = resolve("a/b")
    fake_hub.requests.clear()
    assert resolve("a/b") == folder
    assert resolve("a/b", local_files_only=True) == folder
    assert fake_hub.requests == []


@pytest.mark.parametrize(
    "present",
    [
        {"model.safetensors": "weights"},
        {"config.json": "{}"},
        {"config.json": "{}", "model.safetensors.index.json": '{"weight_map": {"x": "model-1.safetensors"}}'},
        {"config.json": "{}", "model.safetensors.index.json": "[]"},
    ],
)
def test_an_interrupted_download_goes_on(present, fake_hub):
    fake_hub.repositories["a/b"] = repository("config.json", "model.safetensors")
    folder = fake_hub.cache / "a--b"
    folder.mkdir(parents=True)
    for name, text in present.items():
        (folder / name).write_text(text)
    assert resolve("a/b") == folder
    assert fake_hub.requests == ["info a/b", "download a/b"]


def test_download_root_is_where_the_model_goes(fake_hub, tmp_path):
    fake_hub.repositories["a/b"] = repository("config.json", "model.safetensors")
    assert resolve("a/b", download_root=str(tmp_path / "root")) == tmp_path / "root" / "a--b"
    assert resolve("a/b", download_root=str(tmp_path / "root"), local_files_only=True) == tmp_path / "root" / "a--b"
    with pytest.raises(ModelNotFoundError):
        resolve("a/b", local_files_only=True)


@pytest.mark.parametrize(
    ("argument", "environment", "expected"),
    [
        (None, {}, None),
        ("given", {"HF_TOKEN": "one"}, "given"),
        (None, {"HF_TOKEN": "one", "HUGGINGFACE_TOKEN": "two"}, "one"),
        (None, {"HUGGINGFACE_TOKEN": "two"}, "two"),
    ],
)
def test_the_token_comes_from_the_argument_or_the_environment(argument, environment, expected, fake_hub, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fake_hub.repositories["a/b"] = repository("config.json", "model.safetensors")
    resolve("a/b", token=argument)
    assert fake_hub.tokens == [expected, expected]


# Failures: one line, and what would help


class ConnectError(Exception):
    """As the HTTP library under the Hub's client raises, whichever it is."""


def http_error(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    return kind("a long message\nof several lines", response=response)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (
            http_error(errors.GatedRepoError, 403),
            "a/b is gated: accept its terms at https://huggingface.co/a/b, then run `hf auth login` or set HF_TOKEN "
            "or HUGGINGFACE_TOKEN",
        ),
        (
            http_error(errors.RepositoryNotFoundError, 404),
            "no folder 'a/b' here and no model a/b on the Hub; check the name, or for a private one run",
        ),
        (
            http_error(errors.HfHubHTTPError, 401),
            r"refuses access to a/b \(HTTP 401\): see https://huggingface.co/a/b, then run `hf auth login`",
        ),
        (http_error(errors.HfHubHTTPError, 403), r"refuses access to a/b \(HTTP 403\)"),
        (
            http_error(errors.HfHubHTTPError, 503),
            r"was not downloaded \(HfHubHTTPError: a long message\); .* run `hf download a/b --local-dir b`",
        ),
        (
            ConnectError("no route"),
            r"was not downloaded \(ConnectError: no route\); connect to the internet once, or run `hf download a/b",
        ),
        (errors.OfflineModeIsEnabled("offline"), r"was not downloaded \(HF_HUB_OFFLINE is set\); connect"),
        (errors.LocalEntryNotFoundError("gone"), r"was not downloaded \(the Hub cannot be reached\); connect"),
        (OSError(28, "No space left on device"), r"was not downloaded \(OSError: .*No space left on device\)"),
    ],
)
def test_a_failure_says_in_one_line_what_would_help(failure, message, fake_hub):
    fake_hub.failure = failure
    with pytest.raises(ModelNotFoundError, match=message) as caught:
        resolve("a/b")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is failure


def test_a_model_that_is_not_cached_is_not_fetched_when_only_local_files_are_wanted(fake_hub):
    with pytest.raises(
        ModelNotFoundError,
        match=r"^model 'turbo' is not on this machine; .* `hf download openai/whisper-large-v3-turbo ",
    ):
        resolve("turbo", local_files_only=True)
    assert fake_hub.requests == []


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ("README.md ggml-tiny.bin", "found README.md, ggml-tiny.bin"),
        ("", "found no files"),
    ],
)
def test_a_repository_without_weights_says_what_it_has(files, found, fake_hub):
    fake_hub.repositories["a/b"] = repository(*files.split())
    with pytest.raises(ModelNotFoundError, match=rf"a/b has no weights that .* {found}; choose one of tiny.en, tiny"):
        resolve("a/b")
    assert fake_hub.requests == ["info a/b"]


def test_a_name_that_the_hub_cannot_have_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"'a--b/..c' is no folder here and cannot be a repository"):
        resolve("a--b/..c")


# The real client, against a Hub on this machine


class _Handler(BaseHTTPRequestHandler):
    files: dict[str, bytes]
    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        listing = [
            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha256(data).hexdigest()[:40]}
            for name, data in self.files.items()
        ]
        if self.path.startswith(f"/api/models/a/b/tree/{COMMIT}"):
            self.reply(json.dumps(listing).encode())
        elif self.path.startswith("/api/models/a/b"):
            siblings = [{"rfilename": name} for name in self.files]
            self.reply(json.dumps({"id": "a/b", "sha": COMMIT, "siblings": siblings}).encode())
        elif self.path.startswith(f"/a/b/resolve/{COMMIT}/"):
            self.reply(self.files[self.path.rpartition("/")[2]])
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815

    def reply(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()[:40]}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def hub_on_this_machine(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Address of a server of one repository, `a/b`, and the requests it gets."""
    requests: list[str] = []
    handler = type("Handler", (_Handler,), {"files": files, "requests": requests})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()
        thread.join()


def resolve_in_a_process(endpoint: str, cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    script = "from whisperx.hub import resolve; print(resolve('a/b'))"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")},
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **environment,
    }
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)


def test_the_real_client_downloads_once_and_then_asks_nobody(tmp_path):
    files = {name: name.encode() for name in ("config.json", "model.safetensors", "model.msgpack", "README.md")}
    with hub_on_this_machine(files) as (endpoint, requests):
        first = resolve_in_a_process(endpoint, tmp_path)
        assert first.returncode == 0, first.stderr
        assert content(Path(first.stdout.strip())) == {"config.json", "model.safetensors"}
        assert not any("msgpack" in path for path in requests)
        requests.clear()
        assert resolve_in_a_process(endpoint, tmp_path).stdout == first.stdout
        assert requests == []
    offline = resolve_in_a_process(endpoint, tmp_path / "empty", HF_HUB_OFFLINE="1")
    assert (
        "ModelNotFoundError: model 'a/b' is not on this machine and was not downloaded (HF_HUB_OFFLINE"
        in offline.stderr
    )
