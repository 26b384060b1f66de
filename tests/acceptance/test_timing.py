"""Times for the plan: what is reserved for export and evaluation, and how work is timed."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from semsr.acceptance.checking import check
from semsr.acceptance.layout import Layout, Settings
from semsr.acceptance.splitting import split
from semsr.acceptance.timing import EXPORT_S, Cost, reserve_s, typical_s
from tests.own_folders import fast, save, slow, write_folders
from training.config.recipe import find_recipe

TINY_BUNDLE = Path(__file__).parents[1] / "data" / "tiny_bundle"
JUDGED_ONLY = Cost(step_s=1.0, answer_s=0.0, judge_s=1.0)


def test_the_first_time_does_not_count() -> None:
    """It loads libraries: in its place a budget of hours would be reserved for minutes of work."""
    delays = [0.3, 0.001, 0.001, 0.001]

    assert 0.1 > typical_s(lambda: time.sleep(delays.pop(0)))
    assert not delays


def test_the_reserve_grows_with_the_pictures_that_will_be_judged(tmp_path: Path) -> None:
    """Those of given pairs as well, by their area: an image of a megapixel is many tiles."""
    lr, hr = write_folders(tmp_path)
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    for number in range(2):
        save(pairs / f"p{number}_lr.png", fast(side_px=64, seed=70 + number))
        save(pairs / f"p{number}_hr.png", slow(side_px=256, seed=70 + number))
    settings = Settings(
        lr=lr, hr=hr, name="own", recipe=find_recipe("tiny"), baseline=TINY_BUNDLE, threads=1
    )
    layout = Layout(tmp_path / "out")
    check(settings, layout)
    split(settings, layout)

    without = reserve_s(settings, layout, JUDGED_ONLY)
    with_pairs = reserve_s(replace(settings, pairs=(pairs, pairs)), layout, JUDGED_ONLY)

    assert EXPORT_S < without
    expected = 4 / 3 * 3 * 2 * 64**2 / 240**2
    assert pytest.approx(expected) == with_pairs - without
