"""Which cross-attention heads follow the sound, for the models that OpenAI published.

The (layer, head) pairs are those of `_ALIGNMENT_HEADS` in openai/whisper (MIT), found there by measuring which heads
move along the time axis. Fine-tuned models keep them.
"""

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from whisperx.checkpoints.dimensions import WhisperDimensions

Heads = npt.NDArray[np.int64]  # (n, 2): layer, head

# fmt: off
_LARGE_V1 = [
    (9, 19), (11, 2), (11, 4), (11, 17), (22, 7), (22, 11), (22, 17), (23, 2), (23, 15),
]
# By decoder width, decoder layers and vocabulary size; no two other published models share these.
_PUBLISHED = {
    (384, 4, 51864): [(1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)],  # tiny.en
    (384, 4, 51865): [(2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5)],  # tiny
    (512, 6, 51864): [(3, 3), (4, 7), (5, 1), (5, 5), (5, 7)],  # base.en
    (512, 6, 51865): [(3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6)],  # base
    (768, 12, 51864): [  # small.en
        (6, 6), (7, 0), (7, 3), (7, 8), (8, 2), (8, 5), (8, 7), (9, 0), (9, 4), (9, 8), (9, 10), (10, 0), (10, 1),
        (10, 2), (10, 3), (10, 6), (10, 11), (11, 2), (11, 4),
    ],
    (768, 12, 51865): [  # small
        (5, 3), (5, 9), (8, 0), (8, 4), (8, 7), (8, 8), (9, 0), (9, 7), (9, 9), (10, 5),
    ],
    (1024, 24, 51864): [  # medium.en
        (11, 4), (14, 1), (14, 12), (14, 14), (15, 4), (16, 0), (16, 4), (16, 9), (17, 12), (17, 14), (18, 7),
        (18, 10), (18, 15), (20, 0), (20, 3), (20, 9), (20, 14), (21, 12),
    ],
    (1024, 24, 51865): [(13, 15), (15, 4), (15, 15), (16, 1), (20, 0), (23, 4)],  # medium
    (1280, 32, 51865): [  # large-v2; large-v1 has the same sizes
        (10, 12), (13, 17), (16, 11), (16, 12), (16, 13), (17, 15), (17, 16), (18, 4), (18, 11), (18, 19), (19, 11),
        (21, 2), (21, 3), (22, 3), (22, 9), (22, 12), (23, 5), (23, 7), (23, 13), (25, 5), (26, 1), (26, 12), (27, 15),
    ],
    (1280, 32, 51866): [  # large-v3
        (7, 0), (10, 17), (12, 18), (13, 12), (16, 1), (17, 14), (19, 11), (21, 4), (24, 1), (25, 6),
    ],
    (1280, 4, 51866): [(2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14)],  # large-v3-turbo
}
# fmt: on


def choose_alignment_heads(dims: WhisperDimensions, name: str, configured: Any, stored: Any) -> Heads:
    """The first that is usable of: `configured`, `stored`, OpenAI's for these dimensions, the last half of the layers.

    name : a path or repository id; tells large-v1 from large-v2
    configured : `alignment_heads` of generation_config.json, or None
    stored : that among MLX weights or in CTranslate2's config.json, or None. Converters write the last half of the
        layers when they know no better (ml-explore/mlx-examples#1401), so that value counts as none.
    """
    last_half = np.argwhere(np.arange(dims.n_text_layer)[:, None] >= [dims.n_text_layer // 2] * dims.n_text_head)
    found = _checked(configured, dims)
    if found is not None:
        return found
    found = _checked(stored, dims)
    if found is not None and not np.array_equal(found, last_half):
        return found
    published = published_alignment_heads(dims, name)
    return last_half if published is None else published


def published_alignment_heads(dims: WhisperDimensions, name: str) -> Heads | None:
    """OpenAI's heads for a model of these dimensions, None when it published no such model."""
    pairs = _PUBLISHED.get((dims.n_text_state, dims.n_text_layer, dims.n_vocab))
    if (dims.n_text_layer, dims.n_vocab) == (32, 51865) and re.search(r"large-v1|whisper-large(?!-v\d)", name):
        pairs = _LARGE_V1
    return None if pairs is None else np.array(pairs, dtype=np.int64)


def _checked(heads: Any, dims: WhisperDimensions) -> Heads | None:
    """Heads as an array, None when they are missing or outside this decoder."""
    try:
        array = np.asarray(heads)
    except ValueError:  # rows of different lengths
        return None
    if array.dtype.kind not in "iu" or array.ndim != 2 or array.shape[0] == 0 or array.shape[1] != 2:
        return None
    inside = (array >= 0) & (array < [dims.n_text_layer, dims.n_text_head])
    return array.astype(np.int64) if inside.all() else None
