"""The `whisperx-doctor` command: what this machine has of all that the program needs, and how to mend what is wrong."""

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

OLDEST_FFMPEG = (8, 1, 2)  # before it: CVE-2026-8461 and CVE-2026-40962, which a crafted recording can make use of
_LEAST_FREE = 10e9  # bytes: large-v3 takes 3, an alignment model 1, and downloads need room


@dataclass(frozen=True)
class Finding:
    """What was found of one thing."""

    thing: str
    state: str
    remedy: str | None = None  # None: nothing is wrong
    is_fatal: bool = True  # the program does not work without


def main(argv: list[str] | None = None) -> int:
    """Print the findings and return the exit status: 0 unless something is wrong that has to be mended."""
    argparse.ArgumentParser(prog="whisperx-doctor", description=__doc__).parse_args(argv)
    findings = [finding for check in CHECKS for finding in check()]
    for finding in findings:
        sign = "ok " if finding.remedy is None else "!! " if finding.is_fatal else "-- "
        print(f"{sign} {finding.thing:<12} {finding.state}")
        if finding.remedy is not None:
            print(f"{'':<16} -> {finding.remedy}")
    return int(any(finding.remedy is not None and finding.is_fatal for finding in findings))


def _machine() -> Iterator[Finding]:
    is_new = sys.version_info >= (3, 11)
    yield Finding("platform", platform.platform())
    yield Finding("python", platform.python_version(), None if is_new else "install Python 3.11 or newer")
    yield Finding("whisperx", _version("whisperx-mlx") or "not installed: run from its source")


def _mlx() -> Iterator[Finding]:
    found = _version("mlx")
    try:
        from whisperx.backends.mlx import has_gpu
    except ImportError as error:
        yield Finding(
            "mlx",
            f"cannot be used ({error})",
            "on Linux: pip install 'whisperx-mlx[cpu]', or [cuda13], [cuda12] for an NVIDIA GPU; on a Mac: Apple "
            "silicon and macOS 14 or newer",
            is_fatal=_version("ctranslate2") is None,
        )
        return
    yield Finding("mlx", f"{found}, computes on {'the GPU' if has_gpu() else 'the CPU'}")


def _blas() -> Iterator[Finding]:
    from whisperx.models.blas import advice, blas_in_use

    yield Finding("blas", blas_in_use(), advice(), is_fatal=False)


def _ctranslate2() -> Iterator[Finding]:
    found = _version("ctranslate2")
    if found is not None:
        yield Finding("ctranslate2", found)
    elif sys.platform == "linux":
        yield Finding(
            "ctranslate2", "not installed", "faster on a CPU: pip install 'whisperx-mlx[ctranslate2]'", is_fatal=False
        )


def _ffmpeg() -> Iterator[Finding]:
    import av

    text = str(av.ffmpeg_version_info)
    numbers = tuple(int(part) for part in text.lstrip("nN").split("-")[0].split(".") if part.isdecimal())
    oldest = ".".join(map(str, OLDEST_FFMPEG))
    yield Finding(
        "ffmpeg",
        f"{text}, inside PyAV {av.__version__}",
        None if numbers >= OLDEST_FFMPEG else f"older than {oldest}, which mends holes: pip install --upgrade av",
        is_fatal=False,
    )


def _cache() -> Iterator[Finding]:
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    cache = Path(HF_HUB_CACHE)
    home = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(home).free
    if not os.access(home, os.W_OK):
        yield Finding("cache", f"{cache}: cannot be written", "set HF_HOME to a folder of yours, or pass --model_dir")
    else:
        remedy = None if free >= _LEAST_FREE else "large models need more: set HF_HOME to a larger disk"
        yield Finding("cache", f"{cache}, {free / 1e9:.0f} GB free", remedy, is_fatal=False)
    if HF_HUB_OFFLINE:
        yield Finding("network", "not used: HF_HUB_OFFLINE is set; whisperx-models list shows what is here")


def _token() -> Iterator[Finding]:
    from huggingface_hub import get_token

    if get_token() or os.environ.get("HUGGINGFACE_TOKEN"):
        yield Finding("token", "of the Hub: there")
    else:
        yield Finding("token", "of the Hub: none; only gated models, as pyannote's pipelines, need one")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (_machine, _mlx, _blas, _ctranslate2, _ffmpeg, _cache, _token)

if __name__ == "__main__":
    sys.exit(main())
