from pathlib import Path

import pytest

from whisperx.folders import complete_or_absent


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "model"
    with complete_or_absent(folder) as unfinished:
        (unfinished / "weights").write_text("numbers")
        assert not folder.exists()
    assert [path.read_text() for path in folder.iterdir()] == ["numbers"]
    assert list(folder.parent.iterdir()) == [folder]
    (tmp_path / "other").mkdir()
    assert folder.stat().st_mode == (tmp_path / "other").stat().st_mode, "others may read it as any new folder"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_folder_that_is_not_complete(error: BaseException, tmp_path: Path) -> None:
    def fill() -> None:
        with complete_or_absent(tmp_path / "model") as unfinished:
            (unfinished / "weights").write_text("numbers")
            raise error

    with pytest.raises(type(error)):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_else_has_made_meanwhile_stays(tmp_path: Path) -> None:
    def fill() -> None:
        with complete_or_absent(tmp_path / "model"):
            (tmp_path / "model").mkdir()
            (tmp_path / "model" / "weights").write_text("theirs")

    with pytest.raises(OSError, match="not empty"):
        fill()
    assert [path.read_text() for path in tmp_path.rglob("weights")] == ["theirs"]
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]
