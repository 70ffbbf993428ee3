"""align: when is each word of a known text said, heard by a network that knows characters."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from whisperx.alignment.labels import Alphabet, Spelling, spell, spell_as_whisperx
from whisperx.alignment.numbers import spoken_parts
from whisperx.alignment.trellis import Path, Tokens, best_paths
from whisperx.alignment.words import CharTimes, InterpolateMethod, aligned_as_whisperx, aligned_sentences
from whisperx.audio import SAMPLE_RATE, as_samples
from whisperx.errors import OptionError
from whisperx.schema import (
    AlignedTranscriptionResult,
    AlignModel,
    Audio,
    Emission,
    ProgressCallback,
    SingleAlignedSegment,
    SingleSegment,
)

logger = logging.getLogger(__name__)

_SHORTEST = 400  # samples that a network hears at least
_LONGEST = 40 * SAMPLE_RATE  # samples heard as one
_PIECE = 30 * SAMPLE_RATE  # into which longer ones are cut
_CONTEXT = 2 * SAMPLE_RATE  # heard before and after a piece, and thrown away
_FADE = 0.08  # seconds that a character may sound on after its last voiced frame


@dataclass(frozen=True, slots=True)
class _Job:
    """A segment to align."""

    segment: SingleSegment
    start: float  # within the recording
    end: float
    spelling: Spelling
    columns: Any  # int64, of the emission that the spelling needs, the blank first
    first_sample: int
    last_sample: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a segment's audio that goes through the network."""

    job: int
    first_sample: int
    last_sample: int
    skipped: float  # seconds at its beginning that are context
    kept: float | None  # seconds that follow; None: all


def align(
    transcript: Iterable[SingleSegment],
    model: AlignModel,
    align_model_metadata: Mapping[str, Any],
    audio: object,
    device: object = None,
    interpolate_method: InterpolateMethod = "nearest",
    return_char_alignments: bool = False,
    print_progress: bool = False,
    combined_progress: bool = False,
    progress_callback: ProgressCallback = None,
    *,
    batch_size: int = 8,
    compat: bool = False,
) -> AlignedTranscriptionResult:
    """The transcript as sentences, with the time of each word.

    transcript : segments with `text`, `start` and `end`, of any length, also without end (inf); it is left as it is
    model, align_model_metadata : what `load_align_model` returns
    audio : path, array (n_samples,) at 16 kHz, or torch tensor
    device : accepted as in WhisperX; the model is where it was loaded
    interpolate_method : how a word without a time of its own gets one, from its neighbours: "nearest" or "linear";
        "ignore" leaves it without. A word timed so has no `score`
    return_char_alignments : each sentence also has `chars`; those that nobody says, as punctuation, have no time
    print_progress, combined_progress : lines "Progress: 50.00%...", from 50 % on if what was before went to there
    progress_callback : called with 0..100, the share of the audio that has been heard; 100 when all is done
    batch_size : stretches of audio heard at a time; changes speed and memory, never the result
    compat : as WhisperX 3.8.3 and later do it, mistakes included (docs/alignment.md), but for dropping text

    No text is dropped: what cannot be aligned is in the result with estimated times, and the log says so.
    Raises OptionError for an option out of its range, AudioError for audio that cannot be read.
    """
    if interpolate_method not in get_args(InterpolateMethod):
        raise OptionError(f"interpolate_method is nearest, linear or ignore, not {interpolate_method!r}.")
    if batch_size < 1:
        raise OptionError(f"batch_size is 1 or more, not {batch_size}.")
    samples = as_samples(audio)
    language = align_model_metadata["language"]
    alphabet = Alphabet.of(align_model_metadata["dictionary"], compat=compat)
    progress = _Progress(print_progress, combined_progress, progress_callback)

    jobs = [_job(segment, len(samples), language, alphabet, compat=compat) for segment in transcript]
    emissions = _emissions(jobs, model, alphabet, samples, batch_size, progress, compat=compat)
    audible = list(emissions)
    paths = best_paths(
        [emissions[i] for i in audible], [_own_tokens(jobs[i]) for i in audible], blank=0, to_last_frame=not compat
    )
    found = dict(zip(audible, paths, strict=True))

    segments: list[SingleAlignedSegment] = []
    for i, job in enumerate(jobs):
        path = found.get(i)
        _warn(job, i in found, path)
        if compat:
            times = _times_as_whisperx(job, path, len(emissions[i])) if path else None
            aligned = _as_whisperx(job, times, language, interpolate_method, return_char_alignments)
        else:
            heard = _times(job, path, model.frame_seconds) if path else CharTimes.unknown(len(job.segment["text"]))
            window = (job.start, job.end)
            aligned = aligned_sentences(
                job.segment["text"], heard, window, language, interpolate_method, return_chars=return_char_alignments
            )
        segments += [_with_what_belongs_to_all(sentence, job.segment) for sentence in aligned]
    progress.tell(1.0)
    return {"segments": segments, "word_segments": [word for segment in segments for word in segment["words"]]}


def _job(segment: SingleSegment, n_samples: int, language: str, alphabet: Alphabet, *, compat: bool) -> _Job:
    text = segment["text"]
    if compat:
        spelling = spell_as_whisperx(text, language, alphabet)
    else:
        spelling = spell(text, language, alphabet, spoken_parts(text, language))
    used = np.unique(np.concatenate([spelling.tokens.columns, spelling.tokens.stays]))
    columns = np.concatenate([[alphabet.blank], used[used != alphabet.blank]])
    duration = n_samples / SAMPLE_RATE
    start = max(float(segment["start"]), 0.0)
    end = max(float(segment["end"]), start)
    if end == inf or (not compat and start < duration):
        end = max(min(end, duration), start)
    return _Job(segment, start, end, spelling, columns, int(start * SAMPLE_RATE), int(end * SAMPLE_RATE))


def _own_tokens(job: _Job) -> Tokens:
    """The tokens of a job as columns of what is kept of its emission."""
    place = {int(column): i for i, column in enumerate(job.columns)}
    tokens = job.spelling.tokens
    return Tokens(
        np.array([place[column] for column in tokens.columns.tolist()]),
        np.array([place[column] for column in tokens.stays.tolist()]),
    )


def _emissions(
    jobs: Sequence[_Job],
    model: AlignModel,
    alphabet: Alphabet,
    audio: Audio,
    batch_size: int,
    progress: "_Progress",
    *,
    compat: bool,
) -> dict[int, Emission]:
    """What the network hears of each segment that can be aligned, as far as its spelling needs it."""
    pieces = [
        piece
        for i, job in enumerate(jobs)
        if len(job.spelling) and job.first_sample < len(audio)
        for piece in _pieces(i, job, min(job.last_sample, len(audio)))
    ]
    longest_first = sorted(pieces, key=lambda piece: piece.first_sample - piece.last_sample)
    total = sum(piece.last_sample - piece.first_sample for piece in pieces)
    kept: dict[_Piece, Emission] = {}
    done = 0
    for begin in range(0, len(longest_first), batch_size):
        batch = longest_first[begin : begin + batch_size]
        heard = model.emissions([_samples(audio, piece) for piece in batch], batch_size, compat=compat)
        for piece, emission in zip(batch, heard, strict=True):
            first = round(piece.skipped / model.frame_seconds)
            last = None if piece.kept is None else first + round(piece.kept / model.frame_seconds)
            kept[piece] = alphabet.extend(emission[first:last], compat=compat)[:, jobs[piece.job].columns]
            done += piece.last_sample - piece.first_sample
        if begin + batch_size < len(longest_first):
            progress.tell(done / total)
    parts: dict[int, list[Emission]] = {}
    for piece in pieces:
        parts.setdefault(piece.job, []).append(kept[piece])
    return {i: np.concatenate(emissions) for i, emissions in parts.items()}


def _pieces(index: int, job: _Job, last_sample: int) -> list[_Piece]:
    n_samples = last_sample - job.first_sample
    if n_samples <= _LONGEST:
        return [_Piece(index, job.first_sample, last_sample, 0.0, None)]
    pieces = []
    n_pieces = ceil(n_samples / _PIECE)
    for i in range(n_pieces):
        core = job.first_sample + i * _PIECE
        first = max(core - _CONTEXT, job.first_sample)
        is_last = i == n_pieces - 1
        last = last_sample if is_last else min(core + _PIECE + _CONTEXT, last_sample)
        pieces.append(
            _Piece(index, first, last, (core - first) / SAMPLE_RATE, None if is_last else _PIECE / SAMPLE_RATE)
        )
    return pieces


def _samples(audio: Audio, piece: _Piece) -> Audio:
    samples = audio[piece.first_sample : piece.last_sample]
    return np.pad(samples, (0, max(0, _SHORTEST - len(samples))))


def _times(job: _Job, path: Path, frame_seconds: float) -> CharTimes:
    """A character sounds from its first frame to its last voiced one, and a little on unless the next one begins."""
    starts, stops = path.starts(), path.voiced_stops()
    score = path.scores(stops)
    fade = round(_FADE / frame_seconds)
    ends = np.minimum(stops + fade, path.stops())
    times = CharTimes.unknown(len(job.segment["text"]))
    seconds_start = np.minimum(job.start + starts * frame_seconds, job.end).round(3)
    seconds_end = np.minimum(job.start + ends * frame_seconds, job.end).round(3)
    n_tokens = np.bincount(job.spelling.positions, minlength=len(times.start))
    position, first = np.unique(job.spelling.positions, return_index=True)
    last = np.append(first[1:], len(job.spelling.positions)) - 1
    times.start[position] = seconds_start[first]
    times.end[position] = seconds_end[last]
    times.score[position] = (np.add.reduceat(score, first) / n_tokens[position]).round(3)
    return times


def _times_as_whisperx(job: _Job, path: Path, n_frames: int) -> CharTimes:
    """A character lasts until the next one begins, and frames are stretched over the segment."""
    ratio = (job.end - job.start) / n_frames
    times = CharTimes.unknown(len(job.segment["text"]))
    starts, stops = path.starts(), path.stops()
    scores, n_timed = path.scores(stops), len(job.spelling)
    times.start[job.spelling.positions] = _rounded(job.start + starts[:n_timed] * ratio)
    times.end[job.spelling.positions] = _rounded(job.start + stops[:n_timed] * ratio)
    times.score[job.spelling.positions] = _rounded(scores[:n_timed])
    return times


def _rounded(values: npt.NDArray[np.floating[Any]]) -> list[float]:
    """To 3 decimals as Python does it, which asks for the nearest; NumPy multiplies by 1000 first."""
    return [round(value, 3) for value in values.tolist()]


def _as_whisperx(
    job: _Job, times: CharTimes | None, language: str, method: InterpolateMethod, return_chars: bool
) -> list[SingleAlignedSegment]:
    if times is not None:
        return aligned_as_whisperx(job.segment["text"], times, language, method, return_chars=return_chars)
    raw: SingleAlignedSegment = {
        "start": job.segment["start"],
        "end": job.segment["end"],
        "text": job.segment["text"],
        "words": [],
        "chars": [] if return_chars else None,
    }
    return [raw]


def _with_what_belongs_to_all(sentence: SingleAlignedSegment, segment: SingleSegment) -> SingleAlignedSegment:
    if "avg_logprob" in segment:
        sentence["avg_logprob"] = segment["avg_logprob"]
    if "speaker" in segment:  # a transcript that has been through diarization
        sentence["speaker"] = segment["speaker"]
    return sentence


def _warn(job: _Job, is_audible: bool, path: Path | None) -> None:
    text = job.segment["text"]
    if not len(job.spelling):
        if text.strip():
            logger.warning(
                'Failed to align segment ("%s"): no characters in this segment found in model dictionary, '
                "resorting to original",
                text,
            )
    elif not is_audible:
        logger.warning('Failed to align segment ("%s"): original start time longer than audio duration, skipping', text)
    elif path is None:
        logger.warning('Failed to align segment ("%s"): backtrack failed, resorting to original', text)


class _Progress:
    """Tells people and programs how far it is."""

    def __init__(self, should_print: bool, is_second_half: bool, callback: ProgressCallback) -> None:
        self._should_print = should_print
        self._is_second_half = is_second_half
        self._callback = callback

    def tell(self, share: float) -> None:
        if self._should_print:
            print(f"Progress: {50 + share * 50 if self._is_second_half else share * 100:.2f}%...")
        if self._callback is not None:
            self._callback(100 * share)
