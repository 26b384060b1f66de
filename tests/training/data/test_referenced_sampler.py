"""Crops of given pairs with references: which picture a reference shows, and its tone."""

import numpy as np
import pytest
import torch

from training.config.recipe import ConfigError
from training.data.given_pairs import SourcePair
from training.data.images import SourceImage
from training.data.referenced_sampler import ReferencedSampler
from training.data.turns import Turns

SCALE = 2


def pair(number: int) -> SourcePair:
    """Return a pair whose LR pixels say where they are, and whose greys say which pair it is."""
    lr = (60 * number + np.arange(56).reshape(7, 8)).astype(np.uint8)
    hr = lr.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    images = [
        SourceImage(name=f"{n}{number}", source="s", pixels=p) for n, p in (("l", lr), ("h", hr))
    ]
    return SourcePair(name=str(number), lr=images[0], hr=images[1])


def sampler(count: int = 3, **options: object) -> ReferencedSampler:
    """Return a sampler of a few pairs with crops of 5 LR px."""
    return ReferencedSampler(
        [pair(n) for n in range(count)],
        **{"scale": SCALE, "crop_px": 5, "batch_size": 40, "seed": 1, **options},
    )


def pairs_of(images: torch.Tensor) -> list[int]:
    """Return the number of the pair that each image shows."""
    return [int(255 * image.min()) // 60 for image in images]


@pytest.mark.parametrize("turns", ["none", "vertical", "all"])
def test_own_reference_is_the_hr_crop_as_it_is_turned(turns: Turns) -> None:
    """LR and HR show the same place, and every batch is a function of its step."""
    drawn = sampler(turns=turns)

    batch = drawn.batch(7)

    assert (40, 1, 5, 5) == tuple(batch.lr.shape)
    larger = batch.lr.repeat_interleave(SCALE, dim=2).repeat_interleave(SCALE, dim=3)
    assert torch.equal(larger, batch.hr)
    assert torch.equal(batch.hr, batch.reference)
    assert {0, 1, 2} == set(pairs_of(batch.hr))
    assert torch.equal(batch.reference, drawn.batch(7).reference)
    assert not torch.equal(batch.hr, drawn.batch(8).hr)


def test_other_reference_never_shows_the_pair_itself() -> None:
    """All other pairs take part, at a size of the reference's own."""
    batch = sampler(reference="other", reference_px=12).batch(0)

    assert (40, 1, 12, 12) == tuple(batch.reference.shape)
    shown = list(zip(pairs_of(batch.hr), pairs_of(batch.reference), strict=True))
    assert {(a, b) for a in range(3) for b in range(3) if a != b} == set(shown)


def test_references_are_turned_on_their_own() -> None:
    """As published: all eight turns against the pair's."""
    batch = sampler(reference_turns="all").batch(0)
    hr, reference = batch.hr[:, 0], batch.reference[:, 0]

    turns = set()
    for ours, theirs in zip(hr, reference, strict=True):
        for quarters in range(4):
            for flip in (False, True):
                turned = torch.rot90(ours, quarters)
                if torch.equal(turned.flip(1) if flip else turned, theirs):
                    turns.add((quarters, flip))
    assert 8 == len(turns)
    vertical = sampler(turns="none", reference_turns="vertical").batch(0)
    flipped = [
        torch.equal(a.flip(1), b) for a, b in zip(vertical.hr, vertical.reference, strict=True)
    ]
    assert 8 < sum(flipped) < 32


def test_tone_changes_the_reference_alone() -> None:
    """Within its ranges, the same for all pixels of one; LR and HR keep their greys."""
    plain, toned = sampler().batch(3), sampler(gain=(0.7, 1.3), offset_grey=20.0).batch(3)

    assert torch.equal(plain.hr, toned.hr)
    assert torch.equal(plain.lr, toned.lr)
    greys = 255 * plain.reference.flatten(1)
    after = 255 * toned.reference.flatten(1)
    gains, offsets = [], []
    for x, y in zip(greys, after, strict=True):
        inside = (y > 0.5) & (y < 254.5)
        if int(inside.sum()) > 10:
            slope = float((y[inside].max() - y[inside].min()) / (x[inside].max() - x[inside].min()))
            gains.append(slope)
            offsets.append(float((y - slope * x)[inside].mean()))
    assert len(gains) > 20
    assert 0.699 < min(gains) < 0.8 < 1.2 < max(gains) < 1.301
    assert -20.1 < min(offsets) < -10 < 10 < max(offsets) < 20.1


def test_other_needs_two_pairs_and_room_for_its_crop() -> None:
    """Problems are named before a step."""
    with pytest.raises(ConfigError, match="there is 1 pair; expected at least 2"):
        sampler(1, reference="other")
    with pytest.raises(ConfigError, match=r"smaller than a crop of 15 px: \['h0', 'h1', 'h2'\]"):
        sampler(reference="other", reference_px=15)
