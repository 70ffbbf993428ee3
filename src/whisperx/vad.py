"""WhisperX's earlier import path for what lives in `vads`."""

from whisperx.vads.pyannote import Binarize, Pyannote, VoiceActivitySegmentation, load_vad_model

merge_chunks = Pyannote.merge_chunks

__all__ = ["Binarize", "VoiceActivitySegmentation", "load_vad_model", "merge_chunks"]
