"""Write a model folder in MLX's layout, rounded and quantised: `python -m whisperx.convert --hf-path small -q`.

Reads whatever `--model` reads: a name, a repository of the Hub, a folder or a weights file. The folder that it writes
is smaller to keep and to copy; what is decoded with it is what `--compute_type` of the same name decodes.
"""

import argparse
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from whisperx.errors import BackendError, OptionError, WhisperXError
from whisperx.folders import complete_or_absent
from whisperx.hub import resolve

BITS = (4, 8)
GROUP_SIZES = (32, 64, 128)
DTYPES = ("float16", "bfloat16", "float32")


def convert(
    model: str | os.PathLike[str],
    folder: Path,
    *,
    bits: int | None = None,
    group_size: int = 64,
    dtype: str = "float16",
) -> None:
    """Read a model and write it to `folder`, which must be empty or not there yet.

    model : name, repository of the Hub, folder or weights file
    bits : 4 or 8 quantises the linear layers; None: no layer, also where the model is quantised
    group_size : weights that share a scale: 32, 64 or 128
    dtype : of all other weights: "float16", "bfloat16" or "float32"

    The folder appears when it is complete. Raises OptionError for an option out of its range or a folder that is in
    use, and what `whisperx.hub.resolve` and `whisperx.checkpoints.load_checkpoint` raise.
    """
    for name, value, accepted in (
        ("q-bits", bits, (None, *BITS)),
        ("q-group-size", group_size, GROUP_SIZES),
        ("dtype", dtype, DTYPES),
    ):
        if value not in accepted:
            raise OptionError(f"{name} is one of {', '.join(map(str, accepted))}, not {value}.")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OptionError(f"{folder} is there already: give another folder, or delete it first.")
    try:
        from whisperx.models.whisper.saving import save_whisper
    except ImportError as error:
        raise BackendError(f"converting needs MLX: pip install 'whisperx-mlx[cpu]' ({error})") from error
    from whisperx.checkpoints import Quantization, load_checkpoint

    source = resolve(model)
    checkpoint = load_checkpoint(source)
    with complete_or_absent(folder) as unfinished:
        quantization = None if bits is None else Quantization(group_size, bits)
        save_whisper(checkpoint, unfinished, dtype=dtype, quantization=quantization)
        load_checkpoint(unfinished)  # raises where not all was written
        tokenizer = (source if source.is_dir() else source.parent) / "tokenizer.json"
        if tokenizer.is_file():
            shutil.copyfile(tokenizer, unfinished / "tokenizer.json")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m whisperx.convert",
        description="Write a Whisper model as a folder in MLX's layout, quantised if asked to.",
    )
    add = parser.add_argument
    add("--hf-path", required=True, metavar="MODEL", help="name, repository of the Hub, folder or weights file to read")
    add("--mlx-path", default="mlx_model", type=Path, metavar="FOLDER", help="folder to write (default: mlx_model)")
    add("--quantize", "-q", action="store_true", help="round linear layers to few bits, with a scale for each group")
    add("--q-bits", type=int, choices=BITS, help="with -q: bits of a weight (default: 4)")
    add("--q-group-size", type=int, choices=GROUP_SIZES, help="with -q: weights that share a scale (default: 64)")
    add("--dtype", default="float16", choices=DTYPES, help="type of all other weights (default: float16)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0 all well, 1 nothing was written."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if not args.quantize and (args.q_bits or args.q_group_size):
        parser.error("--q-bits and --q-group-size say how to quantise: add -q")
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        convert(
            args.hf_path,
            args.mlx_path,
            bits=(args.q_bits or 4) if args.quantize else None,
            group_size=args.q_group_size or 64,
            dtype=args.dtype,
        )
    except (WhisperXError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in args.mlx_path.iterdir())
    print(f"wrote {args.mlx_path} ({size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
