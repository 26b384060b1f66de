"""Makes `docs/images/result.webp`: details of the simulated samples as sent, answered, and true.

Run `python tests/make_result_picture.py` from the repository root after the default bundle changed.
The samples' HR pictures are not shipped; the simulator makes them again from their seed.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from bundle_format.bundle import load_bundle
from engines.batches import run_batch
from engines.protocol import EngineOptions
from engines.registry import load_engine
from semsr.demo import match_greys
from training.simulator.loose_tiles import simulate_tiles

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "images" / "result.webp"
SEED = 4
DETAILS = ("0007_dense_lines_particle", "0005_dense_lines_bridge", "0006_iso_lines_break")
SIDE_PX = 240
GAP_PX, CAPTION_PX = 6, 24
CAPTIONS = ("sent (LR), greys matched", "bicubic, greys matched", "semsr", "true slow scan")


def make(out: Path) -> None:
    """Draw one row for each detail, its defect in the middle, all pictures of a row alike."""
    bundle = load_bundle(ROOT / "bundles" / "default")
    engine = load_engine("onnx", bundle, EngineOptions(precision="fp32", threads=1))
    with tempfile.TemporaryDirectory() as folder:
        index = simulate_tiles(Path(folder), seed=SEED, with_truth=True)
        tiles = {t["name"]: t for t in json.loads(index.read_text(encoding="utf-8"))["tiles"]}
        rows = []
        for name in DETAILS:
            tile = tiles[name]
            lr, hr = (_read(Path(folder) / tile["files"][kind]) for kind in ("lr", "hr"))
            sr = run_batch(engine, lr[None, None]).sr[0, 0]
            box = tile["defects"][0]["box_hr_px"]
            rows.append(_row(match_greys(lr, sr), sr, hr, box))
    engine.close()
    width = len(CAPTIONS) * (SIDE_PX + GAP_PX) - GAP_PX
    canvas = Image.new("L", (width, CAPTION_PX + len(rows) * (SIDE_PX + GAP_PX) - GAP_PX), 255)
    draw = ImageDraw.Draw(canvas)
    for column, caption in enumerate(CAPTIONS):
        draw.text((column * (SIDE_PX + GAP_PX) + 2, 3), caption, fill=0, font_size=15)
    for number, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            place = (column * (SIDE_PX + GAP_PX), CAPTION_PX + number * (SIDE_PX + GAP_PX))
            canvas.paste(Image.fromarray(picture), place)
    # With loss: grain does not compress, and the repository keeps every version of the picture.
    canvas.save(out, quality=75, method=6)


def _row(
    lr: npt.NDArray[np.uint8],
    sr: npt.NDArray[np.uint8],
    hr: npt.NDArray[np.uint8],
    box: dict[str, int],
) -> list[npt.NDArray[np.uint8]]:
    side = sr.shape[0]
    x, y = (
        min(max((box[low] + box[high]) // 2 - SIDE_PX // 2, 0), side - SIDE_PX)
        for low, high in (("left", "right"), ("top", "bottom"))
    )
    sent = Image.fromarray(lr)
    full = [
        np.asarray(sent.resize((side, side), Image.Resampling.NEAREST)),
        np.asarray(sent.resize((side, side), Image.Resampling.BICUBIC)),
        sr,
        hr,
    ]
    parts = [picture[y : y + SIDE_PX, x : x + SIDE_PX] for picture in full]
    # SEM pictures use the lower half of the range; one gain for the whole row.
    gain = 255.0 / max(1.0, float(np.percentile(parts[-1], 99.8)))
    return [np.clip(part * gain, 0, 255).astype(np.uint8) for part in parts]


def _read(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


if __name__ == "__main__":
    make(OUT)
