"""When is each word said: text and audio -> times of characters, words and sentences."""

from whisperx.alignment.forced import align
from whisperx.alignment.loading import DEFAULT_ALIGN_MODELS_HF, DEFAULT_ALIGN_MODELS_TORCH, load_align_model
from whisperx.alignment.single import Point, Segment, backtrack, get_trellis, merge_repeats, merge_words
from whisperx.schema import SingleWordSegment
from whisperx.tokenizer import LANGUAGES_WITHOUT_SPACES, PUNKT_LANGUAGES

__all__ = [
    "DEFAULT_ALIGN_MODELS_HF",
    "DEFAULT_ALIGN_MODELS_TORCH",
    "LANGUAGES_WITHOUT_SPACES",
    "PUNKT_LANGUAGES",
    "Point",
    "Segment",
    "SingleWordSegment",
    "align",
    "backtrack",
    "get_trellis",
    "load_align_model",
    "merge_repeats",
    "merge_words",
]
