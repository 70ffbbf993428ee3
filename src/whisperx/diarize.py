"""Speakers, as WhisperX's `whisperx.diarize` has them: DiarizationPipeline and assign_word_speakers.

Both deal in pandas DataFrames, as there, and pandas comes with the extra `diarize`. What they do, without pandas, is in
`speaker_turns` (recording -> turns) and `word_speakers` (turns -> words).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from os import PathLike
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from whisperx.audio import as_samples
from whisperx.community import load_community_pipeline
from whisperx.errors import WhisperXError
from whisperx.schema import Audio, ProgressCallback, Turn
from whisperx.speaker_turns import Diarization, Diarizer, diarize
from whisperx.word_speakers import IntervalTree, assign_speakers

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Diarization",
    "DiarizationPipeline",
    "Diarizer",
    "IntervalTree",
    "Segment",
    "assign_speakers",
    "assign_word_speakers",
    "diarize",
    "load_diarizer",
]


def load_diarizer(
    model_name: str | PathLike[str] | None = None,
    *,
    token: str | bool | None = None,
    cache_dir: str | PathLike[str] | None = None,
    local_files_only: bool = False,
    device: str = "auto",
) -> Diarizer:
    """The pipeline of that name: None for the one that comes with this package, `diarize`; else one of pyannote's.

    Raises ModelNotFoundError and CheckpointError as `community.load_community_pipeline`.
    """
    if model_name is None:
        return diarize
    return load_community_pipeline(
        model_name, token=token, cache_dir=cache_dir, local_files_only=local_files_only, device=device
    )


@dataclass
class Segment:
    """A time and, perhaps, who speaks."""

    start: float
    end: float
    speaker: str | None = None


class DiarizationPipeline:
    """Who speaks when, as a DataFrame: `DiarizationPipeline()("talk.wav")`.

    model_name : None for the pipeline that comes with this package and needs no network; or a repository of the Hub
        with a pipeline of pyannote, such as "pyannote/speaker-diarization-community-1", or a folder with its files
    token : for gated repositories; default HF_TOKEN, HUGGINGFACE_TOKEN or the login of `hf auth login`
    device : where pyannote's embeddings are computed, as `whisperx.load_model` takes it; the other networks run on the
        CPU
    cache_dir : where downloads are kept; the Hub's own cache when None
    use_auth_token : older name of `token`

    Raises ModelNotFoundError for a model that cannot be had: what to accept or set is in its text.
    """

    def __init__(
        self,
        model_name: str | PathLike[str] | None = None,
        token: str | bool | None = None,
        device: object = "auto",
        cache_dir: str | PathLike[str] | None = None,
        *,
        use_auth_token: str | bool | None = None,
    ) -> None:
        self.model = load_diarizer(model_name, token=token or use_auth_token, cache_dir=cache_dir, device=str(device))

    def __call__(
        self,
        audio: str | PathLike[str] | Audio,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        return_embeddings: bool = False,
        progress_callback: ProgressCallback = None,
    ) -> Any:
        """A DataFrame with the columns segment, label, speaker, start, end, a row for each turn.

        audio : a file, or samples: float32 `(n_samples,)` at 16 kHz
        num_speakers : exactly so many; beside it the next two have no effect
        min_speakers, max_speakers : no fewer, no more
        return_embeddings : return a tuple of the DataFrame and `{speaker: vector}`, which is None if nobody speaks
        progress_callback : called with 0 to 100, never less than before

        Raises OptionError for numbers of speakers that make no sense, AudioError for a file that cannot be read.
        """
        if num_speakers is not None and (min_speakers is not None or max_speakers is not None):
            # Programs have called it with (audio, min_speakers, max_speakers), and got one speaker.
            warnings.warn(
                f"num_speakers={num_speakers} is exact, so min_speakers and max_speakers have no effect. Behind audio "
                "come num_speakers, min_speakers, max_speakers, in this order: pass them by name.",
                stacklevel=2,
            )
            min_speakers = max_speakers = None
        found = self.model(
            as_samples(audio),
            num_speakers=num_speakers,
            min_speakers=min_speakers,
            max_speakers=max_speakers,
            progress_callback=progress_callback,
        )
        frame = to_dataframe(found.turns)
        return (frame, found.embeddings or None) if return_embeddings else frame


def assign_word_speakers(
    diarize_df: "pd.DataFrame | Sequence[Turn] | None",
    transcript_result: dict[str, Any],
    speaker_embeddings: dict[str, list[float]] | None = None,
    fill_nearest: bool = False,
    *,
    compat: bool = False,
) -> dict[str, Any]:
    """Give the segments and words of a transcript a "speaker", in place; returns the transcript.

    diarize_df : a DataFrame with at least start, end and speaker, or turns
    transcript_result : what `align` or a pipeline's `transcribe` returns
    speaker_embeddings : kept in the transcript under this name
    fill_nearest : give a speaker to what is said while nobody speaks, too: the nearest
    compat : only the speaker with the largest overlap, as WhisperX. Otherwise a lone word within another's sentence is
        taken for a slip, and a segment is split where the speaker changes.

    Without turns or without segments the transcript comes back as it was.
    """
    turns = _turns_of(diarize_df)
    if not turns or not transcript_result.get("segments"):
        return transcript_result
    assign_speakers(turns, transcript_result, fill_nearest=fill_nearest, compat=compat)
    if speaker_embeddings is not None:
        transcript_result["speaker_embeddings"] = speaker_embeddings
    return transcript_result


def to_dataframe(turns: Sequence[Turn]) -> "pd.DataFrame":
    """Turns as WhisperX returns them. Raises WhisperXError without pandas."""
    try:
        import pandas as pd
    except ImportError as error:
        raise WhisperXError(
            "DiarizationPipeline returns a pandas DataFrame, and pandas is not installed: "
            "pip install 'whisperx-mlx[diarize]', or call whisperx.diarize.diarize, which does without"
        ) from error
    return pd.DataFrame(
        {
            "segment": [Segment(turn.start, turn.end) for turn in turns],
            "label": [_letters(i) for i in range(len(turns))],
            "speaker": [turn.speaker for turn in turns],
            "start": [turn.start for turn in turns],
            "end": [turn.end for turn in turns],
        }
    )


def _turns_of(diarize_df: "pd.DataFrame | Sequence[Turn] | None") -> list[Turn]:
    if diarize_df is None:
        return []
    if isinstance(diarize_df, Sequence):
        return list(diarize_df)
    columns = (diarize_df[name].tolist() for name in ("start", "end", "speaker"))
    return [Turn(float(start), float(end), speaker) for start, end, speaker in zip(*columns, strict=True)]


def _letters(number: int) -> str:
    """A, B, ..., Z, AA, AB, ...: how pyannote calls the turns of a recording."""
    length = 1
    while number >= len(ascii_uppercase) ** length:
        number -= len(ascii_uppercase) ** length
        length += 1
    return "".join(list(product(ascii_uppercase, repeat=length))[number])
