"""The diarization pipelines that pyannote publishes on the Hugging Face Hub, without PyTorch.

    segmentation -> voices -> embeddings -> clustering -> turns

The stages are those of `speaker_turns`, with pyannote's networks, clustering and numbers: a powerset network says who
is active in windows of 10 s, a ResNet34 makes a vector of each voice in each window, and VBx (community-1) or
agglomerative clustering (3.1) tells which voices are one speaker. `load_community_pipeline(name)` returns a `Diarizer`.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from whisperx.audio import SAMPLE_RATE
from whisperx.checkpoints.tensors import Array, Tensor, open_npz, read_expected
from whisperx.errors import BackendError, CheckpointError, ModelNotFoundError
from whisperx.hub import Files, fetch, first_token, local_path
from whisperx.models.segmentation import FIRST_FRAME_MIDDLE, FRAME_STEP, Geometry, load_segmentation, overlap_add
from whisperx.schema import Audio, ProgressCallback, Turn
from whisperx.speaker_turns import Diarization, Segmenter, speaker_limits
from whisperx.vbx import NOBODY, Agglomerative, Plda, VBx, assign, cosine_similarity

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Labels: TypeAlias = npt.NDArray[np.int64]

logger = logging.getLogger(__name__)

COMMUNITY = "pyannote/speaker-diarization-community-1"
LEGACY = ("pyannote/speaker-diarization-3.1", "pyannote/speaker-diarization-3.0")

_NETWORKS = ("segmentation/pytorch_model.bin", "embedding/pytorch_model.bin")
_PLDA = ("plda/xvec_transform.npz", "plda/plda.npz")
_PLDA_SIZES = 256, 128  # of what goes in and what comes out, in the published one
_MAX_PLDA_NUMBERS = 1_000_000
_CHECKPOINT = Files(("pytorch_model.bin",))
_COMMUNITY_FILES = {COMMUNITY: Files((*_NETWORKS, *_PLDA))}
_LEGACY_FILES = {"pyannote/segmentation-3.0": _CHECKPOINT, "pyannote/wespeaker-voxceleb-resnet34-LM": _CHECKPOINT}
PIPELINES = {
    COMMUNITY: _COMMUNITY_FILES,
    **dict.fromkeys(LEGACY, _LEGACY_FILES),
}  # what each is made of
_ONSET = 0.5
_CLEAN_SHARE = 0.2  # of a window that a voice is alone in, for it to decide who there is
_MIN_CLEAN_FRAMES = 3  # alone for less, a voice is heard in overlap too


class Embedder(Protocol):
    """A network like `models.resnet.ResNet34`: a window and masks `(n_voices, n_frames)` -> `(n_voices, n)`."""

    @property
    def n_dimensions(self) -> int: ...

    def __call__(self, window: Audio, masks: npt.NDArray[Any]) -> npt.NDArray[np.float32]: ...


def load_community_pipeline(
    name: str | PathLike[str],
    *,
    token: str | bool | None = None,
    cache_dir: str | PathLike[str] | None = None,
    local_files_only: bool = False,
    device: str = "auto",
) -> "CommunityPipeline":
    """The pipeline of a repository of pyannote, or of a folder with its files; downloaded unless it is here.

    name : "pyannote/speaker-diarization-community-1", "pyannote/speaker-diarization-3.1", or a folder with
        segmentation/pytorch_model.bin and embedding/pytorch_model.bin; plda/ too makes it a community-1
    token : default HF_TOKEN, HUGGINGFACE_TOKEN or the login of `hf auth login`
    device : where the embeddings are computed, as `whisperx.load_model` takes it; a CPU, with a warning, where MLX
        cannot use that GPU

    Raises ModelNotFoundError for a pipeline that is not here and cannot be downloaded (for a gated one the text names
    the page where its terms are accepted and the variable that holds a token), CheckpointError for broken files.
    """

    def download(repository: str, files: Files) -> Path:
        return fetch(
            repository,
            files,
            download_root=None if cache_dir is None else fspath(cache_dir),
            local_files_only=local_files_only,
            token=first_token(token),
        )

    folder = local_path(name)
    if folder.is_dir():
        missing = [file for file in _NETWORKS if not (folder / file).is_file()]
        if missing:
            raise ModelNotFoundError(f"{folder} is no diarization pipeline of pyannote: it lacks {', '.join(missing)}")
    elif name == COMMUNITY:
        folder = download(COMMUNITY, _COMMUNITY_FILES[COMMUNITY])
    elif name not in LEGACY:
        raise ModelNotFoundError(
            f"no diarization pipeline {fspath(name)!r}: expected {COMMUNITY}, {LEGACY[0]}, or a folder with the files "
            "of one; without a name the one in this package is used"
        )
    if name in LEGACY:
        segmentation, embedding = (
            download(repository, files) / "pytorch_model.bin" for repository, files in _LEGACY_FILES.items()
        )
        return CommunityPipeline(load_segmentation(segmentation), _load_embedder(embedding, device), Agglomerative())
    has_plda = all((folder / file).is_file() for file in _PLDA)
    clustering = VBx(_load_plda(*(folder / file for file in _PLDA))) if has_plda else Agglomerative()
    segmentation, embedding = (folder / file for file in _NETWORKS)
    return CommunityPipeline(load_segmentation(segmentation), _load_embedder(embedding, device), clustering)


def _load_embedder(path: Path, device: str) -> Embedder:
    from whisperx.models.resnet import load_resnet  # MLX: only where a pipeline needs it

    try:
        return load_resnet(path, device=device)
    except BackendError as error:
        logger.warning("embeddings of voices run on the CPU: %s", error)
        return load_resnet(path, device="cpu")


def _load_plda(xvec_path: Path, plda_path: Path) -> Plda:
    xvec, plda = open_npz(xvec_path), open_npz(plda_path)
    lda = xvec.get("lda")
    n_in, n_out = lda.shape if lda is not None and len(lda.shape) == 2 else _PLDA_SIZES

    def read(path: Path, tensors: Mapping[str, Tensor], **shapes: tuple[int, ...]) -> dict[str, Array]:
        return read_expected(path, tensors, shapes, max_parameters=_MAX_PLDA_NUMBERS)

    try:
        return Plda.of(
            read(xvec_path, xvec, mean1=(n_in,), lda=(n_in, n_out), mean2=(n_out,)),
            read(plda_path, plda, mu=(n_out,), tr=(n_out, n_out), psi=(n_out,)),
        )
    except np.linalg.LinAlgError as error:  # numbers of a covariance that is none
        raise CheckpointError(f"{plda_path.parent}: not the PLDA of a pyannote pipeline: {error}") from error


@dataclass(frozen=True)
class CommunityPipeline:
    """A `Diarizer`: who speaks when, by networks and clustering of pyannote."""

    segmenter: Segmenter
    embedder: Embedder
    clustering: Agglomerative | VBx

    def __call__(
        self,
        audio: Audio,
        *,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        progress_callback: ProgressCallback = None,
    ) -> Diarization:
        """The turns of a recording's speakers, named SPEAKER_00, SPEAKER_01, ... in order of appearance.

        audio : float32 `(n_samples,)` at 16 kHz; the other arguments are those of `speaker_turns.diarize`
        """
        fewest, most = speaker_limits(num_speakers, min_speakers, max_speakers)
        report: Callable[[float], None] = progress_callback or (lambda percent: None)
        geometry = self.segmenter.geometry()
        scores = self.segmenter.scores(audio, on_windows=lambda done, total: report(50 * done / total))
        active: BoolArray = scores > _ONSET  # (n_windows, n_frames, n_local)
        if not active.any():
            report(100)
            return Diarization([], {})
        vectors = self._embeddings(audio, active, geometry, lambda share: report(50 + 49 * share))
        speakers, of_voices = self._speakers(vectors, active, fewest, most)
        is_heard = _activity(active, of_voices, len(speakers), most, geometry, len(audio))
        report(100)
        return _named(is_heard, speakers)

    def _embeddings(
        self, audio: Audio, active: BoolArray, geometry: Geometry, report: Callable[[float], None]
    ) -> FloatArray:
        """A vector for each voice, `(n_windows, n_local, n_dimensions)`, NaN for who is silent."""
        n_windows, _, n_local = active.shape
        vectors = np.full((n_windows, n_local, self.embedder.n_dimensions), np.nan)
        clean = _alone(active)
        for window in range(n_windows):
            voices = np.flatnonzero(active[window].any(axis=0))
            if len(voices):
                is_clean = clean[window].sum(axis=0) >= _MIN_CLEAN_FRAMES
                masks = np.where(is_clean, clean[window], active[window])[:, voices].T
                start = window * geometry.step
                part = np.nan_to_num(audio[start : start + geometry.window], posinf=0, neginf=0)
                samples = np.pad(part, (0, geometry.window - len(part)))
                vectors[window, voices] = self.embedder(samples, masks)
            report((window + 1) / n_windows)
        return vectors

    def _speakers(
        self, vectors: FloatArray, active: BoolArray, fewest: int, most: int | None
    ) -> tuple[FloatArray, Labels]:
        """A vector for each speaker, `(n_speakers, n_dimensions)`, and whose each voice is, `(n_windows, n_local)`."""
        is_finite = np.isfinite(vectors).all(axis=2)
        decides = is_finite & (_alone(active).sum(axis=1) >= _CLEAN_SHARE * active.shape[1])
        if decides.sum() < fewest:
            decides = is_finite  # short recordings: better all voices than too few speakers
        clustered = vectors[decides]  # (n, n_dimensions)
        if not len(clustered):
            return np.zeros((1, vectors.shape[2])), np.where(_is_active(active), 0, NOBODY)
        if isinstance(self.clustering, VBx):
            shares, is_free = self.clustering(clustered, fewest, most)
        else:
            labels = self.clustering(clustered, fewest, most)
            shares, is_free = np.eye(labels.max() + 1)[labels], False
        speakers = shares.T @ clustered / shares.sum(axis=0)[:, None]
        return speakers, assign(cosine_similarity(vectors, speakers), _is_active(active), distinct=is_free)


def _is_active(active: BoolArray) -> BoolArray:
    return np.asarray(active.any(axis=1))  # (n_windows, n_local)


def _alone(active: BoolArray) -> BoolArray:
    """Where a voice is the only one: like `active`, `(n_windows, n_frames, n_local)`."""
    return np.asarray(active & (active.sum(axis=2, keepdims=True) == 1))


def _activity(
    active: BoolArray, of_voices: Labels, n_speakers: int, most: int | None, geometry: Geometry, n_samples: int
) -> BoolArray:
    """When each speaker is heard, `(n_total_frames, n_speakers)`: at a time as many as windows say on average, and
    those whom most windows say."""
    heard = np.zeros((*active.shape[:2], n_speakers), np.float32)
    for window, local in np.argwhere(of_voices != NOBODY).tolist():
        speaker = of_voices[window, local]
        np.maximum(heard[window, :, speaker], active[window, :, local], out=heard[window, :, speaker])
    n_active = active.sum(axis=2, keepdims=True).astype(np.float32)
    activity = overlap_add(heard, geometry, n_samples, hamming=False)
    count = np.minimum(np.rint(overlap_add(n_active, geometry, n_samples, hamming=False)), most or np.inf)
    rank = np.argsort(np.argsort(-activity, axis=1, kind="stable"), axis=1, kind="stable")
    return np.asarray((rank < count) & (activity > 0))


def _named(is_heard: BoolArray, speakers: FloatArray) -> Diarization:
    """Turns from middle to middle of frames, and speakers by their first turn."""
    found = []
    for speaker in range(is_heard.shape[1]):
        regions = np.flatnonzero(np.diff(is_heard[:, speaker], prepend=False, append=False)).reshape(-1, 2)
        seconds = (FIRST_FRAME_MIDDLE + FRAME_STEP * np.minimum(regions, len(is_heard) - 1)) / SAMPLE_RATE
        found += [(start, end, speaker) for start, end in seconds.tolist() if end > start]
    found.sort()
    order = list(dict.fromkeys(speaker for _, _, speaker in found))
    name = {speaker: f"SPEAKER_{i:02d}" for i, speaker in enumerate(order)}
    vectors = speakers / np.maximum(np.linalg.norm(speakers, axis=1, keepdims=True), 1e-12)
    turns = [Turn(start, end, name[speaker]) for start, end, speaker in found]
    return Diarization(turns, {name[speaker]: [float(x) for x in vectors[speaker]] for speaker in order})
