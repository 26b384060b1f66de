"""The evaluation table: a model against bicubic, on held-out tiles, real pairs and defects.

Any upscaler can be judged: a checkpoint, or a bundle through an engine of the service; the caller
passes a function. Nothing here reads the environment or the command line.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from models import CheckpointInfo, load_generator
from training.baselines import bicubic, fit_gain_offset, fit_gaussian
from training.config import ConfigError, Recipe
from training.datasets import degraded_pairs, load_held_out_tiles, load_pairs
from training.quality import Grey, correlation, local_correlation, psnr, ssim

# (N, 1, H, W) uint8 to (N, 1, s*H, s*W) uint8.
Upscaler = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
Row = dict[str, Any]

HELD_OUT_MARGIN_DB = 1.0


@dataclass(frozen=True, kw_only=True)
class EvaluationPair:
    """One LR image and its reference; uint8, (H, W) and (s*H, s*W)."""

    name: str
    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8]


def load_evaluation_sets(
    recipe: Recipe, *, data_root: Path, scale: int, seed: int = 0
) -> dict[str, list[EvaluationPair]]:
    """Load `held_out`, `real_pairs` and `defects`, as far as the recipe names them.

    Args:
        recipe: Gives paths, held-out sources and degradation ranges.
        data_root: Folder that the recipe's paths are relative to.
        scale: Enlargement factor.
        seed: Of the degradation of the held-out tiles.

    Raises:
        ConfigError: A named folder or glob holds nothing, or a pair does not fit the scale.
    """
    sets: dict[str, list[EvaluationPair]] = {}
    tiles = load_held_out_tiles(recipe.data, data_root=data_root)
    if tiles:
        pairs = degraded_pairs(tiles, degradation=recipe.degradation, scale=scale, seed=seed)
        sets["held_out"] = [
            EvaluationPair(name=Path(tile.name).stem, lr=lr, hr=hr)
            for tile, (lr, hr) in zip(tiles, pairs, strict=True)
        ]
    data = recipe.data
    if data.real_pairs is not None:
        folder = data_root / data.real_pairs
        found = load_pairs(folder, folder, lr_suffix="_lr", hr_suffix="_hr")
        sets["real_pairs"] = _checked(found, scale=scale)
    if data.defects_lr is not None and data.defects_hr is not None:
        found = load_pairs(data_root / data.defects_lr, data_root / data.defects_hr)
        sets["defects"] = _checked(found, scale=scale)
    return sets


def evaluate_supervised(
    upscaler: Upscaler,
    *,
    recipe: Recipe,
    data_root: Path,
    scale: int,
    seed: int = 0,
    by_image: bool = False,
) -> list[Row]:
    """Measure an upscaler and the baselines on every set that the recipe names.

    Args:
        upscaler: (N, 1, H, W) uint8 to (N, 1, s*H, s*W) uint8.
        recipe: The recipe that the model was trained with.
        data_root: Folder that the recipe's paths are relative to.
        scale: s.
        seed: Of the degradation of the held-out tiles.
        by_image: Add rows for every single image, with `set` as `<set>/<image>`.

    Returns:
        One row for each set and method, means over the set's images: `set`, `method`, `images`,
        `psnr_db`, `ssim`, `ncc` (correlation), `structure_ncc` and `worst_ncc` (mean and 1 %
        quantile of the local correlation where the reference has structure).

    Raises:
        ConfigError: The data are not as the recipe says.
        ValueError: The upscaler answers with another shape or type than it should.
    """
    sets = load_evaluation_sets(recipe, data_root=data_root, scale=scale, seed=seed)
    rows: list[Row] = []
    with tqdm(total=sum(map(len, sets.values())), unit="image", desc="evaluate") as bar:
        for set_name, pairs in sets.items():
            measured: dict[str, list[dict[str, float]]] = {}
            singles: list[Row] = []
            for pair in pairs:
                for method, image in _candidates(upscaler, pair, scale=scale).items():
                    values = _measure(image, pair.hr)
                    measured.setdefault(method, []).append(values)
                    label = {"set": f"{set_name}/{pair.name}", "method": method, "images": 1}
                    singles.append({**label, **values})
                bar.update(1)
            for method, values in measured.items():
                means = {key: float(np.mean([v[key] for v in values])) for key in values[0]}
                rows.append({"set": set_name, "method": method, "images": len(values), **means})
            if by_image:
                rows += singles
    return rows


def missed_targets(rows: Sequence[Row]) -> list[str]:
    """List what a supervised model should reach and does not; an empty list where it passes.

    On held-out tiles the model, without any fit, must beat the best baseline by 1 dB; on real pairs
    it must not fall below bicubic after the same fit.
    """
    scores = {(row["set"], row["method"]): float(row["psnr_db"]) for row in rows}
    missed = []
    model = scores.get(("held_out", "model"))
    if model is not None:
        best = max(
            value
            for key, value in scores.items()
            if key[0] == "held_out" and key[1].startswith("bicubic")
        )
        if model < best + HELD_OUT_MARGIN_DB:
            missed.append(
                f"held_out: model {model:.2f} dB, best baseline {best:.2f} dB, "
                f"needed +{HELD_OUT_MARGIN_DB:.1f} dB"
            )
    for fit in ("gain/offset", "gain/offset + Gaussian"):
        model = scores.get(("real_pairs", f"model + {fit}"))
        if model is not None and model < scores["real_pairs", f"bicubic + {fit}"]:
            missed.append(
                f"real_pairs: model {model:.2f} dB after {fit}, bicubic "
                f"{scores['real_pairs', f'bicubic + {fit}']:.2f} dB"
            )
    return missed


def write_table(rows: Sequence[Row], *, file: TextIO | None = None) -> None:
    """Write the rows as an aligned table for people, to standard output by default."""
    out = sys.stdout if file is None else file
    header = f"{'set':<17} {'method':<32} {'n':>3} {'PSNR dB':>8} {'SSIM':>6} {'NCC':>6} "
    out.write(header + f"{'struct.':>8} {'worst':>7}\n")
    previous = None
    for row in rows:
        if previous not in (None, row["set"]):
            out.write("\n")
        previous = row["set"]
        out.write(
            f"{row['set']:<17} {row['method']:<32} {row['images']:>3} {row['psnr_db']:>8.2f} "
            f"{row['ssim']:>6.3f} {row['ncc']:>6.3f} {row['structure_ncc']:>8.3f} "
            f"{row['worst_ncc']:>7.3f}\n"
        )


def write_json(rows: Sequence[Row], *, file: TextIO | None = None) -> None:
    """Write the rows as a JSON list of objects, to standard output by default.

    A PSNR of infinity (equal images) becomes null, which JSON has.
    """
    out = sys.stdout if file is None else file
    finite = [
        {key: None if value == float("inf") else value for key, value in row.items()}
        for row in rows
    ]
    json.dump(finite, out, indent=2, allow_nan=False)
    out.write("\n")


def checkpoint_upscaler(path: Path) -> tuple[Upscaler, int, CheckpointInfo]:
    """Make an upscaler from a checkpoint, with the merged network on the CPU.

    Returns:
        The upscaler, its scale, and what the checkpoint says about itself.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: It is not a checkpoint of ours.
    """
    generator, info = load_generator(path)
    network = generator.merged()

    def upscale(lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        with torch.no_grad():
            sr = network(torch.from_numpy(lr.copy()).float() / 255.0)
        return (sr * 255.0).round().clamp(0, 255).byte().numpy()

    return upscale, generator.scale, info


def _checked(
    pairs: Sequence[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]], *, scale: int
) -> list[EvaluationPair]:
    for name, lr, hr in pairs:
        expected = tuple(scale * side for side in lr.shape)
        if hr.shape != expected:
            raise ConfigError(
                f"pair {name}: HR is {hr.shape} for LR {lr.shape}; scale {scale} needs {expected}"
            )
    return [EvaluationPair(name=name, lr=lr, hr=hr) for name, lr, hr in pairs]


def _candidates(upscaler: Upscaler, pair: EvaluationPair, *, scale: int) -> dict[str, Grey]:
    sr = upscaler(pair.lr[None, None])
    expected = (1, 1, *(scale * side for side in pair.lr.shape))
    if sr.shape != expected or sr.dtype != np.uint8:
        raise ValueError(
            f"the upscaler answered {sr.shape} {sr.dtype} for {pair.name}, expected {expected} "
            "uint8"
        )
    candidates: dict[str, Grey] = {}
    for method, image in (("bicubic", bicubic(pair.lr, scale=scale)), ("model", sr[0, 0])):
        candidates[method] = image
        candidates[f"{method} + gain/offset"] = fit_gain_offset(image, pair.hr)
        candidates[f"{method} + gain/offset + Gaussian"] = fit_gaussian(image, pair.hr)[0]
    return candidates


def _measure(image: Grey, reference: NDArray[np.uint8]) -> dict[str, float]:
    local, deviation = local_correlation(image, reference)
    # Local deviation beyond three times the usual grain (3 grey levels, low-passed): structure.
    structure = local[deviation > 5.0]
    if structure.size == 0:
        structure = local.ravel()
    return {
        "psnr_db": psnr(image, reference),
        "ssim": ssim(image, reference),
        "ncc": correlation(image, reference),
        "structure_ncc": float(structure.mean()),
        "worst_ncc": float(np.quantile(structure, 0.01)),
    }
