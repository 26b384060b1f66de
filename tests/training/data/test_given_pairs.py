"""Given pairs: found by name, checked, cropped at the same place."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.config.pairs import PairsConfig
from training.config.recipe import ConfigError, DataConfig
from training.data.aligned_sampler import AlignedSampler
from training.data.given_pairs import SourcePair, check_disjoint, load_pairs
from training.data.images import SourceImage
from training.data.turns import Turns

SCALE = 2
FOLDERS = PairsConfig(input="lr", target="hr", alignment="alignment.json")
DATA = DataConfig(pairs=[FOLDERS])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three pairs of 12x10 and 24x20 px, and an alignment of them."""
    rng = np.random.default_rng(3)
    for name in ("a", "b", "c"):
        for folder, scale in (("lr", 1), ("hr", SCALE)):
            (tmp_path / folder).mkdir(exist_ok=True)
            grey = rng.integers(0, 256, (10 * scale, 12 * scale), dtype=np.uint8)
            Image.fromarray(grey).save(tmp_path / folder / f"{name}.png")
    write_alignment(tmp_path)
    return tmp_path


def write_alignment(root: Path, **changes: object) -> None:
    """Write an alignment whose shifts differ from pair to pair."""
    pairs = [
        {"name": name, "dy": 0.1 * n, "dx": -0.2, "residual_px": 0.3, "correlation": 0.9}
        for n, name in enumerate("abc")
    ]
    document = {
        "format_version": 1,
        "kind": "semsr-alignment",
        "scale": SCALE,
        "pairs": pairs,
        **changes,
    }
    (root / "alignment.json").write_text(json.dumps(document))


def load(root: Path, config: PairsConfig = FOLDERS) -> list[SourcePair]:
    """Load the pairs of one entry."""
    return load_pairs([config], DATA, data_root=root, scale=SCALE)


def test_pairs_are_found_by_name_with_their_shifts(root: Path) -> None:
    """The suffix of a file may differ between the two folders."""
    (root / "hr/b.png").rename(root / "hr/b.PNG")

    pairs = load(root)

    assert ["a", "b", "c"] == [pair.name for pair in pairs]
    assert [(0.0, -0.2), (0.1, -0.2), (0.2, -0.2)] == [(pair.dy, pair.dx) for pair in pairs]
    assert [("lr/b.png", "hr/b.PNG")] == [(p.lr.name, p.hr.name) for p in pairs if p.name == "b"]
    assert (10, 12) == pairs[0].lr.pixels.shape
    without = load(root, FOLDERS.model_copy(update={"alignment": None}))
    assert {(0.0, 0.0)} == {(pair.dy, pair.dx) for pair in without}


def test_images_without_a_partner_or_of_a_wrong_size_are_all_named(root: Path) -> None:
    """One error for the whole folder."""
    (root / "hr/a.png").rename(root / "hr/z.png")
    Image.fromarray(np.zeros((20, 25), np.uint8)).save(root / "hr/b.png")

    with pytest.raises(ConfigError) as error:
        load(root)

    assert [
        "pairs of lr and hr:",
        "  lr/a.png has no HR image of its name",
        "  hr/z.png has no LR image of its name",
        "  hr/b.png is 25x20 px; expected 2 times 12x10 px, the size of lr/b.png",
    ] == str(error.value).splitlines()


def test_two_images_of_one_name_are_refused(root: Path) -> None:
    """Which of them is the partner could only be guessed."""
    Image.fromarray(np.zeros((10, 12), np.uint8)).save(root / "lr/a.tif")
    with pytest.raises(ConfigError, match=r"lr/a\.png and lr/a\.tif have one name"):
        load(root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "has format_version 2; expected 1"),
        ({"kind": "other"}, "has kind 'other'; expected 'semsr-alignment'"),
        ({"scale": 4}, "has scale 4; expected 2"),
        ({"pairs": []}, r"says nothing about the pairs \['a', 'b', 'c'\]"),
        ({"pairs": [{"name": "a", "dy": 0.1}]}, "lacks or misstates 'dx' of a pair"),
        (
            {"pairs": [{"name": n, "dy": float("nan"), "dx": 0, "residual_px": 0} for n in "abc"]},
            "not a finite number",
        ),
    ],
)
def test_alignment_that_does_not_fit_is_refused(
    root: Path, changes: dict[str, object], message: str
) -> None:
    """Formats are checked, never guessed."""
    write_alignment(root, **changes)
    with pytest.raises(ConfigError, match=message):
        load(root)


def test_held_out_pairs_must_be_others(root: Path) -> None:
    """A pair that was used for training cannot be used for evaluation."""
    pairs = load(root)
    check_disjoint(pairs[:2], pairs[2:])
    with pytest.raises(ConfigError, match=r"held_out_pairs: \['hr/b\.png', 'lr/b\.png'\]"):
        check_disjoint(pairs[:2], pairs[1:])


def ramp_pair() -> SourcePair:
    """Return a pair whose pixels say where they are: the LR pixel's number, at both resolutions."""
    lr = np.arange(160, dtype=np.uint8).reshape(10, 16)
    hr = lr.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    images = [SourceImage(name=name, source="s", pixels=p) for name, p in (("l", lr), ("h", hr))]
    return SourcePair(name="p", lr=images[0], hr=images[1], dy=1.0, dx=0.25)


@pytest.mark.parametrize("turns", ["none", "vertical", "horizontal", "all"])
def test_crops_of_both_images_show_the_same_place(turns: Turns) -> None:
    """They are cut out and turned together, and every batch is a function of its step."""
    sampler = AlignedSampler(
        [ramp_pair()], scale=SCALE, crop_px=5, batch_size=40, seed=1, turns=turns
    )

    batch = sampler.batch(7)

    assert (40, 1, 5, 5) == tuple(batch.lr.shape)
    larger = batch.lr.repeat_interleave(SCALE, dim=2).repeat_interleave(SCALE, dim=3)
    assert torch.equal(larger, batch.hr)
    assert torch.equal(batch.hr, sampler.batch(7).hr)
    assert not torch.equal(batch.hr, sampler.batch(8).hr)


def test_shift_turns_with_its_crop() -> None:
    """A scene that lies below its place lies above it after a flip up and down, and so on."""
    sampler = AlignedSampler(
        [ramp_pair()], scale=SCALE, crop_px=5, batch_size=200, seed=1, turns="all"
    )
    batch = sampler.batch(0)
    down = (batch.lr[:, 0, 1, 0] - batch.lr[:, 0, 0, 0]) * 255
    right = (batch.lr[:, 0, 0, 1] - batch.lr[:, 0, 0, 0]) * 255

    # One LR pixel further down is 16 greys more, one further right is 1: the turn of each crop.
    for dy, dx, step_y, step_x in zip(*batch.shift.T, down.round(), right.round(), strict=True):
        along = {16: 1.0, -16: -1.0, 1: 0.25, -1: -0.25}
        assert along[int(step_y)] == float(dy)
        assert along[int(step_x)] == float(dx)
    assert 8 == len({(int(y), int(x)) for y, x in zip(down.round(), right.round(), strict=True)})
