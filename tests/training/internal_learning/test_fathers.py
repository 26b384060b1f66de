"""Random views of the tile: which are drawn how often, and what is exact about them."""

from collections import Counter

import numpy as np
import pytest
import torch

from training.internal_learning.fathers import View, cut, draw_view
from training.internal_learning.options import Options, make_options

CROP_PX = 32


def tile(height: int = 60, width: int = 72, *, seed: int = 0) -> torch.Tensor:
    """Return a picture whose pixels are all different, (H, W) float64 in 0..1."""
    order = np.random.default_rng(seed).permutation(height * width)
    return torch.from_numpy(order.reshape(height, width) / order.size)


def views(options: Options, *, count: int = 2000, shapes: object = ((60, 72),)) -> list[View]:
    """Draw views of the tile."""
    rng = np.random.default_rng(5)
    return [draw_view(rng, shapes, crop_px=CROP_PX, options=options) for _ in range(count)]  # pyright: ignore[reportArgumentType]


def is_whole(view: View) -> bool:
    """Return whether a view keeps whole pixels."""
    return view.scale_y == view.scale_x == 1 and set(np.abs(view.turn).ravel()) == {0.0, 1.0}


def test_half_of_the_views_keep_whole_pixels_in_the_ideal_configuration() -> None:
    """5 % as they are and 45 % turned and mirrored; the others are shrunk to 0.5 to 1."""
    drawn = views(make_options("ideal"))
    whole = [view for view in drawn if is_whole(view)]
    turns = Counter(view.turn for view in whole)

    assert 0.5 == pytest.approx(len(whole) / len(drawn), abs=0.04)
    assert 8 == len(turns)
    assert 0.05 + 0.45 / 8 == pytest.approx(turns[(1.0, 0.0), (0.0, 1.0)] / len(drawn), abs=0.02)
    scales = [view.scale_y * view.scale_x for view in drawn if not is_whole(view)]
    assert all(0.25**2 <= scale <= 1 for scale in scales)
    assert 0.72 == pytest.approx(np.mean(np.sqrt(scales)), abs=0.04)


def test_measured_views_are_never_turned_or_shrunk() -> None:
    """The lag of the detector is along x, and a shrunk father is less noisy than the tile."""
    drawn = views(make_options("measured"))

    assert all(is_whole(view) for view in drawn)
    assert 4 == len({view.turn for view in drawn})
    assert all(view.turn[0][1] == view.turn[1][0] == 0 for view in drawn)


def test_whole_views_are_exact_crops() -> None:
    """Every bit of such a father is a pixel of the tile, in the order of a turned crop."""
    picture = tile()
    seen = 0
    for view in views(make_options("ideal"), count=60):
        if not is_whole(view):
            continue
        crop = cut(picture[None], [view], crop_px=CROP_PX)[0]
        top, left = (int(centre) - CROP_PX // 2 for centre in (view.centre_y, view.centre_x))
        plain = picture[top : top + CROP_PX, left : left + CROP_PX]
        versions = [torch.rot90(side, k) for side in (plain, plain.flip(1)) for k in range(4)]
        assert 1 == sum(torch.equal(crop, version) for version in versions)
        seen += 1
    assert seen > 10


def test_a_shrunk_and_turned_view_shows_the_scene_in_place() -> None:
    """On a smooth picture a view has the greys of the places that its map names."""
    y, x = np.mgrid[:60, :72] + 0.5
    scene = lambda y, x: 0.5 + 0.3 * np.sin(y / 11) * np.cos(x / 13)  # noqa: E731 - one formula
    picture = torch.from_numpy(scene(y, x))
    checked = 0
    for view in views(make_options("ideal"), count=60):
        if is_whole(view):
            continue
        crop = cut(picture[None], [view], crop_px=CROP_PX)[0].numpy()
        offsets = np.arange(CROP_PX) + 0.5 - CROP_PX / 2
        (yy, yx), (xy, xx) = view.turn
        at_y = view.centre_y + yy * offsets[:, None] + yx * offsets[None]
        at_x = view.centre_x + xy * offsets[:, None] + xx * offsets[None]
        # Not at the border, where the view is mirrored.
        inside = (at_y > 3) & (at_y < int(60 * view.scale_y) - 3)
        inside &= (at_x > 3) & (at_x < int(72 * view.scale_x) - 3)
        expected = scene(at_y / view.scale_y, at_x / view.scale_x)
        assert np.abs(crop - expected)[inside].max() < 5e-3
        checked += int(inside.sum())
    assert checked > 5000


def test_views_together_are_those_alone() -> None:
    """A batch of pictures and views gives each its own crop."""
    pictures = torch.stack([tile(seed=1), tile(seed=2), tile(seed=3)])
    drawn = views(make_options("ideal"), count=3)

    together = cut(pictures, drawn, crop_px=CROP_PX)

    for number, view in enumerate(drawn):
        alone = cut(pictures[number : number + 1], [view], crop_px=CROP_PX)[0]
        assert torch.allclose(alone, together[number], atol=1e-12)


def test_a_crop_stays_in_range_and_of_its_size() -> None:
    """Bicubic overshoot is clipped, and a crop as large as the tile is possible."""
    options = make_options("ideal")
    rng = np.random.default_rng(1)
    for _ in range(20):
        view = draw_view(rng, [(32, 48)], crop_px=32, options=options)
        crop = cut(torch.round(tile(32, 48))[None], [view], crop_px=32)
        assert (1, 32, 32) == tuple(crop.shape)
        assert float(crop.min()) >= 0
        assert float(crop.max()) <= 1


@pytest.mark.parametrize(("draw", "share"), [("size", 0.8), ("scale", 2 / 3)])
def test_several_fathers_are_drawn_by_area_or_by_scale(draw: str, share: float) -> None:
    """Of the tile and its double, the double has 4/5 of the area, and 1 of 1.5 of the scales."""
    options = make_options("ideal", scales=(2, 4), draw=draw)

    drawn = views(options, shapes=((60, 72), (120, 144)))

    assert share == pytest.approx(np.mean([view.source for view in drawn]), abs=0.03)
