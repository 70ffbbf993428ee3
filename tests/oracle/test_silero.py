"""Our Silero network against the ONNX file of the silero-vad wheel, run window by window as its authors do."""

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from humming import hum, silence

from whisperx.audio import load_audio
from whisperx.models.silero import load_silero

TOLERANCE = 1e-4
RNG = np.random.default_rng(0)
TIME = np.arange(40 * 16000) / 16000  # longer than one block of windows

SYNTHETIC = {
    "noise": RNG.normal(0, 0.1, len(TIME)),
    "loud noise": RNG.normal(0, 1, len(TIME)),
    "noise in bursts": RNG.normal(0, 0.3, len(TIME)) * (np.sin(TIME) > 0),
    "rising tone": 0.5 * np.sin(2 * np.pi * 100 * TIME**2),
    "beyond full scale": 30 * np.sin(2 * np.pi * 150 * TIME),
    "hum": np.concatenate([silence(1), hum(38), silence(2)]),
    "hum in noise": hum(35) + RNG.normal(0, 0.003, 35 * 16000),
    "very quiet hum": 1e-4 * hum(10),
    "constant": np.full(16000, 0.1),
    "digital silence": silence(40),
    "one sample": np.ones(1),
    "one window": RNG.normal(0, 0.1, 512),
    "one window and a sample": RNG.normal(0, 0.1, 513),
    "exactly one block": RNG.normal(0, 0.1, 256 * 512),
}


@pytest.fixture(scope="session")
def onnx_file(request: pytest.FixtureRequest) -> Path:
    wheel = importlib.util.find_spec("silero_vad")
    if wheel is not None and wheel.origin is not None:
        return Path(wheel.origin).parent / "data" / "silero_vad.onnx"
    shared: Path = request.getfixturevalue("shared")
    return shared / "models" / "silero-vad" / "silero_vad_v6.2.1.onnx"


@pytest.fixture(scope="session")
def session(onnx_file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(onnx_file, options, providers=["CPUExecutionProvider"])


def step_by_step(session: onnxruntime.InferenceSession, audio: np.ndarray) -> np.ndarray:
    samples = np.pad(audio.astype(np.float32), (64, -len(audio) % 512))
    state = np.zeros((2, 1, 128), np.float32)
    probabilities = []
    for start in range(0, len(samples) - 64, 512):
        inputs = {"input": samples[None, start : start + 576], "state": state, "sr": np.array(16000, np.int64)}
        output, state = session.run(None, inputs)
        probabilities.append(output[0, 0])
    return np.array(probabilities)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_probabilities_equal_those_of_the_onnx_file(session: onnxruntime.InferenceSession, name: str):
    audio = SYNTHETIC[name].astype(np.float32)
    np.testing.assert_allclose(load_silero()(audio), step_by_step(session, audio), rtol=0, atol=TOLERANCE)


@pytest.mark.shared
@pytest.mark.parametrize(
    "file",
    [
        "english/jfk.flac",
        "english/OSR_us_000_0034_8k.wav",
        "diarization/ami_pyannote/tst00.wav",
        "nonspeech/ina/musanmix.mp3",
        "nonspeech/music_Kevin_MacLeod_-_Vibe_Ace.ogg",
        "word_alignment/mfa/cold_corpus.wav",
        "multilingual/voxpopuli-en-000.ogg",
    ],
)
def test_probabilities_equal_those_of_the_onnx_file_on_recordings(
    session: onnxruntime.InferenceSession, shared: Path, file: str
):
    audio = load_audio(shared / "audio" / file)
    np.testing.assert_allclose(load_silero()(audio), step_by_step(session, audio), rtol=0, atol=TOLERANCE)
