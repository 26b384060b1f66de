"""Files that appear whole or not at all."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from training.ground.whole_file import whole_file, write_whole_text
from training.run.curves import draw_curves, write_picture
from training.simulator.pictures import write_png, write_tiff


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    """Half a file never gets the name, and its remains are removed."""
    path = tmp_path / "a.json"
    write_whole_text(path, "old")

    def half() -> None:
        with whole_file(path) as part:
            part.write_text("ne", encoding="utf-8")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk"):
        half()

    assert "old" == path.read_text(encoding="utf-8")
    assert [path] == list(tmp_path.iterdir())


def test_the_temporary_file_is_hidden_and_keeps_the_suffix(tmp_path: Path) -> None:
    """Libraries choose the format by the suffix; folders that are read meanwhile do not show it."""
    with whole_file(tmp_path / "deep" / "a.png", is_durable=True) as part:
        part.write_bytes(b"x")
        assert (".", ".png") == (part.name[0], part.suffix)

    assert b"x" == (tmp_path / "deep" / "a.png").read_bytes()


GREY = np.zeros((8, 8), np.uint8)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.png", lambda path: write_picture(path, GREY)),
        ("b.png", lambda path: write_png(path, GREY, 1.0)),
        ("c.tif", lambda path: write_tiff(path, GREY.astype(np.uint16), 1.0)),
        ("d.png", lambda path: draw_curves([{"step": 1, "loss": 2.0}], path=path)),
    ],
)
def test_pictures_are_written_whole(
    name: str,
    write: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A crash before the last step, the renaming, leaves no file under the final name."""

    def crash(_: Path, target: Path) -> Path:
        raise OSError(f"crash before {target.name}")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", crash)
        with pytest.raises(OSError, match=f"crash before {name}"):
            write(tmp_path / name)

    assert [] == list(tmp_path.iterdir())
    write(tmp_path / name)
    assert [tmp_path / name] == list(tmp_path.iterdir())
