"""Ours and other programs, side by side: the same weights, the same recordings, each as its users install it.

    python -m benchmarks.peers AUDIO [AUDIO ...] --model FOLDER [--beam_size 1] [--batch_sizes 16] [--rounds 3]
      [--device cpu] [--without mlx-whisper]

Each program lives in an environment of its own under --work (build/peers), which the first run makes with pip; one
that cannot be installed or does not run is named with its last line, not hidden. FOLDER is a model that `--model`
takes; it is written once in each format that the programs want. AUDIO are joined, and every program gets the samples,
so that no time goes into reading files. Each runs in a process of its own, and they take turns, A B C A B C: `cold` is
from the start of the process to the first transcript (imports and loading included), `seconds` the median of the
rounds after it, `memory` the most that the process held. A program that takes longer than `--patience` is named with
that. Settings are alike: English, temperature 0 without fallback, greedy or so many beams, no text carried from one
window to the next; on an NVIDIA GPU float16, in environments with CUDA, and scaled dot product attention where one can
choose (transformers); else each program's own defaults, its voice detection if it has one. With a `.json` beside each
recording whose "text" is what is said, or `--references` as in benchmarks.batch, the word error rate stands beside the
speed.

`mlx-whisper, our BLAS` has MKL loaded before MLX as `whisperx` does it, which tells the gain of batching apart from the
gain of the BLAS. The last line is JSON.
"""

import argparse
import json
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Timer
from time import perf_counter
from typing import Any, BinaryIO

import jiwer
import numpy as np

from benchmarks.batch import joined, spoken_words, words
from whisperx.audio import SAMPLE_RATE, mel_filters
from whisperx.checkpoints import Checkpoint, load_checkpoint, sinusoids
from whisperx.tokenizer import get_tokenizer

WORKER = Path(__file__).with_name("peer.py")


@dataclass(frozen=True)
class Peer:
    """A program, or a way to use it."""

    name: str
    engine: str  # function of peer.py
    requirements: tuple[str, ...]  # empty: this very environment
    model: str  # format of the model
    settings: dict[str, Any] = field(default_factory=dict)
    has_beams: bool = True

    @property
    def environment(self) -> str:
        return self.requirements[0].partition("[")[0] if self.requirements else ""


def peers(device: str, batch_sizes: list[int]) -> list[Peer]:
    """All of them, those that compute in batches once for each size, ours at 1 too."""
    mlx = ("mlx[cuda13]",) if device == "cuda" else ("mlx[cpu]", "mkl") if sys.platform == "linux" else ("mlx",)
    in_floats = {"compute_type": "float16" if device == "cuda" else "float32"}
    in_int8 = {"compute_type": "int8_float16" if device == "cuda" else "int8"}
    singles = [
        Peer("mlx-whisper", "mlx_whisper", ("mlx-whisper", *mlx), "mlx", has_beams=False),
        Peer("lightning-whisper-mlx", "lightning", ("lightning-whisper-mlx", mlx[0]), "mlx", has_beams=False),
        Peer("openai-whisper", "openai_whisper", ("openai-whisper",), "openai"),
        Peer("faster-whisper", "faster_whisper", ("faster-whisper",), "ctranslate2", in_floats),
    ]
    if "mkl" in mlx:
        singles.append(replace(singles[0], name="mlx-whisper, our BLAS", settings={"preload": True}))
    if device != "cuda":  # its wheels compute on CPUs and with Metal
        singles.append(Peer("pywhispercpp", "whisper_cpp", ("pywhispercpp",), "ggml"))
    batched = [
        Peer("ours, mlx", "ours", (), "folder", {"backend": "mlx"}),
        Peer("ours, ctranslate2", "ours", (), "folder", {"backend": "ctranslate2"}),
        Peer("ours, ctranslate2, int8", "ours", (), "folder", {"backend": "ctranslate2"} | in_int8),
        Peer("transformers", "transformers", ("transformers", "torch"), "folder"),
        Peer("faster-whisper", "faster_whisper", ("faster-whisper",), "ctranslate2", in_floats),
        Peer("faster-whisper, int8", "faster_whisper", ("faster-whisper",), "ctranslate2", in_int8),
    ]
    in_batches = [
        replace(peer, name=f"{peer.name}, batch {size}", settings=peer.settings | {"batch_size": size})
        for peer in batched
        for size in (sorted({1, *batch_sizes}) if peer is batched[0] else batch_sizes)
    ]
    return [replace(peer, settings=peer.settings | {"device": device}) for peer in in_batches + singles]


def is_named(peer: Peer, names: list[str]) -> bool:
    """By its name, or by that without its batch size."""
    return peer.name in names or peer.name.partition(", batch ")[0] in names


# ---- environments and models ----


def interpreter(peer: Peer, work: Path) -> Path:
    """The Python of a peer's environment, which is made unless it is there. Raises CalledProcessError."""
    if not peer.requirements:
        return Path(sys.executable)
    folder = work / peer.environment
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements]
        subprocess.run(install, check=True, stderr=subprocess.PIPE, text=True)
        (folder / "complete").touch()
    return python


def write_model(kind: str, model: Path, work: Path) -> Path:
    """The model in the format `kind`, written unless it is there."""
    if kind == "folder":
        return model
    path = work / f"{model.resolve().name}.{kind}"
    if not path.exists():
        checkpoint = load_checkpoint(model)
        unfinished = path.with_name(path.name + ".part")
        {"mlx": write_mlx, "openai": write_openai, "ggml": write_ggml}[kind](checkpoint, unfinished)
        unfinished.replace(path)
    return path


def write_mlx(checkpoint: Checkpoint, folder: Path) -> None:
    """The layout that mlx-whisper reads: `weights.npz` with the kernel axis in the middle, and `config.json`."""
    folder.mkdir(exist_ok=True)
    np.savez(folder / "weights.npz", **{name: array.astype(np.float16) for name, array in checkpoint.arrays.items()})
    (folder / "config.json").write_text(json.dumps({"model_type": "whisper", **dims_of(checkpoint)}))


def openai_arrays(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """Names and layout of OpenAI's files."""
    dims = checkpoint.dims
    arrays = {
        name.replace("mlp1.", "mlp.0.").replace("mlp2.", "mlp.2."): array.transpose(0, 2, 1)
        if array.ndim == 3
        else array
        for name, array in checkpoint.arrays.items()
    }
    return arrays | {"encoder.positional_embedding": sinusoids(dims.n_audio_ctx, dims.n_audio_state)}


def write_openai(checkpoint: Checkpoint, path: Path) -> None:
    """OpenAI's `.pt` files, as npz: the worker, which has torch, does the rest."""
    arrays = {name: array.astype(np.float16) for name, array in openai_arrays(checkpoint).items()}
    with path.open("wb") as file:
        np.savez(file, **arrays, dims=json.dumps(dims_of(checkpoint)))


def write_ggml(checkpoint: Checkpoint, path: Path) -> None:
    """The file that whisper.cpp reads (its models/convert-pt-to-ggml.py says which bytes): weights in 16 bits."""
    dims = dims_of(checkpoint)
    order = ("n_vocab", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer", "n_text_ctx", "n_text_state")
    sizes = [dims[name] for name in (*order, "n_text_head", "n_text_layer", "n_mels")]
    filters = np.asarray(mel_filters(None, dims["n_mels"]), np.float32)
    tokens = get_tokenizer(dims["n_vocab"])
    with path.open("wb") as file:
        file.write(struct.pack("<12i", 0x67676D6C, *sizes, 1))
        file.write(struct.pack("<2i", *filters.shape) + filters.tobytes())
        texts = [tokens.encoding.decode_single_token_bytes(token) for token in range(tokens.eot)]
        file.write(struct.pack("<i", len(texts)) + b"".join(struct.pack("<i", len(text)) + text for text in texts))
        for name, array in openai_arrays(checkpoint).items():
            write_ggml_tensor(file, name, array)


def write_ggml_tensor(file: BinaryIO, name: str, array: np.ndarray) -> None:
    in_half = array.ndim > 1 and "positional" not in name
    if name.startswith("encoder.conv") and array.ndim == 1:
        array = array[:, None]
    encoded = name.encode()
    file.write(struct.pack("<3i", array.ndim, len(encoded), int(in_half)))
    file.write(struct.pack(f"<{array.ndim}i", *array.shape[::-1]) + encoded)
    file.write(np.ascontiguousarray(array, np.float16 if in_half else np.float32).tobytes())


def dims_of(checkpoint: Checkpoint) -> dict[str, int]:
    return asdict(checkpoint.dims)


# ---- running ----


class Running:
    """A peer at work in its own process: it answers each line with one of JSON."""

    def __init__(self, peer: Peer, python: Path, model: Path, audio: Path, beam_size: int, patience: float) -> None:
        self.peer = peer
        self._patience = patience
        self.seconds: list[float] = []
        settings = json.dumps(peer.settings | {"model": str(model), "audio": str(audio), "beam_size": beam_size})
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        start = perf_counter()
        command = [python, WORKER, peer.engine, settings]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        self.text = self._run()["text"]
        self.cold = perf_counter() - start

    def round(self) -> None:
        answer = self._run()
        self.seconds.append(answer["seconds"])
        self.memory = answer["memory"]

    def stop(self) -> None:
        self._process.communicate("")

    def _run(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it printed last says why
        limit = Timer(self._patience, self._process.kill)
        limit.start()
        try:
            for line in self._process.stdout:
                if line.startswith("{"):
                    answer: dict[str, Any] = json.loads(line)
                    return answer
        finally:
            in_time = limit.is_alive()
            limit.cancel()
        if not in_time:
            raise RuntimeError(f"not done after {self._patience:.0f} s")
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines() or ["it ended without a word"]
        raise RuntimeError(lines[-1])


def start(peer: Peer, model: Path, audio: Path, work: Path, beam_size: int, patience: float) -> Running | str:
    """The peer at work, or why it is not."""
    if beam_size > 1 and not peer.has_beams:
        return "has no beam search"
    try:
        python = interpreter(peer, work)
        kind = peer.model
        path = model if kind == "ctranslate2" else write_model(kind, model, work)
        if kind == "ctranslate2":
            from whisperx.backends.ctranslate2_models import converted

            path = converted(model)
        return Running(peer, python, path, audio, beam_size, patience)
    except subprocess.CalledProcessError as error:
        return f"cannot be installed: {(error.stderr or str(error)).strip().splitlines()[-1]}"
    except (RuntimeError, ImportError) as error:
        return f"does not run: {error}"


def reference(files: list[Path], references: Path | None) -> str | None:
    """What is said, if that file tells, or one beside each recording."""
    if references is not None:
        return spoken_words(files, references)
    beside = [file.with_suffix(".json") for file in files]
    if not all(path.is_file() for path in beside):
        return None
    return words(" ".join(json.loads(path.read_text("utf-8"))["text"] for path in beside))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", nargs="+", type=Path)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--beam_size", type=int, default=1)
    parser.add_argument("--batch_sizes", default="16", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: cuda if nvidia-smi is")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patience", type=float, default=600, help="seconds after which a program is given up")
    parser.add_argument("--work", type=Path, default=Path("build/peers"))
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--without", nargs="+", metavar="NAME", default=[])
    parser.add_argument("--references", type=Path, help="as benchmarks.batch takes it")
    parser.add_argument("--seconds", type=float, help="of the joined recordings, the first so many")
    args = parser.parse_args()

    device = "cuda" if args.device == "auto" and shutil.which("nvidia-smi") else args.device
    args.work.mkdir(parents=True, exist_ok=True)
    samples = joined(args.audio)[: None if args.seconds is None else int(args.seconds * SAMPLE_RATE)]
    audio = args.work / "audio.npy"
    np.save(audio, samples)
    n_seconds = len(samples) / SAMPLE_RATE
    expected = reference(args.audio, args.references) if args.seconds is None else None
    print(
        f"{n_seconds:.0f} s of audio, {args.model.name}, beam size {args.beam_size}, {device}, {platform.platform()}",
        flush=True,
    )

    running = []
    for peer in peers(device, args.batch_sizes):
        if is_named(peer, args.without) or (args.only and not is_named(peer, args.only)):
            continue
        started = start(peer, args.model, audio, args.work, args.beam_size, args.patience)
        if isinstance(started, str):
            print(f"{peer.name:30} {started}", flush=True)
        else:
            running.append(started)
    for _ in range(args.rounds):
        for each in running:
            each.round()
    base = statistics.median(running[0].seconds)
    print(f"{'':30} {'seconds':>8} {'x real time':>11} {'of the first':>12} {'cold':>7} {'MB':>6} {'WER':>7}")
    table = {}
    for each in running:
        each.stop()
        wall = statistics.median(each.seconds)
        error_rate = jiwer.wer(expected, words(each.text)) if expected else None
        shown = f"{error_rate:>7.1%}" if error_rate is not None else ""
        print(
            f"{each.peer.name:30} {wall:>8.2f} {n_seconds / wall:>11.1f} {wall / base:>12.2f} {each.cold:>7.1f} "
            f"{each.memory / 1e6:>6.0f} {shown}"
        )
        table[each.peer.name] = {"seconds": each.seconds, "cold": each.cold, "memory": each.memory, "wer": error_rate}
    print(json.dumps({"audio_seconds": n_seconds, "beam_size": args.beam_size, "peers": table}))


if __name__ == "__main__":
    main()
