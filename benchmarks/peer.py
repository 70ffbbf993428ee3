"""One program of `benchmarks.peers`, in its own environment: `python peer.py ENGINE SETTINGS`.

Loads the model, then for each line on stdin transcribes the samples and prints a line of JSON: seconds, the most memory
that the process has held in bytes, text. Needs nothing of this project unless the engine is ours.
"""

import json
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np

Transcribe = Callable[[np.ndarray], str]


def ours(settings: dict) -> Transcribe:
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
    from whisperx.asr import load_model

    pipeline = load_model(
        settings["model"],
        device=settings["device"],
        compute_type=settings.get("compute_type", "default"),
        asr_options={"beam_size": settings["beam_size"], "temperatures": 0.0},
        language="en",
        backend=settings["backend"],
        threads=0,
    )

    def transcribe(samples: np.ndarray) -> str:
        result = pipeline.transcribe(samples, batch_size=settings["batch_size"])
        return " ".join(segment["text"] for segment in result["segments"])

    return transcribe


def torch_device(settings: dict) -> str:
    """Of the programs that know nothing of Metal, or not all of it."""
    return "cuda" if settings["device"] == "cuda" else "cpu"


def mlx_whisper(settings: dict) -> Transcribe:
    if settings.get("preload"):
        import ctypes
        from importlib.metadata import distribution

        library = next(file for file in distribution("mkl").files if file.name.startswith("libmkl_rt.so"))
        ctypes.CDLL(str(Path(library.locate()).resolve()), mode=ctypes.RTLD_GLOBAL)
    import mlx.core as mx
    import mlx_whisper

    def transcribe(samples: np.ndarray) -> str:
        return mlx_whisper.transcribe(
            samples,
            path_or_hf_repo=settings["model"],
            language="en",
            temperature=0.0,
            condition_on_previous_text=False,
            fp16=mx.default_device() != mx.cpu,
        )["text"]

    return transcribe


def lightning(settings: dict) -> Transcribe:
    from lightning_whisper_mlx.transcribe import transcribe_audio

    def transcribe(samples: np.ndarray) -> str:
        return transcribe_audio(samples, path_or_hf_repo=settings["model"], language="en", batch_size=12)["text"]

    return transcribe


def openai_whisper(settings: dict) -> Transcribe:
    import torch
    import whisper

    with np.load(settings["model"]) as arrays, tempfile.NamedTemporaryFile(suffix=".pt") as file:
        state = {name: torch.from_numpy(arrays[name]) for name in arrays if name != "dims"}
        torch.save({"dims": json.loads(str(arrays["dims"])), "model_state_dict": state}, file.name)
        model = whisper.load_model(file.name, device=torch_device(settings))

    def transcribe(samples: np.ndarray) -> str:
        return model.transcribe(
            samples,
            language="en",
            temperature=0.0,
            beam_size=settings["beam_size"] if settings["beam_size"] > 1 else None,
            condition_on_previous_text=False,
            fp16=model.device.type == "cuda",
        )["text"]

    return transcribe


def transformers(settings: dict) -> Transcribe:
    import torch
    from transformers import pipeline

    device = torch_device(settings)
    recognizer = pipeline(
        "automatic-speech-recognition",
        model=settings["model"],
        chunk_length_s=30,
        device=device,
        dtype=torch.float16 if device == "cuda" else torch.float32,
        model_kwargs={"attn_implementation": "sdpa"},
    )
    if recognizer.tokenizer.pad_token_id is None:
        recognizer.tokenizer.pad_token_id = recognizer.model.config.eos_token_id

    def transcribe(samples: np.ndarray) -> str:
        generate = {"num_beams": settings["beam_size"], "do_sample": False}
        if getattr(recognizer.model.generation_config, "is_multilingual", False):
            generate |= {"language": "en", "task": "transcribe"}
        answer = recognizer(samples.copy(), batch_size=settings["batch_size"], generate_kwargs=generate)
        return answer["text"]

    return transcribe


def faster_whisper(settings: dict) -> Transcribe:
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(
        settings["model"], device=torch_device(settings), compute_type=settings.get("compute_type", "default")
    )
    options = {
        "language": "en",
        "beam_size": settings["beam_size"],
        "temperature": 0.0,
        "condition_on_previous_text": False,
    }
    engine = model
    if "batch_size" in settings:
        engine, options = BatchedInferencePipeline(model), options | {"batch_size": settings["batch_size"]}

    def transcribe(samples: np.ndarray) -> str:
        segments, _ = engine.transcribe(samples, **options)
        return " ".join(segment.text for segment in segments)

    return transcribe


def whisper_cpp(settings: dict) -> Transcribe:
    from pywhispercpp.model import Model

    beams = settings["beam_size"]
    strategy = {"params_sampling_strategy": 1} if beams > 1 else {}
    model = Model(settings["model"], print_progress=False, print_realtime=False, **strategy)
    search = {"beam_search": {"beam_size": beams, "patience": -1.0}} if beams > 1 else {}

    def transcribe(samples: np.ndarray) -> str:
        segments = model.transcribe(samples, language="en", temperature_inc=0.0, no_context=True, **search)
        return " ".join(segment.text for segment in segments)

    return transcribe


def main() -> None:
    engine, settings = globals()[sys.argv[1]], json.loads(sys.argv[2])
    samples = np.load(settings["audio"])
    transcribe = engine(settings)
    for _ in sys.stdin:
        start = perf_counter()
        text = transcribe(samples)
        seconds = perf_counter() - start
        unit = 1 if sys.platform == "darwin" else 1024
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        print(json.dumps({"seconds": seconds, "memory": memory, "text": text}), flush=True)


if __name__ == "__main__":
    main()
