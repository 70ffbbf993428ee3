"""WhisperX's trellis and backtracking, written plainly from their description: one cell, one frame at a time.

What `whisperx.alignment` computes for many segments at once is compared with this, and its speed measured against it.
"""

from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt


def trellis_of(emission: npt.NDArray[np.float32], tokens: list[int], blank: int) -> npt.NDArray[np.float32]:
    """(n_frames + 1, n_tokens + 1): a row for each frame, computed from the row before."""
    n_frames, n_tokens = len(emission), len(tokens)
    trellis = np.empty((n_frames + 1, n_tokens + 1), np.float32)
    trellis[0, 0] = 0
    trellis[1:, 0] = np.cumsum(emission[:, blank], dtype=np.float64)
    trellis[0, -n_tokens:] = -inf
    trellis[-n_tokens:, 0] = inf
    for t in range(n_frames):
        stay = trellis[t, 1:] + emission[t, blank]
        change = trellis[t, :-1] + emission[t, tokens]
        trellis[t + 1, 1:] = np.maximum(stay, change)
    return trellis


def path_of(
    trellis: npt.NDArray[np.float32], emission: npt.NDArray[np.float32], tokens: list[int], blank: int
) -> list[tuple[int, int, float]] | None:
    """(token, frame, probability) of each frame on the best path; None where it does not reach the first token."""
    path = []
    j = trellis.shape[1] - 1
    for t in range(int(np.argmax(trellis[:, j])), 0, -1):
        stayed = trellis[t - 1, j] + emission[t - 1, blank]
        changed = trellis[t - 1, j - 1] + emission[t - 1, tokens[j - 1]]
        is_change = bool(changed > stayed)
        path.append((j - 1, t - 1, float(np.exp(emission[t - 1, tokens[j - 1] if is_change else blank]))))
        if is_change:
            j -= 1
            if j == 0:
                return path[::-1]
    return None


def spans_of(path: list[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
    """(first frame, frame after the last, mean probability) of each token."""
    spans: list[tuple[int, int, float]] = []
    probabilities: list[float] = []
    for i, (token, frame, probability) in enumerate(path):
        probabilities.append(probability)
        if i + 1 == len(path) or path[i + 1][0] != token:
            spans.append((frame + 1 - len(probabilities), frame + 1, sum(probabilities) / len(probabilities)))
            probabilities = []
    return spans


def random_emission(generator: np.random.Generator, n_frames: int, n_labels: int, sharpness: float) -> Any:
    """Log-probabilities like those of a network: unsure (sharpness 1) to almost certain (10)."""
    logits = (generator.normal(size=(n_frames, n_labels)) * sharpness).astype(np.float32)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
