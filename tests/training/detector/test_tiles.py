"""Simulated tiles: reproducible, labelled, kept in a cache, apart from the benchmark's."""

from pathlib import Path

import numpy as np
import pytest

from training.detector.tiles import (
    PURPOSES,
    SEED_BASE,
    LabelledTile,
    TilePlan,
    labelled_tile,
    labelled_tiles,
)


def test_tile_follows_from_seed_and_number() -> None:
    """The same numbers give the same tile; another number gives another."""
    first, again, other = (
        labelled_tile(SEED_BASE, number, defects=(1, 2), hr_px=256) for number in (5, 5, 6)
    )

    assert np.array_equal(first.hr, again.hr)
    assert np.array_equal(first.cells, again.cells)
    assert not np.array_equal(first.hr, other.hr)
    assert ((256, 256), (64, 64)) == (first.hr.shape, first.cells.shape)
    assert np.uint8 == first.hr.dtype == first.cells.dtype
    assert 1 <= len(first.kinds) <= 2
    assert set(range(1, len(first.kinds) + 1)) == set(np.unique(first.cells)) - {0}


def test_clean_tile_has_no_labels() -> None:
    """Without defects there are neither kinds nor cells."""
    tile = labelled_tile(SEED_BASE, 0, defects=(0, 0), hr_px=192)

    assert () == tile.kinds
    assert not tile.cells.any()


def test_seeds_of_purposes_never_meet() -> None:
    """No two users' seeds and purposes share a simulator seed, and all are far from small ones."""
    seeds = [TilePlan(p, s, 1, 0.0).simulator_seed for p in PURPOSES for s in range(50)]

    assert len(seeds) == len(set(seeds))
    assert SEED_BASE == min(seeds)
    assert SEED_BASE > 2**32


def test_clean_tiles_are_spread_evenly() -> None:
    """A quarter of any run of four is clean; all and none at the ends."""
    plan = TilePlan("train", 0, 100, 0.25)

    assert 25 == sum(plan.is_clean(number) for number in range(100))
    assert 1 == sum(plan.is_clean(number) for number in range(40, 44))
    assert TilePlan("train", 0, 1, 1.0).is_clean(0)
    assert not any(TilePlan("train", 0, 1, 0.0).is_clean(number) for number in range(9))


def test_cache_is_read_and_belongs_to_its_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles are made once; more of the same plan are added, another plan is refused."""
    made: list[int] = []

    def draw(seed: int, number: int, *, defects: tuple[int, int], hr_px: int) -> LabelledTile:
        made.append(number)
        hr = np.full((hr_px, hr_px), number, np.uint8)
        return LabelledTile(hr, hr[::4, ::4], f"{seed - SEED_BASE}", ("pit",) * defects[1])

    monkeypatch.setattr("training.detector.tiles.labelled_tile", draw)
    labelled_tiles(TilePlan("train", 1, 2, 0.5, 192), tmp_path)

    tiles = labelled_tiles(TilePlan("train", 1, 4, 0.5, 192), tmp_path)

    assert [0, 1, 2, 3] == made
    assert [0, 1, 2, 3] == [int(tile.hr[0, 0]) for tile in tiles]
    assert [12, 0, 12, 0] == [len(tile.kinds) for tile in tiles]
    assert {"3"} == {tile.scene for tile in tiles}
    with pytest.raises(ValueError, match="holds tiles of"):
        labelled_tiles(TilePlan("train", 2, 4, 0.5, 192), tmp_path)


@pytest.mark.slow
def test_worker_processes_make_the_same_tiles(tmp_path: Path) -> None:
    """Two processes write what one writes."""
    plan = TilePlan("calibrate_defect", 0, 3, 0.0, 256)

    alone = labelled_tiles(plan, tmp_path / "one")
    shared = labelled_tiles(plan, tmp_path / "two", workers=2)

    for a, b in zip(alone, shared, strict=True):
        assert (a.scene, a.kinds) == (b.scene, b.kinds)
        assert np.array_equal(a.hr, b.hr)


@pytest.mark.parametrize(
    "plan",
    [("test", 0, 1, 0.5, 960), ("train", -1, 1, 0.5, 960), ("train", 0, 1, 2.0, 960)],
)
def test_impossible_plans_are_refused(plan: tuple[str, int, int, float, int]) -> None:
    """Purposes, seeds and shares out of their range are named."""
    with pytest.raises(ValueError, match="expected"):
        TilePlan(*plan)
