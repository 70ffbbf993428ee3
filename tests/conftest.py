from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_pipeline import Command, FakeLoader
from fake_stages import FakeStages
from hypothesis import settings

import whisperx.models  # noqa: F401 - before anything imports MLX, so that its BLAS is ours
from whisperx import transcribe
from whisperx.cli import main

settings.register_profile("suite", deadline=None, max_examples=60)  # a slow machine is no failure
settings.load_profile("suite")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def _cache_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Models that tests convert for CTranslate2 do not stay behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """A folder beside the checkout with recordings (`audio/`) and checkpoints (`models/`) that are not ours to ship."""
    if not SHARED.is_dir():
        pytest.skip(f"no recordings or checkpoints to test with: {SHARED} is missing")
    return SHARED


@pytest.fixture(scope="session")
def demo_model() -> Path:
    return ROOT / "examples" / "demo-model"


@pytest.fixture(scope="session")
def demo_audio() -> Path:
    return ROOT / "examples" / "demo.wav"


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch, stages: FakeStages) -> FakeLoader:
    """Stands in for the model, and `stages` for what follows."""
    loader = FakeLoader()
    loader.stand_in(monkeypatch)
    return loader


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> FakeStages:
    stages = FakeStages()
    for name in ("load_align_model", "align", "load_diarizer"):
        monkeypatch.setattr(transcribe, name, getattr(stages, name))
    return stages


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(loader: FakeLoader, folder: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in an empty folder: arguments -> exit status, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            status = main(arguments)
        except SystemExit as end:
            status = int(end.code or 0)
        return status, *capfd.readouterr()

    return run
