"""Quality of a generator on held-out pairs, with and without a fit of gain and offset."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from models import Generator
from models.grain_head import GrainGenerator
from training.data.given_pairs import SourcePair
from training.ground.baselines import bicubic, fit_gain_offset
from training.ground.quality import psnr, ssim
from training.losses.shift import margin_of, shift_images
from training.methods.pictures import upscale

Grey = NDArray[np.floating] | NDArray[np.uint8]


def pair_quality(
    pairs: Sequence[SourcePair], *, scale: int
) -> Callable[[Generator], dict[str, float]]:
    """Return a function that measures a generator on pairs; without pairs it measures nothing.

    The function returns, as means over the pairs:

    - `held_out_psnr_db`, `held_out_ssim`: the output as it is,
    - `held_out_fitted_psnr_db`, `held_out_fitted_ssim`: after a fit of gain and offset to HR,
    - `held_out_structure_psnr_db`: the output without its grain, after the fit, where the generator
      gives it apart. Grain is random, so that every pixel metric counts it as an error,
    - `held_out_bicubic_psnr_db`: bicubic, after the fit, for comparison.
    """
    if not pairs:
        return lambda generator: {}
    floors = [
        _psnr_fitted(_shifted(bicubic(pair.lr.pixels, scale=scale), pair), _cut_hr(pair))
        for pair in pairs
    ]
    floor = float(np.mean(floors))

    def measure(generator: Generator) -> dict[str, float]:
        rows = [_measure_pair(generator, pair) for pair in pairs]
        means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        return {**means, "held_out_bicubic_psnr_db": floor}

    return measure


def mean_psnr(pictures: Iterable[tuple[Grey, Grey]]) -> dict[str, float]:
    """Return the mean PSNR of pictures as `held_out_psnr_db`; empty without pictures.

    Args:
        pictures: Pairs of a picture and its HR image.
    """
    scores = [psnr(picture, hr) for picture, hr in pictures]
    return {"held_out_psnr_db": float(np.mean(scores))} if scores else {}


def _measure_pair(generator: Generator, pair: SourcePair) -> dict[str, float]:
    hr = _cut_hr(pair)
    sr = _shifted(upscale(generator, pair.lr.pixels), pair)
    fitted = fit_gain_offset(sr, hr)
    found = {
        "held_out_psnr_db": psnr(sr, hr),
        "held_out_ssim": ssim(sr, hr),
        "held_out_fitted_psnr_db": psnr(fitted, hr),
        "held_out_fitted_ssim": ssim(fitted, hr),
    }
    if isinstance(generator, GrainGenerator):
        structure = _shifted(_structure(generator, pair.lr.pixels), pair)
        found["held_out_structure_psnr_db"] = _psnr_fitted(structure, hr)
    return found


@torch.no_grad()
def _structure(generator: GrainGenerator, lr: NDArray[np.uint8]) -> NDArray[np.float32]:
    device = next(generator.parameters()).device
    structure, _, _ = generator.parts(torch.from_numpy(lr.copy())[None, None].to(device) / 255.0)
    return (structure[0, 0] * 255.0).clamp(0, 255).float().cpu().numpy()


def _psnr_fitted(picture: Grey, hr: Grey) -> float:
    return psnr(fit_gain_offset(picture, hr), hr)


def _shifted(picture: Grey, pair: SourcePair) -> NDArray[np.float64]:
    """Move a picture by the rest of its pair's shift, and cut the border that this spoils."""
    image = torch.from_numpy(picture.astype(np.float64))[None, None]
    shift = torch.tensor([[pair.dy, pair.dx]], dtype=torch.float64)
    return _cut(shift_images(image, shift)[0, 0].numpy(), pair)


def _cut_hr(pair: SourcePair) -> NDArray[np.float64]:
    return _cut(pair.hr.pixels.astype(np.float64), pair)


def _cut(picture: NDArray[np.float64], pair: SourcePair) -> NDArray[np.float64]:
    margin = margin_of(max(abs(pair.dy), abs(pair.dx)), tolerance_px=0)
    return picture[margin : picture.shape[0] - margin, margin : picture.shape[1] - margin]
