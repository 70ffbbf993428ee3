"""Which network aligns which language, and how to get it."""

from pathlib import Path
from typing import Any

from whisperx.errors import BackendError, ModelNotFoundError
from whisperx.hub import WEIGHT_FILES, Files, fetch
from whisperx.schema import AlignModel

# The networks that WhisperX chooses: language -> a pipeline of torchaudio, or a repository of the Hugging Face Hub.
DEFAULT_ALIGN_MODELS_TORCH = {
    "en": "WAV2VEC2_ASR_BASE_960H",
    "fr": "VOXPOPULI_ASR_BASE_10K_FR",
    "de": "VOXPOPULI_ASR_BASE_10K_DE",
    "es": "VOXPOPULI_ASR_BASE_10K_ES",
    "it": "VOXPOPULI_ASR_BASE_10K_IT",
}
DEFAULT_ALIGN_MODELS_HF = {
    "ja": "jonatasgrosman/wav2vec2-large-xlsr-53-japanese",
    "zh": "jonatasgrosman/wav2vec2-large-xlsr-53-chinese-zh-cn",
    "nl": "jonatasgrosman/wav2vec2-large-xlsr-53-dutch",
    "uk": "Yehor/wav2vec2-xls-r-300m-uk-with-small-lm",
    "pt": "jonatasgrosman/wav2vec2-large-xlsr-53-portuguese",
    "ar": "jonatasgrosman/wav2vec2-large-xlsr-53-arabic",
    "cs": "comodoro/wav2vec2-xls-r-300m-cs-250",
    "ru": "jonatasgrosman/wav2vec2-large-xlsr-53-russian",
    "pl": "jonatasgrosman/wav2vec2-large-xlsr-53-polish",
    "hu": "jonatasgrosman/wav2vec2-large-xlsr-53-hungarian",
    "fi": "jonatasgrosman/wav2vec2-large-xlsr-53-finnish",
    "fa": "jonatasgrosman/wav2vec2-large-xlsr-53-persian",
    "el": "jonatasgrosman/wav2vec2-large-xlsr-53-greek",
    "tr": "mpoyraz/wav2vec2-xls-r-300m-cv7-turkish",
    "da": "saattrupdan/wav2vec2-xls-r-300m-ftspeech",
    "he": "imvladikon/wav2vec2-xls-r-300m-hebrew",
    "vi": "nguyenvulebinh/wav2vec2-base-vi-vlsp2020",
    "ko": "kresnik/wav2vec2-large-xlsr-korean",
    "ur": "kingabzpro/wav2vec2-large-xls-r-300m-Urdu",
    "te": "anuragshas/wav2vec2-large-xlsr-53-telugu",
    "hi": "theainerd/Wav2Vec2-large-xlsr-hindi",
    "ca": "softcatala/wav2vec2-large-xlsr-catala",
    "ml": "gvs/wav2vec2-large-xlsr-malayalam",
    "no": "NbAiLab/nb-wav2vec2-1b-bokmaal-v2",
    "nn": "NbAiLab/nb-wav2vec2-1b-nynorsk",
    "sk": "comodoro/wav2vec2-xls-r-300m-sk-cv8",
    "sl": "anton-l/wav2vec2-large-xlsr-53-slovenian",
    "hr": "classla/wav2vec2-xls-r-parlaspeech-hr",
    "ro": "gigant/romanian-wav2vec2",
    "eu": "stefan-it/wav2vec2-large-xlsr-53-basque",
    "gl": "ifrz/wav2vec2-large-xlsr-galician",
    "ka": "xsway/wav2vec2-large-xlsr-georgian",
    "lv": "jimregan/wav2vec2-large-xlsr-latvian-cv",
    "tl": "Khalsuu/filipino-wav2vec2-l-xls-r-300m-official",
    "sv": "KBLab/wav2vec2-large-voxrex-swedish",
    "id": "cahya/wav2vec2-large-xlsr-indonesian",
}

# torchaudio's names -> repositories with the same weights. Its pipelines leave special tokens out of the labels.
TORCHAUDIO_MODELS = {
    "WAV2VEC2_ASR_BASE_100H": "facebook/wav2vec2-base-100h",
    "WAV2VEC2_ASR_BASE_960H": "facebook/wav2vec2-base-960h",
    "WAV2VEC2_ASR_LARGE_960H": "facebook/wav2vec2-large-960h",
    "WAV2VEC2_ASR_LARGE_LV60K_960H": "facebook/wav2vec2-large-960h-lv60",
    "HUBERT_ASR_LARGE": "facebook/hubert-large-ls960-ft",
    "HUBERT_ASR_XLARGE": "facebook/hubert-xlarge-ls960-ft",
    **{
        f"VOXPOPULI_ASR_BASE_10K_{code.upper()}": f"facebook/wav2vec2-base-10k-voxpopuli-ft-{code}"
        for code in ("en", "es", "de", "fr", "it")
    },
}

ALIGN_FILES = Files(("config.json", "vocab.json"), ("preprocessor_config.json", "added_tokens.json"), WEIGHT_FILES)


def load_align_model(
    language_code: str,
    device: object = None,
    model_name: str | None = None,
    model_dir: str | None = None,
    model_cache_only: bool = False,
) -> tuple[AlignModel, dict[str, Any]]:
    """The network that aligns a language, and what `align` must know of it: `language`, `dictionary`, `type`.

    device : accepted as in WhisperX; the network computes where MLX does, on the GPU if there is one
    model_name : a folder, a repository of the Hub, or one of torchaudio's names; None: WhisperX's choice
    model_dir : where downloads are kept; None: the Hub's own cache
    model_cache_only : never download

    `dictionary` has the labels in lower case -> their column; `type` is "torchaudio" or "huggingface", by the labels.

    Raises ModelNotFoundError (a ValueError) for a language without a network and for one that cannot be had,
    CheckpointError for one that cannot be used, BackendError without MLX.
    """
    name = model_name or DEFAULT_ALIGN_MODELS_TORCH.get(language_code) or DEFAULT_ALIGN_MODELS_HF.get(language_code)
    if name is None:
        raise ModelNotFoundError(
            f"No default align-model for language: {language_code}. Choose one with model_name (--align_model), or "
            "time words by the decoder's attention (--align_model attention)."
        )
    folder = _folder(name, model_dir, model_cache_only)
    try:
        from whisperx.models.wav2vec2 import load_wav2vec2
    except ImportError as error:
        raise BackendError(f"Alignment needs MLX: pip install 'whisperx-mlx[cpu]' on Linux. ({error})") from error
    is_torchaudio = name in TORCHAUDIO_MODELS
    network, labels = load_wav2vec2(folder, plain_labels=is_torchaudio)
    return network, {
        "language": language_code,
        "dictionary": {label.lower(): column for label, column in labels.items()},
        "type": "torchaudio" if is_torchaudio else "huggingface",
    }


def _folder(name: str, model_dir: str | None, cache_only: bool) -> Path:
    path = Path(name).expanduser()
    if name not in TORCHAUDIO_MODELS and path.exists():
        return path
    try:
        if name not in TORCHAUDIO_MODELS and name.count("/") != 1:
            raise ModelNotFoundError(f"no such folder, repository or pipeline: {name}")
        repository = TORCHAUDIO_MODELS.get(name, name)
        return fetch(repository, ALIGN_FILES, called=name, download_root=model_dir, local_files_only=cache_only)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f'The chosen align_model "{name}" could not be found in huggingface (https://huggingface.co/models) or '
            f"torchaudio (https://docs.pytorch.org/audio/stable/pipelines.html): {error}"
        ) from error
