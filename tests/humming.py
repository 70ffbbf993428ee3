import numpy as np

from whisperx.schema import Audio

SAMPLE_RATE = 16000


def hum(seconds: float) -> Audio:
    """An "ee" sung at 140 Hz, four pulses a second: artificial, yet Silero takes it for a voice."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(140 * (1 + 0.08 * np.sin(2 * np.pi * 1.3 * time))) / SAMPLE_RATE
    sound = np.zeros_like(time)
    for harmonic in range(1, 54):
        formants = sum(
            1 / (1 + ((harmonic * 140 - center) / width) ** 2)
            for center, width in ((300, 60), (2200, 100), (3000, 150))
        )
        sound += (formants + 0.01) / np.sqrt(harmonic) * np.sin(harmonic * phase)
    sound *= 0.55 - 0.45 * np.cos(2 * np.pi * 4 * time)
    return (0.1 * sound / np.abs(sound).max()).astype(np.float32)


def silence(seconds: float) -> Audio:
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)
