from pathlib import Path

import pytest
from hypothesis import settings

import whisperx.models  # noqa: F401 - before anything imports MLX, so that its BLAS is ours

settings.register_profile("suite", deadline=None, max_examples=60)  # a slow machine is no failure
settings.load_profile("suite")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


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
