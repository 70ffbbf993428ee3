"""The sizes of a Whisper network."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WhisperDimensions:
    """The sizes of a Whisper network, under OpenAI's names."""

    n_mels: int  # 80, or 128 from large-v3 on
    n_audio_ctx: int  # encoder frames of a 30 s window
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_vocab: int  # 51864 English, 51865 multilingual, 51866 from large-v3 on
    n_text_ctx: int  # most tokens of a window, prompt included
    n_text_state: int
    n_text_head: int
    n_text_layer: int
