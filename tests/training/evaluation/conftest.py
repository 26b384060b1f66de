"""A tiny benchmark written by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.evaluation.scenes import SIDE_PX, BlobDetector, film, grey, lines, save, shrunk


@pytest.fixture(scope="session")
def benchmark_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 2 tiles with 4 defects, 4 clean tiles, 4 references and 2 training pictures."""
    root = tmp_path_factory.mktemp("benchmark")
    sizes = {"train_hr": 2, "reference_hr": 4, "test_defect": 2, "test_clean": 4}
    tiles: dict[str, Any] = {}
    blobs = [[(60, 60, 80.0), (180, 170, 90.0)], [(24, 128, 80.0), (200, 60, 70.0)]]
    for split, size in sizes.items():
        for number in range(size):
            seed = 100 * len(tiles) + number
            name = f"{number:04d}"
            is_lines = number % 2 == 1 and split != "test_defect"
            scene = lines(offset_px=seed % 32) if is_lines else film(blobs=[])
            entry: dict[str, Any] = {"scene": "dense_lines" if is_lines else "blank_film"}
            if split == "test_defect":
                scene = film(blobs=blobs[number])
                mask = np.zeros(scene.shape, np.uint8)
                entry["defects"] = []
                for k, (x, y, _) in enumerate(blobs[number], start=1):
                    yy, xx = np.ogrid[:SIDE_PX, :SIDE_PX]
                    mask[(xx - x) ** 2 + (yy - y) ** 2 <= 64] = k
                    entry["defects"].append(
                        {
                            "number": k,
                            "kind": "particle" if k == 1 else "scratch",
                            "group": "planted" if k == 1 else "unseen",
                            "box_hr_px": [x - 8, y - 8, x + 9, y + 9],
                            "center_hr_px": [x, y],
                            "size_hr_px": 17.0,
                            "contrast_to_noise": 9.0,
                        }
                    )
                save(root / "truth" / split / "mask" / f"{name}.png", mask)
            picture = grey(scene, noise=3.0, seed=seed)
            if split.startswith("test"):
                save(root / split / "lr" / f"{name}.png", shrunk(scene, seed=seed + 1))
                save(root / "truth" / split / "hr" / f"{name}.png", picture)
                if is_lines:
                    save(root / "truth" / split / "noise_free" / f"{name}.png", grey(scene))
            else:
                save(root / split / f"{name}.png", picture)
            tiles[f"{split}/{name}"] = entry
    (root / "truth" / "index.json").write_text(
        json.dumps({"format_version": 1, "modes": {}, "tiles": tiles})
    )
    header = {
        "format_version": 1,
        "kind": "semsr-benchmark",
        "seed": 7,
        "scale": 4,
        "tile_px": SIDE_PX // 4,
        "lr_pixel_nm": 4.0,
        "splits": sizes,
    }
    (root / "benchmark.json").write_text(json.dumps(header))
    return root


@pytest.fixture
def detector() -> BlobDetector:
    """Return the detector of bright blobs."""
    return BlobDetector()
