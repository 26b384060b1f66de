"""`semsr accept` from the command line: refusals name the files, and leave no record behind."""

from pathlib import Path

import pytest

from semsr.acceptance.layout import Layout, Settings
from semsr.acceptance.stages import Acceptance, FolderError
from semsr.cli import main
from tests.own_folders import fast, save, write_folders
from training.config.recipe import find_recipe

TINY_BUNDLE = Path(__file__).parents[1] / "data" / "tiny_bundle"
WRONG = 2


def test_refused_images_may_be_exchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try names the file; after its removal the same command goes on."""
    lr, hr = write_folders(tmp_path)
    (lr / "text.png").write_text("no image")
    out = tmp_path / "out"
    command = ["accept", str(lr), str(hr), "--out", str(out), "--recipe", "tiny", "--steps", "4"]
    command += ["--baseline", str(TINY_BUNDLE), "--threads", "1"]
    worked: list[bool] = []
    monkeypatch.setattr(Acceptance, "work", lambda _: worked.append(True) or False)
    monkeypatch.setattr("semsr.commands.accept._say", lambda *_, is_accepted: 3)

    assert WRONG == main(command)
    said = capsys.readouterr().err
    assert said.startswith("checking the arguments")
    assert "text.png (" in said
    assert not Layout(out).record.exists()
    (lr / "text.png").unlink()

    assert 3 == main(command)
    assert [True] == worked
    assert Layout(out).record.is_file()
    assert 3 == main(command)
    assert "split: done before" in capsys.readouterr().err


def test_without_a_baseline_the_shipped_bundle_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shortest command of the documentation reaches the check of the images."""
    lr, hr = write_folders(tmp_path)
    (lr / "text.png").write_text("no image")
    command = ["accept", str(lr), str(hr), "--out", str(tmp_path / "out"), "--recipe", "tiny"]

    assert WRONG == main([*command, "--threads", "1"])
    assert "text.png (" in capsys.readouterr().err


def test_a_changed_image_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A repeated command with another file is refused, before anything is computed."""
    lr, hr = write_folders(tmp_path)
    layout = Layout(tmp_path / "out")
    settings = Settings(
        lr=lr, hr=hr, name="out", recipe=find_recipe("tiny"), baseline=TINY_BUNDLE, threads=1
    )
    Acceptance(settings, layout).look()
    save(lr / "lr_03.png", fast(side_px=64, seed=99))
    command = ["accept", str(lr), str(hr), "--out", str(layout.root), "--recipe", "tiny"]

    assert WRONG == main([*command, "--baseline", str(TINY_BUNDLE), "--threads", "1"])
    assert "LR: lr_03.png has changed" in capsys.readouterr().err


def test_folders_that_change_while_they_are_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is trained on must be what the record names."""
    lr, hr = write_folders(tmp_path)
    settings = Settings(
        lr=lr, hr=hr, name="out", recipe=find_recipe("tiny"), baseline=TINY_BUNDLE, threads=1
    )
    acceptance = Acceptance(settings, Layout(tmp_path / "out"))
    save(lr / "late.png", fast(side_px=64, seed=98))

    with pytest.raises(FolderError, match="changed while LR was read"):
        acceptance.look()
