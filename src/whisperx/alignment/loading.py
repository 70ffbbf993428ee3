"""Which network aligns which language, and how to get it."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisperx import hub
from whisperx.checkpoints.weights import WEIGHT_FILES
from whisperx.errors import BackendError, ModelNotFoundError
from whisperx.schema import AlignModel

logger = logging.getLogger(__name__)

# Language code -> what WhisperX aligns it with: a model of torchaudio, or a repository of the Hugging Face Hub.
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

_ENGLISH = "|ETAONIHSRDLUMWCFGYPBVK'XJQZ"


@dataclass(frozen=True)
class _Bundle:
    """A model that torchaudio ships: where else its weights are, and what is known of it."""

    repository: str  # the same network on the Hub
    file: str  # the weights as torchaudio downloads them
    labels: str  # those behind the blank, "-"
    normalises: bool = False  # whether torchaudio normalises the audio for it


def _voxpopuli(language: str, labels: str) -> _Bundle:
    return _Bundle(
        f"facebook/wav2vec2-base-10k-voxpopuli-ft-{language}",
        f"wav2vec2_voxpopuli_base_10k_asr_{language}.pt",
        labels,
    )


# fmt: off
TORCHAUDIO_MODELS = {
    "WAV2VEC2_ASR_BASE_100H": _Bundle(
        "facebook/wav2vec2-base-100h", "wav2vec2_fairseq_base_ls960_asr_ll100.pth", _ENGLISH
    ),
    "WAV2VEC2_ASR_BASE_960H": _Bundle(
        "facebook/wav2vec2-base-960h", "wav2vec2_fairseq_base_ls960_asr_ls960.pth", _ENGLISH
    ),
    "WAV2VEC2_ASR_LARGE_960H": _Bundle(
        "facebook/wav2vec2-large-960h", "wav2vec2_fairseq_large_ls960_asr_ls960.pth", _ENGLISH
    ),
    "WAV2VEC2_ASR_LARGE_LV60K_960H": _Bundle(
        "facebook/wav2vec2-large-960h-lv60", "wav2vec2_fairseq_large_lv60k_asr_ls960.pth", _ENGLISH, normalises=True
    ),
    "HUBERT_ASR_LARGE": _Bundle(
        "facebook/hubert-large-ls960-ft", "hubert_fairseq_large_ll60k_asr_ls960.pth", _ENGLISH, normalises=True
    ),
    "HUBERT_ASR_XLARGE": _Bundle(
        "facebook/hubert-xlarge-ls960-ft", "hubert_fairseq_xlarge_ll60k_asr_ls960.pth", _ENGLISH, normalises=True
    ),
    "VOXPOPULI_ASR_BASE_10K_EN": _voxpopuli("en", "|etoiansrhldcumpfgwybvkxjqz"),
    "VOXPOPULI_ASR_BASE_10K_DE": _voxpopuli("de", "|enirstadhulgcmobwfkzpvüäöjßyxq"),
    "VOXPOPULI_ASR_BASE_10K_ES": _voxpopuli("es", "|eaosnrildctupmbqygvhófíájzñéxúkwü"),
    "VOXPOPULI_ASR_BASE_10K_FR": _voxpopuli("fr", "|esnitraouldcpmévqfgbhxàjèyêzôkçœûùîâwïëüæ"),
    "VOXPOPULI_ASR_BASE_10K_IT": _voxpopuli("it", "|eiaontrlscdupmgvhzfbqàèùéòìkyxwjóíï"),
}
# fmt: on

ALIGN_FILES = hub.Files(
    ("config.json", "vocab.json"), ("preprocessor_config.json", "added_tokens.json"), weights=WEIGHT_FILES
)


def load_align_model(
    language_code: str,
    device: object = None,
    model_name: str | None = None,
    model_dir: str | None = None,
    model_cache_only: bool = False,
) -> tuple[AlignModel, dict[str, Any]]:
    """An alignment network and what `align` must know of it, as in WhisperX.

    language_code : as "en"
    device : as `whisperx.load_model` takes it, None for "auto"; a CPU, with a warning, where MLX cannot use that GPU
    model_name : a folder or weights file, a name of torchaudio's such as WAV2VEC2_ASR_LARGE_LV60K_960H, or owner/name
        on the Hub; None: the language's own (DEFAULT_ALIGN_MODELS_TORCH, DEFAULT_ALIGN_MODELS_HF)
    model_dir : where downloads are kept, and where weights that torchaudio has downloaded are looked for; None: the
        caches of the Hub and of torch.hub
    model_cache_only : never download

    Returns the network and {"language", "dictionary": label in small letters -> column, "type": "torchaudio" or
    "huggingface"}.

    Raises ModelNotFoundError when the language has no model or the model is not to be had, CheckpointError when its
    files are no network that can be read, and BackendError where MLX is not installed.
    """
    name = model_name or DEFAULT_ALIGN_MODELS_TORCH.get(language_code) or DEFAULT_ALIGN_MODELS_HF.get(language_code)
    if name is None:
        raise ModelNotFoundError(
            f"No default align-model for language: {language_code}. Choose one with model_name (--align_model), or "
            "time words by the decoder's attention (--align_model attention)."
        )
    bundle = TORCHAUDIO_MODELS.get(name) or _bundle_of_file(Path(name))
    path = _find(name, bundle, model_dir, model_cache_only)
    model, labels = _load(path, "auto" if device is None else str(device), bundle)
    dictionary = {label.lower(): column for label, column in labels.items()}
    kind = "huggingface" if bundle is None else "torchaudio"
    return model, {"language": language_code, "dictionary": dictionary, "type": kind}


def _bundle_of_file(path: Path) -> _Bundle | None:
    return next((bundle for bundle in TORCHAUDIO_MODELS.values() if bundle.file == path.name), None)


def _find(name: str, bundle: _Bundle | None, model_dir: str | None, cache_only: bool) -> Path:
    """The folder or weights file of a model, downloaded where it must be."""
    path = hub.local_path(name)
    if name not in TORCHAUDIO_MODELS and path.exists():
        return path
    downloaded = None if bundle is None else _downloaded_by_torchaudio(bundle, model_dir)
    if downloaded is not None:
        return downloaded
    try:
        if name not in TORCHAUDIO_MODELS and (name.count("/") != 1 or name.startswith((".", "~", "/"))):
            raise ModelNotFoundError(
                f"no such folder or file here; expected one, owner/name, or one of {', '.join(TORCHAUDIO_MODELS)}"
            )
        repository = name if bundle is None else bundle.repository
        return hub.fetch(repository, ALIGN_FILES, called=name, download_root=model_dir, local_files_only=cache_only)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f'The chosen align_model "{name}" could not be found in huggingface (https://huggingface.co/models) or '
            f"torchaudio (https://docs.pytorch.org/audio/stable/pipelines.html): {error}"
        ) from error


def _downloaded_by_torchaudio(bundle: _Bundle, model_dir: str | None) -> Path | None:
    """The weights where WhisperX leaves them: in `model_dir`, else in the cache of torch.hub."""
    torch_home = os.environ.get("TORCH_HOME") or os.environ.get("XDG_CACHE_HOME", "~/.cache") + "/torch"
    folder = hub.local_path(model_dir or f"{torch_home}/hub/checkpoints")
    return folder / bundle.file if (folder / bundle.file).is_file() else None


def _load(path: Path, device: str, bundle: _Bundle | None) -> tuple[AlignModel, dict[str, int]]:
    try:
        from whisperx.models.wav2vec2 import load_wav2vec2
    except ImportError as error:
        raise BackendError(
            "Alignment models need MLX. On Linux: pip install 'whisperx-mlx[cpu]', or [cuda13], [cuda12] "
            f"for an NVIDIA GPU. ({error})"
        ) from error
    labels = None if bundle is None else bundle.labels
    normalise = bundle is not None and bundle.normalises
    try:
        return load_wav2vec2(path, device=device, torchaudio_labels=labels, normalise_compat=normalise)
    except BackendError as error:
        logger.warning("alignment runs on the CPU: %s", error)
        return load_wav2vec2(path, device="cpu", torchaudio_labels=labels, normalise_compat=normalise)
