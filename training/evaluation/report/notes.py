"""Description of a report's inputs, and notes on its omissions."""

from collections.abc import Sequence
from typing import Any

from training.evaluation.folders.benchmark import Benchmark, Tile

NO_FEATURES = (
    "The kernel distance was left out: no feature network (give its weights by --vgg16 or "
    "SEMSR_VGG16)."
)
NO_DETECTOR = "There is no benchmark: whether defects are found is not judged."
NO_HR = "No HR pictures were given (--hr): backgrounds were compared with nothing."
NO_FLAGS = "No method has limits of its own (export --domain): no tile is said to be suspicious."


def describe(
    benchmark: Benchmark,
    defect: Sequence[Tile],
    clean: Sequence[Tile],
    *,
    split: str,
    limit: int | None,
    draws: int,
) -> dict[str, Any]:
    """Describe the benchmark and the part of it that was evaluated."""
    defects = [item for tile in defect for item in tile.defects]
    return {
        "seed": benchmark.seed,
        "fingerprint": benchmark.fingerprint,
        "split": split,
        "scale": benchmark.scale,
        "tile_px": benchmark.tile_px,
        "defect_tiles": len(defect),
        "clean_tiles": len(clean),
        "defects": len(defects),
        "unseen_defects": sum(item.group != "planted" for item in defects),
        "limit": limit,
        "draws": draws,
    }


def notes(*, limit: int | None, has_features: bool, has_real: bool) -> list[str]:
    """Return notes on the omissions of a report on a benchmark."""
    found = []
    if limit is not None:
        found.append(f"A quick look: at most {limit} tiles of each split. The targets ask for all.")
    if not has_features:
        found.append(NO_FEATURES)
    if not has_real:
        found.append("Real tiles were left out: no folder of them was given (--real).")
    return found
