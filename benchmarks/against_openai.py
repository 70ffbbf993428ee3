"""Word error rates beside openai-whisper's, on the same weights and the same chunks, greedy and with beams.

    .venv-oracle/bin/python -m benchmarks.against_openai AUDIO [AUDIO ...] --model FOLDER --references FILE

AUDIO, FOLDER and FILE are as for benchmarks.batch. Both decode the chunks that our voice detection and packing make,
one try at temperature 0 without timestamps, so that what differs is the decoder alone. The last line is JSON.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import jiwer
import numpy as np
import torch
import whisper

from benchmarks.batch import joined, recordings, words
from tests.oracle.references import openai_whisper
from whisperx.audio import log_mel_spectrogram, pad_or_trim
from whisperx.backends.mlx import MlxBackend
from whisperx.checkpoints import load_checkpoint
from whisperx.chunks import pack
from whisperx.schema import Audio, DecodingOptions, Meter
from whisperx.vads import load_vad


def texts_of_ours(backend: MlxBackend, chunks: list[Audio], beam_size: int) -> list[str]:
    options = DecodingOptions(language="en", beam_size=beam_size, temperatures=(0.0,), no_speech_threshold=None)
    results = backend.decode(chunks, options, batch_size=16, on_result=lambda *_: None, meter=Meter())
    return [result.text for result in results]


def texts_of_theirs(model: whisper.Whisper, chunks: list[Audio], beam_size: int, max_new_tokens: int) -> list[str]:
    mels = torch.from_numpy(np.stack([log_mel_spectrogram(pad_or_trim(chunk), model.dims.n_mels) for chunk in chunks]))
    options = whisper.DecodingOptions(
        language="en",
        beam_size=beam_size if beam_size > 1 else None,
        without_timestamps=True,
        sample_len=max_new_tokens,
        fp16=False,
    )
    return [whisper.decode(model, mel, options).text for mel in mels]  # its beams want one recording at a time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", nargs="+", type=Path)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--references", required=True, type=Path)
    parser.add_argument("--beam_sizes", default="1,5", type=lambda text: [int(n) for n in text.split(",")])
    args = parser.parse_args()

    files = recordings(args.audio)
    audio = joined(files)
    chunks = [chunk.samples for chunk in pack(load_vad("silero")(audio), audio)]
    rows = [json.loads(line) for line in args.references.read_text("utf-8").splitlines()]
    texts = {Path(row["file"]).stem: row["text"] for row in rows}
    expected = words(" ".join(texts[file.stem] for file in files))

    checkpoint = load_checkpoint(args.model)
    backend = MlxBackend(args.model, device="cpu")
    arrays = {name: array.astype(np.float32) for name, array in checkpoint.arrays.items()}
    reference = openai_whisper(checkpoint.dims, arrays)
    versions = {package: version(package) for package in ("whisperx-mlx", "mlx", "openai-whisper", "torch")}
    print(f"{len(chunks)} chunks, {len(audio) / 16000:.0f} s, {versions}")
    print(f"{'beams':>5} {'ours':>8} {'openai-whisper':>15} {'same text':>10}")
    table = []
    for beam_size in args.beam_sizes:
        ours = texts_of_ours(backend, chunks, beam_size)
        theirs = texts_of_theirs(reference, chunks, beam_size, checkpoint.dims.n_text_ctx - 2)
        row = {
            "beam_size": beam_size,
            "ours": round(jiwer.wer(expected, words(" ".join(ours))), 5),
            "openai_whisper": round(jiwer.wer(expected, words(" ".join(theirs))), 5),
            "same": sum(a.strip() == b.strip() for a, b in zip(ours, theirs, strict=True)),
        }
        table.append(row)
        same = f"{row['same']}/{len(chunks)}"
        print(f"{beam_size:>5} {row['ours']:>8.2%} {row['openai_whisper']:>15.2%} {same:>10}")
    print(json.dumps({"chunks": len(chunks), "versions": versions, "runs": table}))


if __name__ == "__main__":
    main()
