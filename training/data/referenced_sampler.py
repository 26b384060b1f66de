"""Sampler of aligned crops of given pairs, each with a reference; a function of seed and step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from training.config.recipe import ConfigError
from training.data.aligned_sampler import AlignedSampler
from training.data.crops import CPU, check_sizes, draw_crop, turned, unit_range
from training.data.given_pairs import SourcePair
from training.data.turns import Turns, draw_turn_of

FOR_REFERENCES = 5
"""Last number of the seeds of these draws; other samplers have other numbers."""


@dataclass(frozen=True, kw_only=True)
class ReferencedBatch:
    """Aligned crops and their references.

    Attributes:
        lr: (N, 1, c, c) float32 in [0, 1].
        hr: (N, 1, s*c, s*c) float32 in [0, 1].
        reference: (N, 1, r, r) float32 in [0, 1].
        shift: (N, 2) float32: dy and dx of each pair in HR px, turned with its crop; see
            `SourcePair`.
    """

    lr: torch.Tensor
    hr: torch.Tensor
    reference: torch.Tensor
    shift: torch.Tensor

    def to(self, device: torch.device) -> "ReferencedBatch":
        """Return the batch on a device."""
        return ReferencedBatch(
            lr=self.lr.to(device),
            hr=self.hr.to(device),
            reference=self.reference.to(device),
            shift=self.shift.to(device),
        )


@dataclass(frozen=True, kw_only=True)
class MadeReferenced:
    """Result of `ReferencedSampler.make`: grey levels, and the tone of each reference.

    Attributes:
        lr: (N, c, c) uint8.
        hr: (N, s*c, s*c) uint8.
        reference: (N, r, r) uint8, before its tone.
        shift: (N, 2) float32.
        gain: (N,) float32.
        offset_grey: (N,) float32.
    """

    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    shift: NDArray[np.float32]
    gain: NDArray[np.float32]
    offset_grey: NDArray[np.float32]


class ReferencedSampler:
    """Sampler of crops at the same place of both images of a pair, and of a reference for each.

    Args:
        pairs: Pairs, each at least as large as a crop.
        scale: s.
        crop_px: c, LR pixels.
        batch_size: N.
        seed: Seed of everything drawn.
        turns: Directions in which a pair's crops are turned; see `AlignedSampler`.
        reference: "own" for the HR crop itself, turned as it is; "other" for a crop at a random
            place of another pair's HR image.
        reference_px: r of another's crop; None for that of the HR crop.
        reference_turns: Directions in which the reference is then turned, drawn on its own.
        gain: Range of the factor on the reference's greys; LR and HR keep theirs.
        offset_grey: Largest offset of the reference's greys, either way.

    Raises:
        ConfigError: An image is smaller than its crop, or there is no other pair.
    """

    def __init__(
        self,
        pairs: Sequence[SourcePair],
        *,
        scale: int,
        crop_px: int,
        batch_size: int,
        seed: int,
        turns: Turns = "vertical",
        reference: Literal["own", "other"] = "own",
        reference_px: int | None = None,
        reference_turns: Turns = "none",
        gain: tuple[float, float] = (1.0, 1.0),
        offset_grey: float = 0.0,
    ) -> None:
        self.pairs = list(pairs)
        self.batch_size = batch_size
        self.seed = seed
        self.reference: Literal["own", "other"] = reference
        self.reference_px = scale * crop_px if reference_px is None else reference_px
        self.reference_turns: Turns = reference_turns
        self.gain = gain
        self.offset_grey = offset_grey
        if reference == "other":
            if len(self.pairs) < 2:
                raise ConfigError(
                    f"the reference is to come from another pair, but there is {len(self.pairs)} "
                    "pair; expected at least 2"
                )
            check_sizes([pair.hr for pair in self.pairs], self.reference_px)
        # One sampler a pair: the pair of a crop must be known to choose another for its reference.
        self._samplers = [
            AlignedSampler(
                [pair], scale=scale, crop_px=crop_px, batch_size=1, seed=seed, turns=turns
            )
            for pair in self.pairs
        ]

    def batch(self, step: int) -> ReferencedBatch:
        """Return the crops of a step, each of a pair and a place drawn uniformly."""
        return self.finish(self.make(step))

    def make(self, step: int) -> MadeReferenced:
        """Draw the crops of a step."""
        rng = np.random.default_rng((self.seed, step, FOR_REFERENCES))
        lr, hr, references, shifts = [], [], [], []
        for number in range(self.batch_size):
            chosen = int(rng.integers(len(self.pairs)))
            crops = self._samplers[chosen].make(step * self.batch_size + number)
            lr.append(crops.lr[0])
            hr.append(crops.hr[0])
            shifts.append(crops.shift[0])
            reference = self._reference(chosen, crops.hr[0], rng)
            references.append(turned(reference, draw_turn_of(self.reference_turns, rng)))
        low, high = self.gain
        return MadeReferenced(
            lr=np.stack(lr),
            hr=np.stack(hr),
            reference=np.stack(references),
            shift=np.stack(shifts),
            gain=rng.uniform(low, high, self.batch_size).astype(np.float32),
            offset_grey=rng.uniform(-self.offset_grey, self.offset_grey, self.batch_size).astype(
                np.float32
            ),
        )

    def finish(self, made: MadeReferenced) -> ReferencedBatch:
        """Turn crops into the batch."""
        gain, offset = (
            torch.from_numpy(part)[:, None, None, None] for part in (made.gain, made.offset_grey)
        )
        reference = unit_range(made.reference, CPU)
        return ReferencedBatch(
            lr=unit_range(made.lr, CPU),
            hr=unit_range(made.hr, CPU),
            reference=(gain * reference + offset / 255.0).clamp(0, 1),
            shift=torch.from_numpy(made.shift),
        )

    def _reference(
        self, chosen: int, hr: NDArray[np.uint8], rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        if self.reference == "own":
            return hr
        other = (chosen + 1 + int(rng.integers(len(self.pairs) - 1))) % len(self.pairs)
        return draw_crop(self.pairs[other].hr.pixels, self.reference_px, rng)
