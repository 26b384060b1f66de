"""Repeated degradation of the same HR images with the same noise, for the search for parameters."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.degradation.noise import NoiseModel
from training.data.degradation.synthetic_lr import Degradation, scan
from training.data.estimation.tone_matching import ToneCurve
from training.ground.progress import SILENT, Steps

Floats = NDArray[np.float32]

NUM_DRAWS = 3


class Trials:
    """A set of HR images, and the noise that is added to every degraded version of them.

    The same normal numbers in each trial make its statistics smooth in the parameters, so that few
    images suffice (common random numbers).

    Attributes:
        scale: HR pixels per LR pixel.
        noise: Noise of the LR images.
        steps: Progress of the search; each compared set of parameters is one step.
    """

    def __init__(
        self, hr: Sequence[NDArray[np.uint8]], *, scale: int, noise: NoiseModel, seed: int
    ) -> None:
        self._hr = [torch.from_numpy(image.astype(np.float32) / 255.0)[None, None] for image in hr]
        self._seed = seed
        rng = np.random.default_rng(seed)
        shapes = [(image.shape[0] // scale, image.shape[1] // scale) for image in hr]
        self._normal = [
            [rng.standard_normal(shape, np.float32) for shape in shapes] for _ in range(NUM_DRAWS)
        ]
        self.scale = scale
        self.noise = noise
        self.steps: Steps = SILENT

    def coarse(self, spot_px: float, lag: float, *, jitter_px: float = 0.0) -> list[Floats]:
        """Return the images on the LR grid, before tone and noise: (h, w) float32 grey levels."""
        degradation = plain_degradation(
            spot_sigma_px=spot_px, lag_decay=lag, line_jitter_px=jitter_px
        )
        generator = torch.Generator().manual_seed(self._seed)
        return [
            (255.0 * scan(image, degradation, scale=self.scale, generator=generator))[0, 0].numpy()
            for image in self._hr
        ]

    def finished(self, coarse: Sequence[Floats], tone: ToneCurve, *, draw: int = 0) -> list[Floats]:
        """Apply tone and the LR images' noise to coarse images; round to whole grey levels.

        Args:
            coarse: Images that `coarse` returned.
            tone: Curve from HR to LR grey.
            draw: Number of the noise draw, below `NUM_DRAWS`.
        """
        images = []
        for image, normal in zip(coarse, self._normal[draw], strict=True):
            grey = tone.apply(image)
            noisy = grey + np.sqrt(self.noise.variance(grey)) * normal
            images.append(np.rint(noisy).clip(0, 255).astype(np.float32))
        return images

    def noise_left(self, spot_px: float, lag: float) -> float:
        """Return the share of the variance of white HR noise that remains on the LR grid."""
        generator = torch.Generator().manual_seed(self._seed)
        side = 64 * self.scale
        white = torch.randn((1, 1, side, side), generator=generator)
        degradation = plain_degradation(spot_sigma_px=spot_px, lag_decay=lag)
        return float(scan(white, degradation, scale=self.scale, generator=generator).var())


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread within the block.

    Trials are thousands of small convolutions with NumPy calls in between, which more threads do
    not speed up. OpenMP's waiting threads spin: on a busy machine, two threads took five times the
    processor time of one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def plain_degradation(**values: float) -> Degradation:
    """Return a degradation of one image with neutral values, except for the named ones.

    Its lag is centred.
    """
    neutral = {
        "spot_sigma_px": 0.0,
        "lag_decay": 0.0,
        "gain": 1.0,
        "offset_grey": 0.0,
        "gamma": 1.0,
        "noise_var_base": 0.0,
        "noise_var_slope": 0.0,
    }
    fields = {name: torch.tensor([float(value)]) for name, value in {**neutral, **values}.items()}
    return Degradation(**fields, lag_centred=True)
