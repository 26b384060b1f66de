"""The whole way: train two steps, export, serve in a process, send a PNG, get a larger PNG."""

import io
import json
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from semsr.cli import main
from semsr.server_process import running_server

RECIPE = """
name = "two-steps"

[generator]
name = "rep_sr"
hyper_parameters = { channels = 8, num_blocks = 2, scale = 4 }

[data]
hr = ["*.png"]
statement = "random stripes, for a test"
credits = "nobody"

[optimization]
steps = 2
batch_size = 2
crop_px = 16
learning_rate = 1e-3
final_learning_rate = 1e-4
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with two HR images of stripes."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(2):
        stripes = (np.arange(256) // (6 + index) % 2 * 90 + 60).astype(float)
        image = stripes[None, :] + rng.normal(0, 4, (256, 256))
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    return folder


def size(path: Path) -> tuple[int, int]:
    """Width and height of an image file."""
    with Image.open(path) as image:
        return image.size


def test_train_export_serve_upscale(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command does its part, and a tile comes back four times as large."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    assert main(["train", str(recipe), "--data", str(data), "--run", str(tmp_path / "run")]) == 0
    checkpoint = Path(capsys.readouterr().out.strip())
    assert checkpoint.is_file()

    bundle = tmp_path / "bundle"
    arguments = ["export", str(checkpoint), "--out", str(bundle), "--tile", "32,32", "--json"]
    assert main(arguments) == 0
    rows = json.loads(capsys.readouterr().out)
    assert max(row["max_error"] for row in rows) <= 1
    assert "random stripes, for a test" in (bundle / "MODEL_CARD.md").read_text()
    assert main(["bundle", str(bundle)]) == 0
    assert "every file matches its sha256" in capsys.readouterr().out

    lr = Image.fromarray(np.tile(np.arange(40, 72, dtype=np.uint8), (32, 1)))
    body = io.BytesIO()
    lr.save(body, "PNG", dpi=(25_400_000 / 4, 25_400_000 / 4))
    with running_server({"SEMSR_BUNDLE": str(bundle), "SEMSR_ENGINE": "onnx"}) as server:
        response = httpx2.post(
            f"{server.url}/superresolve",
            content=body.getvalue(),
            headers={"content-type": "image/png"},
            trust_env=False,
            timeout=60,
        )
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    sr = Image.open(io.BytesIO(response.content))
    assert (sr.size, sr.mode) == ((128, 128), "L")
    # Untrained, the network is close to its skip connection: the ramp must still be a ramp.
    columns = np.asarray(sr, dtype=float).mean(axis=0)
    assert np.corrcoef(columns, np.arange(128))[0, 1] > 0.9

    (tmp_path / "tiles").mkdir()
    lr.save(tmp_path / "tiles" / "ramp.png")
    (tmp_path / "tiles" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    out = tmp_path / "out"
    upscale = ["upscale", *map(str, sorted((tmp_path / "tiles").iterdir())), "--out", str(out)]
    twice = [*upscale[:2], str(tmp_path / "tiles" / "ramp.png"), *upscale[1:]]
    assert main([*twice, "--bundle", str(bundle), "--engine", "onnx"]) == 2
    assert "would both become" in capsys.readouterr().err
    assert not out.exists()
    assert main([*upscale, "--bundle", str(bundle), "--engine", "onnx"]) == 1
    captured = capsys.readouterr()
    assert "broken.png" in captured.err
    assert size(out / "ramp_x4.png") == (128, 128)


def test_demo_writes_pictures_and_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`semsr demo` serves, sends a folder, writes LR | bicubic | SR and says what took how long."""
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    Image.fromarray(np.full((24, 24), 90, np.uint8)).save(tiles / "flat.png")
    Image.fromarray(np.full((24, 24), 9000, np.uint16)).save(tiles / "deep.tif")
    (tiles / "notes.txt").write_text("no image")
    bundle = Path(__file__).parent / "data" / "tiny_bundle"
    out = tmp_path / "out"
    arguments = ["demo", "--tiles", str(tiles), "--out", str(out), "--bundle", str(bundle)]
    assert main([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["deep.tif", "flat.png"]
    assert {row["status"] for row in rows} == {200}
    assert (out / "deep_tif_compare.png").is_file()
    assert size(out / "flat_compare.png")[0] == 3 * 96 + 16
    assert size(out / "flat_sr.png") == (96, 96)
    (tiles / "colour.png").write_bytes(b"not a png")
    assert main(arguments) == 1
    assert "400" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo", "--tiles", "nowhere"], "nowhere is not a folder"),
        (["bundle", "nowhere"], "is not a bundle"),
        (["export", "README.md", "--out", "x", "--tile", "240"], "expected two integers"),
        (["train", "supervised", "--data", "nowhere"], "nowhere does not exist"),
        (["train", "no-such-recipe", "--data", "."], "supervised"),
    ],
)
def test_wrong_argument_is_one_line_with_the_value(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No trace, a nonzero exit code, and what was expected."""
    assert main(arguments) in {1, 2}
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
