"""The likeliest way through a text, frame by frame: Viterbi over "token or blank", many segments at once.

Row t of a trellis holds, for every j, the log-probability of the best way to have emitted the first j tokens in the
first t frames. A frame either emits the next token or stays in the last one, as in torchaudio's forced alignment
tutorial (Kürzinger et al. 2020, https://arxiv.org/abs/2007.09127) and WhisperX. While it stays, the frame costs the
blank or, where that is likelier, the column that the token names for staying; a token that names the blank gives the
path of WhisperX, bit for bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from whisperx.schema import Emission

IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
FloatArray: TypeAlias = npt.NDArray[np.float32]

_BLOCK_CELLS = 20_000_000  # frames * tokens of segments computed side by side, a byte for each
_FRAMES_AT_A_TIME = 64  # for which costs are gathered: they fit a processor's cache
_WHOLE_CELLS = 40_000_000  # above, a segment goes by itself and through a band: 30 s of fast speech have 1 million
_BAND = 4000  # tokens followed at a time in a band: some four minutes of speech
_FRAMES_IN_PLACE = 32  # frames after which the band may move


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a segment has to emit, as columns of its emission: both int64 (n_tokens,)."""

    columns: IntArray  # emitted once by each token
    stays: IntArray  # what a token may go on with, besides the blank


@dataclass(frozen=True, slots=True)
class Path:
    """Which token each frame belongs to: arrays (n_path_frames,) that begin with frame `first` of the segment."""

    first: int
    token: IntArray  # begins with 0, ends with n_tokens - 1, never skips one
    probability: FloatArray  # of what the frame emits on this path
    is_voiced: BoolArray  # whether the token itself is at least as likely here as the blank

    def starts(self) -> IntArray:
        """First frame of each token."""
        return self.first + np.searchsorted(self.token, np.arange(self.token[-1] + 1))

    def stops(self) -> IntArray:
        """The frame after the last of each token: where the next one starts."""
        return np.append(self.starts()[1:], self.first + len(self.token))

    def voiced_stops(self) -> IntArray:
        """The frame after the last voiced one of each token; its first frame counts as voiced."""
        frames = np.arange(1, len(self.token) + 1)
        starts = self.starts() - self.first
        is_voiced = self.is_voiced.copy()
        is_voiced[starts] = True
        return self.first + np.maximum.reduceat(np.where(is_voiced, frames, 0), starts)

    def scores(self, stops: IntArray) -> npt.NDArray[np.float64]:
        """Mean probability of each token from its start to `stops`."""
        sums = np.concatenate([[0.0], np.cumsum(self.probability, dtype=np.float64)])
        starts = self.starts()
        means: npt.NDArray[np.float64] = (sums[stops - self.first] - sums[starts - self.first]) / (stops - starts)
        return means


def best_paths(
    emissions: Sequence[Emission], tokens: Sequence[Tokens], blank: int, *, to_last_frame: bool
) -> list[Path | None]:
    """The path of each segment through all its tokens.

    emissions : (n_frames, n_columns) log-probabilities, in any mix of lengths
    tokens : one or more for each segment
    blank : column of "nothing new"
    to_last_frame : the path explains every frame after its first token; else it ends where its last token is likeliest
        to be through, as in WhisperX, and what comes after costs nothing, so that a bad match may end too early

    None where a segment has more tokens than frames. What stands beside a segment never changes its path. Segments
    of more than 40 million cells (ten minutes of speech as one piece) go through a band that moves along with the
    best path, 4000 tokens wide: audio or text may lack passages of up to half of that.
    """
    paths: list[Path | None] = [None] * len(emissions)
    for group in _groups(emissions, tokens):
        found: list[Path | None]
        if _cells(emissions[group[0]], tokens[group[0]]) > _WHOLE_CELLS:
            found = [path_in_band(emissions[i], tokens[i], blank, _BAND, to_last_frame=to_last_frame) for i in group]
        else:
            found = _paths_side_by_side(
                [emissions[i] for i in group], [tokens[i] for i in group], blank, to_last_frame=to_last_frame
            )
        for i, path in zip(group, found, strict=True):
            paths[i] = path
    return paths


def _cells(emission: Emission, tokens: Tokens) -> int:
    return len(emission) * len(tokens.columns)


def _groups(emissions: Sequence[Emission], tokens: Sequence[Tokens]) -> Iterator[list[int]]:
    """Segments of similar size, as many as fit a block; those with more tokens than frames are left out."""
    feasible = [i for i in range(len(emissions)) if len(tokens[i].columns) <= len(emissions[i])]
    group: list[int] = []
    n_frames = n_tokens = 0
    for i in sorted(feasible, key=lambda i: (-len(emissions[i]), len(tokens[i].columns))):
        n_frames, n_tokens = max(n_frames, len(emissions[i])), max(n_tokens, len(tokens[i].columns))
        if group and (len(group) + 1) * n_frames * n_tokens > _BLOCK_CELLS:
            yield group
            group, n_frames, n_tokens = [], len(emissions[i]), len(tokens[i].columns)
        group.append(i)
    if group:
        yield group


def _paths_side_by_side(
    emissions: Sequence[Emission], tokens: Sequence[Tokens], blank: int, *, to_last_frame: bool
) -> list[Path | None]:
    """Paths of segments with the longest first, so that those still running stand at the front."""
    rows = np.arange(len(emissions))
    n_frames = np.array([len(emission) for emission in emissions])
    n_tokens = np.array([len(t.columns) for t in tokens])
    last_frame, width = int(n_frames[0]), int(n_tokens.max()) + 1

    # Cells of all segments lie in one row, `width` for each: "no token yet", into which nothing moves, then the
    # tokens. So a frame is a few operations on long arrays. A segment with fewer tokens has cells that lead nowhere.
    scores = np.full(len(emissions) * width, -np.inf, np.float32)
    scores[::width] = 0.0
    last_cells = rows * width + n_tokens
    waiting = np.zeros((last_frame, len(emissions)), np.float32)
    for b, emission in enumerate(emissions):
        waiting[: len(emission), b] = np.cumsum(emission[:, blank], dtype=np.float64)
    moved = np.zeros((last_frame, len(scores)), np.bool_)
    through = np.full((last_frame + 1, len(emissions)), -np.inf, np.float32)
    stayed, changed = np.empty_like(scores), np.full_like(scores, -np.inf)
    for begin in range(0, last_frame, _FRAMES_AT_A_TIME):
        n_running = int(np.count_nonzero(n_frames > begin))
        cells = slice(0, n_running * width)
        emit, stay = _gathered(emissions[:n_running], tokens[:n_running], blank, begin, width)
        for i in range(len(emit)):
            np.add(scores[cells], stay[i], out=stayed[cells])
            np.add(scores[cells][:-1], emit[i, 1:], out=changed[cells][1:])
            np.greater(changed[cells], stayed[cells], out=moved[begin + i, cells])
            np.maximum(stayed[cells], changed[cells], out=scores[cells])
            scores[cells][::width] = waiting[begin + i, :n_running]
            through[begin + i + 1, :n_running] = scores[last_cells[:n_running]]
    through[np.arange(last_frame + 1)[:, None] > n_frames] = -np.inf

    # Backwards from the end of each segment.
    ends = n_frames if to_last_frame else through.argmax(axis=0)
    left = n_tokens.copy()  # tokens not yet reached
    token = np.full((last_frame, len(emissions)), -1)
    for t in range(int(ends.max()) - 1, -1, -1):
        is_on = (t < ends) & (left > 0)
        token[t, is_on] = left[is_on] - 1
        left -= is_on & moved[t, rows * width + left]

    paths: list[Path | None] = []
    for b, emission in enumerate(emissions):
        first = int(np.argmax(token[:, b] >= 0))
        paths.append(_path(first, token[first : ends[b], b], emission, tokens[b], blank))
    return paths


def _gathered(
    emissions: Sequence[Emission], tokens: Sequence[Tokens], blank: int, begin: int, width: int
) -> tuple[FloatArray, FloatArray]:
    """What moving into each cell and staying in it costs, for the next frames: (n_frames, n_segments * width)."""
    n_frames = min(_FRAMES_AT_A_TIME, len(emissions[0]) - begin)
    emit = np.zeros((n_frames, len(emissions), width), np.float32)
    emit[:, :, 0] = -np.inf
    stay = np.zeros_like(emit)
    for b, (emission, t) in enumerate(zip(emissions, tokens, strict=True)):
        block = emission[begin : begin + n_frames].T
        cells = slice(1, len(t.columns) + 1)
        emit[: block.shape[1], b, cells] = block[t.columns].T
        stay[: block.shape[1], b, cells] = np.maximum(block, block[blank])[t.stays].T
    return emit.reshape(n_frames, -1), stay.reshape(n_frames, -1)


def path_in_band(emission: Emission, tokens: Tokens, blank: int, width: int, *, to_last_frame: bool) -> Path | None:
    """The path of one segment of any length, following `width` tokens at a time around the best one so far.

    The same path as with all tokens as long as it stays within the band. None where the band does not reach the end
    of the text.
    """
    n_frames, n_tokens = len(emission), len(tokens.columns)
    width = min(width, n_tokens)
    columns = np.concatenate([[blank], tokens.columns])
    stays = np.concatenate([[blank], tokens.stays])
    scores = np.full(width + 1, -np.inf, np.float64)  # of having emitted `offset`, `offset` + 1, ... tokens
    scores[0] = 0.0
    offset = 0
    offsets = np.empty(n_frames, np.int64)
    moved = np.empty((n_frames, width // 8 + 1), np.uint8)  # bits
    changed = np.full(width + 1, -np.inf, np.float64)
    end, best = 0, -np.inf
    for t in range(n_frames):
        if t % _FRAMES_IN_PLACE == 0 and offset + width < n_tokens:
            step = min(int(scores.argmax()) - width // 2, n_tokens - offset - width)
            if step > 0:
                scores = np.concatenate([scores[step:], np.full(step, -np.inf)])
                offset += step
        offsets[t] = offset
        band = slice(offset, offset + width + 1)
        frame = emission[t]
        stayed = scores + np.maximum(frame[stays[band]], frame[blank])
        changed[1:] = scores[:-1] + frame[columns[band][1:]]
        moved[t] = np.packbits(changed > stayed)
        scores = np.maximum(stayed, changed)
        if offset + width == n_tokens and (scores[-1] > best or to_last_frame):
            end, best = t + 1, float(scores[-1])
    if end == 0:
        return None
    token = np.empty(end, np.int64)
    left, t = n_tokens, end
    while left > 0:
        t -= 1
        token[t] = left - 1
        bit = left - int(offsets[t])
        left -= int(moved[t, bit >> 3] >> (7 - (bit & 7)) & 1)
    return _path(t, token[t:], emission, tokens, blank)


def _path(first: int, token: IntArray, emission: Emission, tokens: Tokens, blank: int) -> Path:
    frames = np.arange(first, first + len(token))
    own = emission[frames, tokens.columns[token]]
    blanks = emission[frames, blank]
    emitted = np.maximum(emission[frames, tokens.stays[token]], blanks)
    is_new = np.diff(token, prepend=-1) > 0
    emitted[is_new] = own[is_new]
    return Path(first, token, np.exp(emitted), np.maximum(own, emission[frames, tokens.stays[token]]) >= blanks)
