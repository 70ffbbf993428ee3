"""What a run did and how long that took: JSON for programs, a table for people."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from whisperx.schema import Meter
from whisperx.transcribe import TranscribeOptions, seconds_of_audio
from whisperx.writers import replacing

STAGES = (
    "wait for audio",
    "decode audio",
    "vad",
    "language",
    "mel",
    "encode",
    "decode tokens",
    "word times",
    "align",
    "diarize",
    "write",
)
_PACKAGES = ("whisperx-mlx", "mlx", "numpy", "av")


@dataclass(kw_only=True)
class Recording:
    """What became of one recording."""

    audio: str
    meter: Meter = field(default_factory=Meter)
    ahead: Mapping[str, float] = field(default_factory=dict)  # seconds of stages while the model was busy
    wall_seconds: float = 0.0  # from opening the recording to the last file, loading the model left out
    language: str | None = None
    files: Sequence[Path] = ()
    error: str | None = None


@dataclass(kw_only=True)
class Run:
    """What became of all recordings."""

    options: TranscribeOptions
    device: str | None = None  # where the model computed; None: it was never loaded
    load_seconds: float = 0.0  # loading the model
    recordings: list[Recording] = field(default_factory=list)
    error: str | None = None  # that ended the run before all recordings were tried

    def as_json(self) -> dict[str, Any]:
        """The content of a report. Times are in seconds.

        `wall_seconds` and `stages` leave out `load_model_seconds`; `real_time_factor` is wall seconds for each second
        of audio; `ahead` has the seconds of stages that took place while the model was loaded or had the recording
        before in work, and are no part of these; `occupancy` is the part of a batch's rows that held a live chunk, over
        all decoding steps.
        """
        options = asdict(self.options)
        del options["hf_token"]  # a report is shown around
        return {
            "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
            "platform": platform.platform(),
            "device": self.device,
            "options": options,
            "load_model_seconds": self.load_seconds,
            "error": self.error,
            "recordings": [
                {
                    "audio": recording.audio,
                    "language": recording.language,
                    "error": recording.error,
                    "ahead": dict(recording.ahead),
                    "files": [str(path) for path in recording.files],
                    **_figures(recording.meter, recording.wall_seconds),
                }
                for recording in self.recordings
            ],
            "totals": {
                "recordings": len(self.recordings),
                "failed": sum(recording.error is not None for recording in self.recordings),
                **_figures(*self._sums()),
            },
        }

    def write(self, path: Path) -> None:
        """Write `as_json` to `path`, at once or not at all. Raises OSError."""
        with replacing(path) as file:
            file.write(json.dumps(self.as_json(), indent=2, allow_nan=False) + "\n")

    def table(self) -> str:
        """The seconds of each stage of all recordings, what they amount to, where, and the files, as lines of text."""
        meter, wall_seconds = self._sums()
        rows = [("load model", self.load_seconds), *_stages(meter).items()]
        rows.append(("other", max(0.0, wall_seconds - sum(meter.seconds.values()))))
        lines = [f"{'stage':<15}{'seconds':>10}", *(f"{stage:<15}{seconds:>10.2f}" for stage, seconds in rows)]
        figures = _figures(meter, wall_seconds)
        lines.append(f"{'all':<15}{self.load_seconds + wall_seconds:>10.2f}")
        if figures["real_time_factor"]:
            lines.append(
                f"{figures['audio_seconds']:.1f} s of audio in {wall_seconds:.1f} s after loading: real-time factor "
                f"{figures['real_time_factor']:.3f}, {1 / figures['real_time_factor']:.1f} times as fast as it plays"
            )
        if figures["occupancy"] is not None:
            occupancy = f"{figures['occupancy']:.0%} of the rows of a batch in use"
            lines.append(f"chunks: {figures['chunks']}, tokens: {figures['tokens']}, {occupancy}")
        if self.device is not None:
            lines.append(f"device: {self.device}")
        lines += [f"wrote {_short(recording.files)}" for recording in self.recordings if recording.files]
        return "\n".join(lines)

    def _sums(self) -> tuple[Meter, float]:
        meter = Meter()
        for recording in self.recordings:
            for stage, seconds in recording.meter.seconds.items():
                meter.seconds[stage] = meter.seconds.get(stage, 0.0) + seconds
            for thing, n in recording.meter.counts.items():
                meter.count(thing, n)
        return meter, sum(recording.wall_seconds for recording in self.recordings)


def _figures(meter: Meter, wall_seconds: float) -> dict[str, Any]:
    audio_seconds = seconds_of_audio(meter)
    rows = meter.counts.get("rows", 0)
    return {
        "audio_seconds": audio_seconds,
        "wall_seconds": wall_seconds,
        "real_time_factor": wall_seconds / audio_seconds if audio_seconds else None,
        "stages": _stages(meter),
        "chunks": meter.counts.get("chunks", 0),
        "tokens": meter.counts.get("tokens", 0),
        "steps": meter.counts.get("steps", 0),
        "occupancy": meter.counts.get("live_rows", 0) / rows if rows else None,
    }


def _stages(meter: Meter) -> dict[str, float]:
    """Seconds of the stages that took place, in their order; others follow."""
    known = [stage for stage in STAGES if stage in meter.seconds]
    return {stage: meter.seconds[stage] for stage in dict.fromkeys([*known, *meter.seconds])}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _short(paths: Sequence[Path]) -> str:
    """Paths that differ in their extension alone, as a shell would write them: `out/talk.{txt,srt}`."""
    if len(paths) == 1:
        return str(paths[0])
    return f"{paths[0].with_suffix('')}.{{{','.join(path.suffix[1:] for path in paths)}}}"
