"""whisperx-models on a cache as the Hub's client keeps it, and whisperx-doctor."""

import hashlib
import os
import sys
from pathlib import Path

import pytest

from whisperx import doctor, models_command
from whisperx.alignment import DEFAULT_ALIGN_MODELS_HF
from whisperx.alignment.loading import ALIGN_FILES
from whisperx.hub import MODELS, WHISPER_FILES

COMMIT = "c" * 40
WEIGHTS = b"weights" * 1000


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Whisper tiny, whole; base, without weights; a model that has nothing to do with speech."""
    add(tmp_path, "openai/whisper-tiny", {"config.json": b"{}", "model.safetensors": WEIGHTS})
    add(tmp_path, "openai/whisper-base", {"config.json": b"{}"})
    add(tmp_path, "somebody/chat", {"config.json": b"{}"})
    return tmp_path


def add(cache: Path, repository: str, files: dict[str, bytes]) -> None:
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir()
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    for name, content in files.items():
        is_large = name.endswith(".safetensors")
        git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        blob = folder / "blobs" / (hashlib.sha256(content) if is_large else git).hexdigest()
        blob.write_bytes(content)
        (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))


@pytest.fixture
def run(cache, capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        return models_command.main(["--model_dir", str(cache), *arguments]), *capsys.readouterr()

    return run


def test_list_shows_models_of_speech_and_which_are_incomplete(run):
    status, out, _ = run("list")
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert [line[-1] for line in lines] == ["incomplete", "openai/whisper-tiny"]
    assert [line[0] for line in lines] == ["base", "tiny"]


def test_conversions_that_whisperx_downloaded_are_listed_under_their_repository(run, cache):
    add(cache, "Systran/faster-whisper-base", {"config.json": b"{}", "model.bin": WEIGHTS})
    lines = [line.split() for line in run("list")[1].splitlines()]
    assert lines[0][0] == lines[0][-1] == "Systran/faster-whisper-base"
    assert run("path", "Systran/faster-whisper-base")[0] == 0


@pytest.mark.parametrize(
    ("config", "is_listed"),
    [
        (b'{"model_type": "whisper"}', True),
        (b'{"model_type": "wav2vec2"}', True),
        (b'{"model_type": "llama"}', False),
        (b'["whisper"]', False),
        (b"{", False),
    ],
)
def test_a_model_of_ones_own_is_listed_if_it_is_one_of_speech(run, cache, config, is_listed):
    add(cache, "lab/of-ours", {"config.json": config, "model.safetensors": WEIGHTS})
    names = [line.split()[0] for line in run("list")[1].splitlines()]
    assert ("lab/of-ours" in names) == is_listed


def test_path_is_the_folder_and_asks_nobody(run, cache):
    status, out, _ = run("path", "tiny")
    assert (status, Path(out.strip()).name) == (0, COMMIT)
    status, _, err = run("path", "base")
    assert status == 1
    assert "model 'base' is not on this machine" in err
    assert run("download", "tiny")[:2] == (0, out)


def test_verify_finds_damage(run, cache):
    assert run("verify", "tiny") == (0, "tiny: whole\n", "")
    weights = cache / "models--openai--whisper-tiny" / "snapshots" / COMMIT / "model.safetensors"
    weights.resolve().write_bytes(WEIGHTS[:-1] + b"x")
    status, out, err = run("verify", "tiny")
    assert (status, out) == (1, "tiny: damaged: model.safetensors\n")
    assert "whisperx-models remove tiny" in err
    (weights.parent / "config.json").resolve().write_bytes(b"[]")
    assert run("verify", "tiny")[1] in (
        "tiny: damaged: config.json, model.safetensors\n",
        "tiny: damaged: model.safetensors, config.json\n",
    )


def test_remove_deletes_one_model_alone(run, cache):
    status, out, _ = run("remove", "tiny")
    assert status == 0
    assert out.startswith("removed openai/whisper-tiny")
    assert sorted(path.name for path in cache.glob("models--*")) == [
        "models--openai--whisper-base", "models--somebody--chat"
    ]  # fmt: skip
    assert "not on this machine: tiny" in run("remove", "tiny")[2]
    run("remove", "base")
    assert run("list") == (0, "", "no models here; whisperx-models download small fetches one\n")


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("large", MODELS["large-v3"]),
        ("owner/whisper", "owner/whisper"),
        ("align:en", "facebook/wav2vec2-base-960h"),
        ("align:ja", DEFAULT_ALIGN_MODELS_HF["ja"]),
        ("WAV2VEC2_ASR_BASE_960H", "facebook/wav2vec2-base-960h"),
        ("pyannote/speaker-diarization-community-1", "pyannote/speaker-diarization-community-1"),
        ("pyannote/speaker-diarization-3.1", "pyannote/segmentation-3.0"),
    ],
)
def test_a_name_stands_for_a_repository(name, repository):
    assert next(iter(models_command.repositories_of(name))) == repository


@pytest.mark.parametrize("needed", [WHISPER_FILES, ALIGN_FILES])
def test_a_repository_of_ones_own_may_be_a_whisper_or_an_aligner(needed):
    files = models_command.repositories_of("owner/model")["owner/model"]
    assert {*needed.required, *needed.optional} <= {*files.required, *files.optional}
    assert files.weights == needed.weights
    assert "vocab.json" not in files.required


@pytest.mark.parametrize(("name", "message"), [("huge", "no model 'huge'"), ("align:xx", "No default align-model")])
def test_a_name_that_stands_for_nothing_is_one_line(name, message, run):
    status, _, err = run("path", name)
    assert status == 1
    assert message in err
    assert err.count("\n") == 1


# whisperx-doctor


def test_the_doctor_tells_what_there_is(capsys):
    status = doctor.main([])
    out = capsys.readouterr().out
    for thing in ("platform", "python", "mlx", "ffmpeg", "cache", "token"):
        assert any(line[4:].startswith(thing) for line in out.splitlines()), thing
    assert status in (0, 1)


def test_the_doctor_takes_no_arguments_but_help(capsys):
    with pytest.raises(SystemExit, match="0"):
        doctor.main(["--help"])
    assert "how to mend what is wrong" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit, match="2"):
        doctor.main(["--fix"])
    assert "unrecognized arguments: --fix" in capsys.readouterr().err


def test_what_is_wrong_comes_with_a_remedy(capsys, monkeypatch, tmp_path):
    import av
    from huggingface_hub import constants

    monkeypatch.setattr(av, "ffmpeg_version_info", "7.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setitem(sys.modules, "whisperx.backends.mlx", None)
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    assert doctor.main([]) == 1
    out = capsys.readouterr().out
    assert "pip install --upgrade av" in out
    assert "set HF_HOME to a folder of yours" in out
    assert "pip install 'whisperx-mlx[cpu]'" in out


@pytest.mark.parametrize(("text", "is_old"), [("8.1.2", False), ("n9.0", False), ("8.1", True), ("7.1.3-git", True)])
def test_an_old_ffmpeg_is_noticed(text, is_old, monkeypatch):
    import av

    monkeypatch.setattr(av, "ffmpeg_version_info", text)
    (finding,) = doctor._ffmpeg()
    assert (finding.remedy is not None) == is_old
