"""Every example in the documentation runs: commands on a stand-in for the model, Python with the demo model.

`large-v3` and `talk.mp3` stand for the reader's own; a block below `<!-- network -->` is not run.
"""

import io
import re
import runpy
import shlex
import subprocess
import sys
import wave
from pathlib import Path

import pytest
from fake_pipeline import FakeLoader, write_recording
from test_clients import METADATA, Sure

import whisperx
from whisperx.arguments import build_parser
from whisperx.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?P<mark><!-- network -->\n)?```(?P<kind>\w+)\n(?P<code>.*?)```", re.DOTALL)


def blocks(kind: str) -> list[object]:
    return [
        pytest.param(match["code"], id=f"{page.name}:{page.read_text('utf-8')[: match.start()].count(chr(10)) + 1}")
        for page in PAGES
        for match in BLOCK.finditer(page.read_text("utf-8"))
        if match["kind"] == kind and not match["mark"]
    ]


def test_there_are_examples_to_run():
    assert len(blocks("sh")) >= 5
    assert len(blocks("python")) >= 6


@pytest.mark.parametrize("code", blocks("sh"))
def test_commands_run(code: str, loader: FakeLoader, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "talks").mkdir()
    for name in ("talk.mp3", "talks/a.mp3"):
        write_recording(folder / name, 2)
    (folder / "talk.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nHello there.\n")
    for line in code.strip().splitlines():
        command = line.rpartition("|")[2].strip()
        recording = io.BytesIO((folder / "talk.mp3").read_bytes())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(recording))
        program, *arguments = shlex.split(command)
        assert program == "whisperx", f"{line}: only whisperx is run here; mark what needs the network"
        assert main(arguments) == 0, line


@pytest.fixture(scope="module")
def clip(demo_audio: Path) -> bytes:
    samples = whisperx.load_audio(demo_audio)[: 4 * 16000]
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setparams((1, 2, 16000, 0, "NONE", ""))
        recording.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code: str, clip: bytes, demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talk.mp3").write_bytes(clip)
    (tmp_path / "example.py").write_text(code.replace('"large-v3"', repr(str(demo_model))), "utf-8")
    monkeypatch.setattr(whisperx, "load_align_model", lambda language, device: (Sure(), METADATA), raising=False)
    monkeypatch.setattr(whisperx, "setup_logging", lambda level: None, raising=False)
    runpy.run_path("example.py", run_name="__main__")


def test_options_that_the_documentation_names_exist():
    known = {option for action in build_parser()._actions for option in action.option_strings}
    for name in ("quickstart", "python", "offline", "troubleshooting", "compatibility"):
        text = (ROOT / "docs" / f"{name}.md").read_text("utf-8")
        assert set(re.findall(r"`(--[a-z][\w-]*)", text)) - {"--X"} <= known, name


def test_the_help_of_the_command_is_quick_to_import():
    code = "import whisperx.cli, sys; assert not {'numpy', 'av', 'mlx', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
