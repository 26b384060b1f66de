"""Cutting and merging: complete, minimal, far from every inner cut."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.ground.errors import UnsuitableImage
from service.images.tiling import Canvas, Span, TilePlan, plan

# (length, tile, halo, grid): the tile is a multiple of the grid, with room between two halos.
AXES = (
    st.tuples(
        st.integers(1, 90), st.integers(1, 40), st.integers(0, 20), st.sampled_from([1, 1, 2, 8])
    )
    .map(lambda axis: (axis[0], -(-axis[1] // axis[3]) * axis[3], axis[2], axis[3]))
    .filter(lambda axis: axis[1] >= 2 * axis[2] + axis[3])
)


def nearest(tile: npt.NDArray[Any], scale: int) -> npt.NDArray[Any]:
    """Stand in for the network: repeat every pixel."""
    return tile.repeat(scale, axis=0).repeat(scale, axis=1)


def blurred(image: npt.NDArray[Any], radius_px: int) -> npt.NDArray[Any]:
    """Return sums over windows of a radius: every pixel within it counts, edges reflect."""
    padded = np.pad(image.astype(np.int64), radius_px, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius_px + 1,) * 2)
    return windows.sum(axis=(2, 3))


def cases(draw: st.DrawFn) -> tuple[npt.NDArray[np.uint8], TilePlan, int]:
    """Draw an image, a plan for it, and the halo."""
    height, tile_height, halo_px, grid_px = draw(AXES)
    width, steps = draw(st.integers(1, 90)), draw(st.integers(1, 20))
    tile = (tile_height, (-(-2 * halo_px // grid_px) + steps) * grid_px)
    seed = draw(st.integers(0, 2**32 - 1))
    image = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    return image, plan(height, width, tile=tile, halo_px=halo_px, grid_px=grid_px), halo_px


CASES = st.composite(cases)()


@settings(deadline=None)
@given(case=CASES, scale=st.sampled_from([1, 2, 3, 4]))
def test_merge_of_upscaled_tiles_is_the_upscaled_image(
    case: tuple[npt.NDArray[np.uint8], TilePlan, int], scale: int
) -> None:
    """Any size, tile, halo and scale: every tile has the one shape, nothing is lost or moved."""
    image, tile_plan, _ = case
    tiles = tile_plan.split(image)

    merged = tile_plan.merge([nearest(tile, scale) for tile in tiles], scale=scale)

    assert all(tile.shape == tile_plan.tile for tile in tiles)
    assert len(tiles) == tile_plan.count
    np.testing.assert_array_equal(nearest(image, scale), merged)


@settings(deadline=None)
@given(axis=AXES)
def test_kept_pixels_are_a_halo_away_from_every_inner_cut(axis: tuple[int, int, int, int]) -> None:
    """Windows cover the axis, start on the grid, and keep nothing near their inner ends."""
    length, tile, halo_px, grid_px = axis
    spans = plan(length, 1, tile=(tile, grid_px), halo_px=halo_px, grid_px=grid_px).rows
    covered = [position for span in spans for position in range(span.keep_from, span.keep_to)]

    assert list(range(length)) == covered
    for span in spans:
        is_first, is_last = span is spans[0], span is spans[-1]
        assert span.start >= 0
        assert span.start % grid_px == 0
        assert span.start + tile <= max(length + (grid_px - 1 if is_last else 0), tile)
        assert is_first or span.keep_from - span.start >= halo_px
        assert is_last or span.start + tile - span.keep_to >= halo_px
        assert span.keep_from < span.keep_to


@settings(deadline=None)
@given(axis=AXES)
def test_windows_are_as_few_as_can_be(axis: tuple[int, int, int, int]) -> None:
    """A greedy walk that keeps as much as it may from each window needs as many."""
    length, tile, halo_px, grid_px = axis
    needed, start = 1, 0
    while start + tile < length:
        needed += 1
        # As far on as the two halos allow, on the grid.
        start += (tile - 2 * halo_px) // grid_px * grid_px

    assert needed == len(plan(length, 1, tile=(tile, 1), halo_px=halo_px, grid_px=grid_px).rows)


@settings(deadline=None, max_examples=50)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    radius_px=st.integers(0, 5),
    extra=st.integers(0, 3),
)
def test_halo_of_the_receptive_radius_hides_the_cuts(
    size: tuple[int, int], radius_px: int, extra: int
) -> None:
    """A filter that looks as far as the halo gives the same image tiled and whole."""
    image = np.random.default_rng(7).integers(0, 256, size, np.uint8)
    tile = (2 * radius_px + 12, 2 * radius_px + 17)
    tile_plan = plan(*size, tile=tile, halo_px=radius_px + extra, grid_px=1)
    # Smaller images see the reflection that fills the tile, whole or not.
    missing = [(0, max(0, tile[axis] - size[axis])) for axis in (0, 1)]
    whole = blurred(np.pad(image, missing, mode="reflect"), radius_px)[: size[0], : size[1]]

    outputs = [blurred(tile, radius_px) for tile in tile_plan.split(image)]

    np.testing.assert_array_equal(whole, tile_plan.merge(outputs, scale=1))


def test_last_window_of_a_grid_reaches_beyond_the_image_into_its_mirror() -> None:
    """Windows start at multiples of the grid; what the last one lacks is mirrored, and cropped."""
    image = np.arange(13 * 8, dtype=np.uint8).reshape(13, 8)
    tile_plan = plan(13, 8, tile=(8, 8), halo_px=1, grid_px=4)

    assert tile_plan.rows == (Span(0, 0, 6), Span(4, 6, 10), Span(8, 10, 13))
    last = tile_plan.split(image)[-1]
    assert [*range(8, 13), 11, 10, 9] == (last[:, 0] // 8).tolist()
    np.testing.assert_array_equal(image, tile_plan.merge(tile_plan.split(image), scale=1))


def test_small_images_are_padded_by_reflection() -> None:
    """The image lies at the upper left; the rest is its mirror, again and again."""
    (tile,) = plan(1, 3, tile=(2, 8), halo_px=0, grid_px=1).split(np.array([[1, 2, 3]]))

    assert [[1, 2, 3, 2, 1, 2, 3, 2]] * 2 == tile.tolist()


def test_single_pixel_is_replicated() -> None:
    """One pixel has nothing to reflect."""
    (tile,) = plan(1, 1, tile=(3, 3), halo_px=1, grid_px=1).split(np.array([[7]], np.uint8))

    assert [[7] * 3] * 3 == tile.tolist()


def test_exactly_one_tile_is_not_copied() -> None:
    """The common case passes the image and the output through."""
    image, output = np.zeros((240, 240), np.uint8), np.zeros((960, 960), np.uint8)
    tile_plan = plan(240, 240, tile=(240, 240), halo_px=14, grid_px=1)

    assert tile_plan.split(image)[0] is image
    assert tile_plan.merge([output], scale=4) is output


def test_larger_images_are_cut_without_copies() -> None:
    """Tiles are views of the image; only the batch copies them."""
    image = np.zeros((500, 700), np.uint8)

    assert all(
        np.shares_memory(image, tile)
        for tile in plan(500, 700, tile=(240, 240), halo_px=14, grid_px=1).split(image)
    )


def test_windows_are_spread_evenly() -> None:
    """With room to spare every cut is further than the halo from what is kept."""
    assert plan(300, 240, tile=(240, 240), halo_px=14, grid_px=1).rows == (
        Span(0, 0, 150),
        Span(60, 150, 300),
    )


def test_canvas_takes_tiles_in_any_order() -> None:
    """Tiles are merged as they finish."""
    image = np.arange(30 * 41, dtype=np.uint16).reshape(30, 41)
    tile_plan = plan(30, 41, tile=(16, 16), halo_px=3, grid_px=1)
    canvas = Canvas(tile_plan, scale=2, dtype=np.uint16)
    for index, tile in reversed(list(enumerate(tile_plan.split(image)))):
        canvas.place(index, nearest(tile, 2))

    np.testing.assert_array_equal(nearest(image, 2), canvas.pixels)


def test_images_beyond_an_uncuttable_tile_are_unsuitable() -> None:
    """A model that looks too far takes one tile at most, and the client gets the reason."""
    assert plan(16, 16, tile=(16, 16), halo_px=8, grid_px=1).count == 1
    with pytest.raises(UnsuitableImage, match="17 pixels high or wide; expected at most 16"):
        plan(17, 16, tile=(16, 16), halo_px=8, grid_px=1)


@pytest.mark.parametrize(
    ("height", "width", "halo_px", "grid_px"),
    [(0, 5, 1, 1), (5, 0, 1, 1), (5, 5, -1, 1), (5, 5, 1, 0)],
)
def test_impossible_plans_are_faults_of_the_caller(
    height: int, width: int, halo_px: int, grid_px: int
) -> None:
    """Decoders refuse empty images before; manifests hold no negative halo and no grid of 0."""
    with pytest.raises(ValueError, match="cannot tile"):
        plan(height, width, tile=(4, 4), halo_px=halo_px, grid_px=grid_px)


def test_what_does_not_fit_the_plan_is_refused() -> None:
    """Another image, another number of outputs, another output size."""
    tile_plan = plan(4, 4, tile=(4, 4), halo_px=0, grid_px=1)
    with pytest.raises(ValueError, match="the plan is for 4×4"):
        tile_plan.split(np.zeros((4, 5)))
    with pytest.raises(ValueError, match="0 outputs for 1 tiles"):
        tile_plan.merge([], scale=2)
    with pytest.raises(ValueError, match=r"was returned as \(4, 4\); expected \(8, 8\)"):
        tile_plan.merge([np.zeros((4, 4))], scale=2)
