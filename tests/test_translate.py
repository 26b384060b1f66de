"""`semsr translate`: a mirrored tree of pictures, made once, by one network of scale 1."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models import Generator, build_generator, save_network
from semsr.cli import main
from training.config.recipe import find_recipe, load_recipe
from training.data.picture_folder import RECORD, PictureFacts, read_facts
from training.methods.pictures import upscale

TINY = {"width": 2, "num_blocks": 1}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A network of scale 1 whose training used 12 bits of 16."""
    return save(tmp_path / "scale1.safetensors", scale=1)


def save(path: Path, *, scale: int, seed: int = 0) -> Path:
    """Write a checkpoint."""
    recipe = load_recipe(find_recipe("pix2pix_zssr"), overrides=["data.window=[0, 4095]"])
    training = {"recipe": recipe.model_dump(mode="json"), "steps_done": recipe.optimization.steps}
    save_network(path, network(scale, seed=seed), training=training)
    return path


def network(scale: int, *, seed: int = 0) -> Generator:
    """Build a network whose output depends on its input."""
    torch.manual_seed(seed)
    generator = build_generator("resnet9", {**TINY, "scale": scale}).eval()
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return generator


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Pictures in two folders, one of 16 bits, next to files that are not pictures."""
    folder = tmp_path / "zssr"
    rng = np.random.default_rng(0)
    for name in ("test_clean/0000.png", "test_clean/0001.png", "test_defect/0000.tif"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = rng.integers(0, 256, (24, 28), dtype=np.uint8)
        deep = (grey.astype(np.uint16) * 16) if path.suffix == ".tif" else grey
        Image.fromarray(deep).save(path)
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def translate(checkpoint: Path, images: Path, out: Path, *more: str) -> int:
    """Run the command."""
    arguments = ["--checkpoint", str(checkpoint), "--images", str(images), "--out", str(out)]
    return main(["translate", *arguments, *more])


def test_the_tree_is_mirrored_with_the_networks_pictures(
    checkpoint: Path, images: Path, tmp_path: Path
) -> None:
    """The same paths as PNG, each what the network makes of the picture as training read it."""
    out = tmp_path / "out"

    assert 0 == translate(checkpoint, images, out)

    names = ["test_clean/0000.png", "test_clean/0001.png", "test_defect/0000.png"]
    assert [RECORD, *names] == sorted(
        str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()
    )
    for name in names:
        source = images / name.replace("defect/0000.png", "defect/0000.tif")
        with Image.open(source) as picture:
            grey = np.asarray(picture).astype(np.float64)
        read = np.rint(grey * (255 / 4095 if source.suffix == ".tif" else 1)).astype(np.uint8)
        with Image.open(out / name) as picture:
            found = np.asarray(picture)
        assert np.array_equal(upscale(network(1), read), found), name
        assert found.std() > 3


def test_finished_pictures_are_skipped_and_changed_ones_refused(
    checkpoint: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stop costs nothing but the picture in progress."""
    out = tmp_path / "out"
    translate(checkpoint, images, out)
    kept, lost = out / "test_clean/0000.png", out / "test_clean/0001.png"
    before = kept.stat().st_mtime_ns
    lost.unlink()
    Image.fromarray(np.full((24, 28), 7, np.uint8)).save(images / "test_clean" / "0002.png")
    capsys.readouterr()

    assert 0 == translate(checkpoint, images, out)

    assert "2 pictures made, 2 there before" in capsys.readouterr().out
    assert before == kept.stat().st_mtime_ns
    assert lost.is_file()
    Image.fromarray(np.full((24, 28), 9, np.uint16)).save(images / "test_defect" / "0000.tif")
    assert 1 == translate(checkpoint, images, out)
    assert "test_defect/0000.png was made from another source" in capsys.readouterr().err


def test_pictures_of_another_checkpoint_are_refused_or_replaced(
    checkpoint: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pictures of one folder are judged as one method."""
    out, other = tmp_path / "out", save(tmp_path / "other.safetensors", scale=1, seed=1)
    translate(checkpoint, images, out)
    first = (out / "test_clean/0000.png").read_bytes()

    assert 2 == translate(other, images, out)
    assert "checkpoint 'scale1.safetensors', now 'other.safetensors'" in capsys.readouterr().err
    assert first == (out / "test_clean/0000.png").read_bytes()

    assert 0 == translate(other, images, out, "--overwrite")
    assert first != (out / "test_clean/0000.png").read_bytes()


@pytest.mark.parametrize("known", [False, True])
def test_facts_are_those_of_the_training_and_of_the_input(
    known: bool,
    checkpoint: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Pictures of a short method stay short; pictures of two methods are not put together."""
    header = {"format_version": 1, "kind": "semsr-pictures"}
    zssr = {"summary": "ZSSR x4", "offline": "it learns at inference time", "is_short": True}
    if known:
        (images / RECORD).write_text(json.dumps({**header, **zssr}))

    assert 0 == translate(checkpoint, images, tmp_path / "out")

    assert read_facts(tmp_path / "out") == PictureFacts(
        summary=f"resnet9 on pictures of {'ZSSR x4' if known else 'an unknown method'}",
        is_short=known,
        trained_on="aligned pairs",
        offline="translates pictures that another method made"
        + (": it learns at inference time" if known else ""),
    )
    (images / RECORD).write_text(json.dumps({**header, "summary": "other", "is_short": False}))
    assert 2 == translate(checkpoint, images, tmp_path / "out")
    assert "now 'other'" in capsys.readouterr().err


def test_all_bad_files_are_named_before_the_first_picture(
    checkpoint: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder can be repaired at once."""
    Image.new("RGB", (8, 8), (9, 0, 0)).save(images / "test_clean" / "colour.png")
    (images / "test_clean" / "empty.png").write_bytes(b"")

    assert 1 == translate(checkpoint, images, tmp_path / "out")

    error = capsys.readouterr().err
    assert "colour.png: " in error
    assert "empty.png: cannot be read: the file is empty" in error
    assert not (tmp_path / "out").exists()


def test_a_network_that_enlarges_is_refused(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes LR tiles, which the pictures are not."""
    enlarging = save(tmp_path / "scale4.safetensors", scale=4)

    assert 1 == translate(enlarging, images, tmp_path / "out")
    assert "enlarges 4 times; expected a network of scale 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("none", "does not exist; did you mean"),
        ("empty", "holds no image file"),
        ("twins", "would both become"),
        ("taken", f"is not empty and has no {RECORD}"),
        ("damaged", f"{RECORD} is damaged"),
        ("same", "the folder of the sources; expected another"),
    ],
)
def test_wrong_folders_are_refused_before_the_network_is_loaded(
    change: str,
    message: str,
    checkpoint: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By name and value, as wrong use."""
    monkeypatch.setattr("models.load_generator", None)
    out = tmp_path / "out"
    match change:
        case "none":
            images = tmp_path / "zsr"
        case "empty":
            images = tmp_path / "nothing"
            images.mkdir()
        case "twins":
            (images / "test_clean" / "0000.bmp").write_bytes(b"")
        case "same":
            out = images
        case _:
            out.mkdir()
            name, text = {"taken": ("other.txt", ""), "damaged": (RECORD, "{")}[change]
            (out / name).write_text(text)

    assert 2 == translate(checkpoint, images, out)
    assert message in capsys.readouterr().err
