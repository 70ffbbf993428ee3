"""Who speaks when: from a recording to the turns of its speakers.

    segmentation -> voices -> embeddings -> clustering -> turns

A network says who is active in each window of 10 s, without knowing who was there in the window before. Each such voice
becomes a vector, from moments when it speaks alone; clustering tells which voices are one speaker; what the windows say
about a speaker is averaged where they overlap. All of it runs offline with weights that come with this package, on the
CPU, beside a transcription.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from whisperx.audio import HOP_LENGTH, N_FFT, SAMPLE_RATE
from whisperx.clustering import centroids, cluster
from whisperx.errors import OptionError
from whisperx.models.segmentation import (
    FIRST_FRAME_MIDDLE,
    FRAME_STEP,
    Geometry,
    average_windows,
    packaged_powerset_segmentation,
)
from whisperx.models.speaker_encoder import fbank, load_speaker_encoder
from whisperx.schema import Audio, ProgressCallback, Turn

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Indices: TypeAlias = npt.NDArray[np.int64]

logger = logging.getLogger(__name__)

_WINDOWS_AT_ONCE = 16  # whose voices are embedded together: bounds memory
_FRAMES_AT_ONCE = 1 << 14  # whose speakers are ranked together, which takes 24 bytes for each of them: bounds memory
_MAX_CLUSTERED = 2000  # voices that are clustered; the others of a long recording go to the nearest speaker


@dataclass(frozen=True)
class DiarizeSettings:
    """How voices become speakers. docs/diarization.md says how the defaults were chosen."""

    step: float = 0.75  # of a window, from one to the next: less is slower and hardly more exact
    onset: float = 0.5  # a voice is active from this score on
    min_embedded_seconds: float = 0.1  # a voice heard for less is nobody's
    max_embedded_seconds: float = 5.0  # of a voice in a window that its vector is made of
    min_clustered_seconds: float = 0.6  # a voice that is alone for less does not decide who there is
    max_distance: float = 0.55  # between two speakers, 1 - cosine: less finds more speakers
    min_speaker_seconds: float = 2.0  # who is heard alone for less is taken for another speaker, unless asked for
    min_pause_seconds: float = 0.3  # a shorter one does not end a turn
    min_turn_seconds: float = 0.1  # a shorter one is dropped


@dataclass(frozen=True)
class Diarization:
    """Who speaks when in a recording."""

    turns: list[Turn]  # by start; those of different speakers may overlap
    embeddings: dict[str, list[float]]  # a vector of length 1 for the voice of each speaker


class Diarizer(Protocol):
    """Anything that tells who speaks when, as `diarize` does."""

    def __call__(
        self,
        audio: Audio,
        *,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        progress_callback: ProgressCallback = None,
    ) -> Diarization: ...


class Segmenter(Protocol):
    """A network like `models.segmentation.Segmentation`, whose methods these are."""

    def geometry(self, step_seconds: float | None = None) -> Geometry: ...

    def scores(
        self,
        audio: Audio,
        *,
        step_seconds: float | None = None,
        on_windows: Callable[[int, int], None] | None = None,
    ) -> npt.NDArray[np.float32]: ...


class Encoder(Protocol):
    """Mel spectrograms `(n_frames, 80)` as `fbank` gives them -> embeddings `(n, n_dimensions)` of length 1."""

    def __call__(self, pieces: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]: ...


def diarize(
    audio: Audio,
    *,
    num_speakers: int | None = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    progress_callback: ProgressCallback = None,
    settings: DiarizeSettings = DiarizeSettings(),
    segmenter: Segmenter | None = None,
    encoder: Encoder | None = None,
) -> Diarization:
    """The turns of a recording's speakers, named SPEAKER_00, SPEAKER_01, ... in order of appearance.

    audio : float32 `(n_samples,)` at 16 kHz
    num_speakers : exactly so many, where the recording has enough speech for them; else a warning says how many
    min_speakers, max_speakers : no fewer, no more; without effect beside `num_speakers`
    progress_callback : called with 0 to 100, never less than before
    segmenter, encoder : other networks than those of this package

    The same recording always gives the same turns. Raises OptionError for numbers of speakers that make no sense.
    """
    fewest, most = speaker_limits(num_speakers, min_speakers, max_speakers)
    segmenter = packaged_powerset_segmentation() if segmenter is None else segmenter
    encoder = load_speaker_encoder() if encoder is None else encoder
    report = _rising(progress_callback)

    step_seconds = settings.step * segmenter.geometry().window / SAMPLE_RATE
    geometry = segmenter.geometry(step_seconds)
    scores = segmenter.scores(
        audio,
        step_seconds=step_seconds,
        on_windows=lambda done, total: report(50 * done / total),
    )  # (n_windows, n_frames, n_local)
    voices = find_voices(scores, geometry, audio, encoder, settings, lambda share: report(50 + 49 * share))
    found = turns_of_voices(voices, scores, geometry, len(audio), fewest, most, settings)
    if len(found.embeddings) < fewest:
        logger.warning("Only %d of %d speakers could be told apart in this recording", len(found.embeddings), fewest)
    report(100)
    return found


def speaker_limits(
    num_speakers: int | None, min_speakers: int | None, max_speakers: int | None
) -> tuple[int, int | None]:
    """The fewest and the most speakers there may be; no most: None.

    Raises OptionError, a ValueError, for a number less than 1 or no whole number, and for a minimum above the maximum.
    """
    for name, value in (("num", num_speakers), ("min", min_speakers), ("max", max_speakers)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1):
            raise OptionError(f"{name}_speakers is a whole number from 1 up, not {value!r}.")
    if min_speakers is not None and max_speakers is not None and min_speakers > max_speakers:
        raise OptionError(f"min_speakers ({min_speakers}) is more than max_speakers ({max_speakers}).")
    if num_speakers is not None:
        return num_speakers, num_speakers
    return min_speakers or 1, max_speakers


@dataclass(frozen=True)
class Voices:
    """Somebody active in a window, with a vector: arrays with one entry for each."""

    windows: Indices  # in which window
    locals: Indices  # which of its speakers
    seconds: FloatArray  # that it is heard alone and its vector made of; 0 where others speak all the time
    vectors: FloatArray  # (n, n_dimensions), of length 1, or NaN


def find_voices(
    scores: npt.NDArray[np.float32],
    geometry: Geometry,
    audio: Audio,
    encoder: Encoder,
    settings: DiarizeSettings,
    report: Callable[[float], None],
) -> Voices:
    """The voices in all windows, by window. `report` is called with the share that is done."""
    active = scores >= settings.onset
    n_windows = len(active)
    windows, locals_, seconds, vectors = [], [], [], []
    for start in range(0, n_windows, _WINDOWS_AT_ONCE):
        pieces = []
        block = range(start, min(start + _WINDOWS_AT_ONCE, n_windows))
        mels = fbank(_samples(audio, block, geometry)) if active[block.start : block.stop].any() else None
        for window in block:
            if mels is None or not active[window].any():
                continue
            first = (window - start) * geometry.step // HOP_LENGTH
            mel = mels[first : first + (geometry.window - N_FFT) // HOP_LENGTH + 1]
            for local in np.flatnonzero(active[window].any(axis=0)).tolist():
                frames, alone = _frames_to_embed(active[window], local, len(mel), settings)
                if len(frames) >= settings.min_embedded_seconds * _MELS_PER_SECOND:
                    pieces.append(mel[frames])
                    windows.append(window)
                    locals_.append(local)
                    seconds.append(len(frames) / _MELS_PER_SECOND if alone else 0.0)
        if pieces:
            vectors.append(encoder(pieces))
        report(min(start + _WINDOWS_AT_ONCE, n_windows) / n_windows)
    return Voices(
        np.array(windows, np.int64),
        np.array(locals_, np.int64),
        np.array(seconds),
        np.concatenate(vectors) if vectors else np.empty((0, 1)),
    )


_MELS_PER_SECOND = SAMPLE_RATE // HOP_LENGTH


def _samples(audio: Audio, windows: range, geometry: Geometry) -> Audio:
    """The samples of neighbouring windows, no further than the recording goes."""
    part = audio[windows.start * geometry.step : (windows.stop - 1) * geometry.step + geometry.window]
    part = np.nan_to_num(part, posinf=0, neginf=0)
    return np.pad(part, (0, max(0, N_FFT - len(part))))


def _frames_to_embed(active: BoolArray, local: int, n_mels: int, settings: DiarizeSettings) -> tuple[Indices, bool]:
    """Which mel frames of a window to make a voice's vector of, and whether it is alone in them.

    active : `(n_frames, n_local)` of the window
    """
    middles = np.arange(n_mels) * HOP_LENGTH + N_FFT // 2
    of_mel = np.clip((middles - FIRST_FRAME_MIDDLE + FRAME_STEP // 2) // FRAME_STEP, 0, len(active) - 1)
    speaks = active[of_mel, local]
    alone = np.flatnonzero(speaks & (active[of_mel].sum(axis=1) == 1))
    is_alone = len(alone) >= settings.min_clustered_seconds * _MELS_PER_SECOND
    frames = alone if is_alone else np.flatnonzero(speaks)
    # The middle of the window: its neighbours hear its ends, too.
    limit = round(settings.max_embedded_seconds * _MELS_PER_SECOND)
    nearest = np.argsort(np.abs(frames - n_mels / 2), kind="stable")[:limit]
    return np.sort(frames[nearest]), is_alone


@dataclass(frozen=True)
class Speakers:
    """Who there is, and which voice is whose."""

    vectors: FloatArray  # (n_speakers, n_dimensions), of length 1
    of_voices: Indices  # for each voice its speaker; -1: nobody's
    closest: Indices  # for each speaker the voice that is most like it


def turns_of_voices(
    voices: Voices,
    scores: npt.NDArray[np.float32],
    geometry: Geometry,
    n_samples: int,
    fewest: int,
    most: int | None,
    settings: DiarizeSettings,
) -> Diarization:
    """Voices -> turns of at least `fewest` and at most `most` speakers, in a recording of `n_samples`."""
    speakers = _speakers_of_voices(voices, fewest, most, settings)
    activity = _activity(scores, geometry, n_samples, voices, speakers, settings)
    turns, order = _turns(activity, n_samples, settings)
    if len(order) < min(fewest, len(speakers.vectors)):
        # Asked for, and found, but always outvoted by others in the windows around.
        for speaker in set(range(len(speakers.vectors))) - set(order):
            window, local = (int(which[speakers.closest[speaker]]) for which in (voices.windows, voices.locals))
            heard = np.flatnonzero(scores[window, :, local] >= settings.onset) + geometry.first_frame(window)
            activity[heard[heard < len(activity)], speaker] = True
        turns, order = _turns(activity, n_samples, settings)
    return Diarization(turns, {f"SPEAKER_{i:02d}": _as_floats(speakers.vectors[k]) for i, k in enumerate(order)})


def _speakers_of_voices(voices: Voices, fewest: int, most: int | None, settings: DiarizeSettings) -> Speakers:
    is_finite = np.asarray(np.isfinite(voices.vectors).all(axis=1))
    if not is_finite.any():
        # Somebody speaks, but nothing can be said about the voice: one speaker.
        n_speakers = min(len(voices.windows), 1)
        everything = np.zeros(len(voices.windows), np.int64)
        return Speakers(np.zeros((n_speakers, voices.vectors.shape[1])), everything, everything[:n_speakers])
    usable = np.flatnonzero(is_finite & (voices.seconds > 0))
    if len(usable) < fewest:
        usable = np.flatnonzero(is_finite)
    clustered = usable
    if len(usable) > _MAX_CLUSTERED:
        clustered = usable[np.linspace(0, len(usable) - 1, _MAX_CLUSTERED).round().astype(int)]
    # Each stands for the ones left out around it, too.
    weights = np.maximum(voices.seconds[clustered], 0.1) * (len(usable) / len(clustered))
    vectors = voices.vectors[clustered]
    labels = cluster(
        vectors,
        weights,
        max_distance=settings.max_distance,
        min_weight=settings.min_speaker_seconds,
        at_least=fewest,
        at_most=most,
    )
    means = centroids(vectors, weights, labels)
    similarity: FloatArray = np.full((len(voices.windows), len(means)), -np.inf)
    similarity[is_finite] = voices.vectors[is_finite] @ means.T
    of_voices = np.full(len(voices.windows), -1)
    for window in np.unique(voices.windows):
        alike = np.flatnonzero((voices.windows == window) & is_finite)
        of_voices[alike] = _match(similarity[alike])
    return Speakers(means, of_voices, similarity.argmax(axis=0))


def _match(similarity: FloatArray) -> Indices:
    """A speaker for each voice of one window, `(n_voices, n_speakers)`: two voices are two speakers if there are as
    many; the surest match first."""
    rest = similarity.copy()
    matched = np.full(len(rest), -1)
    for _ in range(len(rest)):
        if not np.isfinite(rest).any():
            rest[matched < 0] = similarity[matched < 0]  # more voices than speakers
        voice, speaker = np.unravel_index(int(rest.argmax()), rest.shape)
        matched[voice] = speaker
        rest[voice] = rest[:, speaker] = -np.inf
    return matched


def _activity(
    scores: npt.NDArray[np.float32],
    geometry: Geometry,
    n_samples: int,
    voices: Voices,
    speakers: Speakers,
    settings: DiarizeSettings,
) -> BoolArray:
    """When each speaker is active: bool `(n_total_frames, n_speakers)`."""
    n_windows, n_frames, _ = scores.shape
    n_speakers = len(speakers.vectors)
    borders = np.searchsorted(voices.windows, np.arange(n_windows + 1))  # voices are sorted by window

    def of_speakers(window: int) -> npt.NDArray[np.float32]:
        """How active each speaker is in a window, then, in a last column, how many voices are: `(n_frames, n + 1)`."""
        heard = np.zeros((n_frames, n_speakers + 1), np.float32)
        for voice in range(borders[window], borders[window + 1]):
            speaker, score = speakers.of_voices[voice], scores[window, :, voices.locals[voice]]
            if speaker >= 0:
                np.maximum(heard[:, speaker], score, out=heard[:, speaker])
                heard[:, -1] += score >= settings.onset
        return heard

    shape = n_windows, n_frames, n_speakers + 1
    averages = average_windows(map(of_speakers, range(n_windows)), shape, geometry, n_samples)
    activity, count = averages[:, :-1], np.floor(averages[:, -1:] + 0.5)

    chosen = np.empty(activity.shape, np.bool_)
    for start in range(0, len(activity), _FRAMES_AT_ONCE):
        frames = slice(start, start + _FRAMES_AT_ONCE)
        rank = np.argsort(np.argsort(-activity[frames], axis=1, kind="stable"), axis=1, kind="stable")
        chosen[frames] = (rank < count[frames]) & (activity[frames] > 0)
    return chosen


def _turns(activity: BoolArray, n_samples: int, settings: DiarizeSettings) -> tuple[list[Turn], list[int]]:
    """Turns by start, and the speakers, as columns of `activity`, in order of appearance."""
    found = []
    for column in range(activity.shape[1]):
        regions = np.flatnonzero(np.diff(activity[:, column], prepend=False, append=False)).reshape(-1, 2)
        seconds = (regions * FRAME_STEP + FIRST_FRAME_MIDDLE - FRAME_STEP // 2) / SAMPLE_RATE
        seconds = np.minimum(seconds, n_samples / SAMPLE_RATE)
        found += [(start, end, column) for start, end in _joined(seconds.tolist(), settings)]
    found.sort()
    order = list(dict.fromkeys(column for _, _, column in found))
    return [Turn(start, end, f"SPEAKER_{order.index(column):02d}") for start, end, column in found], order


def _joined(regions: list[list[float]], settings: DiarizeSettings) -> list[tuple[float, float]]:
    """One speaker's regions without short pauses, then without short regions."""
    joined: list[tuple[float, float]] = []
    for start, end in regions:
        if joined and start - joined[-1][1] < settings.min_pause_seconds:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    return [(start, end) for start, end in joined if end - start >= settings.min_turn_seconds]


def _rising(callback: ProgressCallback) -> Callable[[float], None]:
    """`callback`, called only with more than before."""
    highest = -1.0

    def report(percent: float) -> None:
        nonlocal highest
        if callback is not None and percent > highest:
            highest = percent
            callback(percent)

    return report


def _as_floats(vector: FloatArray) -> list[float]:
    return [float(x) for x in vector]
