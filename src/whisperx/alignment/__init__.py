"""When is each word said: text and audio -> times of characters, words and sentences."""

from whisperx.alignment.forced import align
from whisperx.alignment.sentences import PUNKT_LANGUAGES
from whisperx.schema import SingleWordSegment

__all__ = ["PUNKT_LANGUAGES", "SingleWordSegment", "align"]
