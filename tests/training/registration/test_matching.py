"""Which LR file belongs to which HR file."""

from collections.abc import Sequence

import numpy as np
import pytest

from tests.training.registration_scenes import (
    SCALE,
    Grey,
    fast_scan,
    grating,
    shifted_pair,
    simulated,
    slow_scan,
)
from training.data.images import SourceImage
from training.registration.matching import Match, check_names, match_content, match_names, pair_name
from training.registration.pair import RegistrationError

BLANK = np.zeros((60, 60), np.uint8)


def image(name: str, pixels: Grey = BLANK) -> SourceImage:
    """Return a picture as `load_images` does."""
    return SourceImage(name=name, source=f"folder/{name}", pixels=pixels)


def names(matches: Sequence[Match]) -> list[tuple[str | None, str | None]]:
    """Return the names of the files of each match."""
    return [(m.lr and m.lr.name, m.hr and m.hr.name) for m in matches]


@pytest.mark.parametrize(
    ("file", "name"),
    [("a.png", "a"), ("lr_07.png", "07"), ("07_HR.tif", "07"), ("w1/lr-x.png", "x"),
     ("color.png", "color"), ("stack.tif[00000002]", "stack_00000002")],
)  # fmt: skip
def test_name_of_a_pair(file: str, name: str) -> None:
    """LR and HR at the ends of a stem are left out, within words they stay."""
    assert name == pair_name(image(file))


def test_names_match_and_the_rest_is_reported() -> None:
    """No file is dropped."""
    matches = match_names(
        [image("a_lr.png"), image("b_lr.png")], [image("c_hr.png"), image("a_hr.png")]
    )
    assert [("a_lr.png", "a_hr.png"), ("b_lr.png", None), (None, "c_hr.png")] == names(matches)
    assert [None, "no HR file has the name 'b'", "no LR file has the name 'c'"] == [
        m.problem for m in matches
    ]


def test_two_files_of_a_name_are_an_error() -> None:
    """Both are named."""
    with pytest.raises(ValueError, match=r"a\.png and a\.tif have the name 'a' in common"):
        match_names([image("a.png")], [image("a.png"), image("a.tif")])


def test_content_matches_unordered_pictures() -> None:
    """Different kinds, and two films of one grain; an HR file without LR is left."""
    kinds = [("sram", 0), ("blank_film", 0), ("blank_film", 1), ("granular", 0), ("iso_lines", 0)]
    pairs = [shifted_pair(simulated(kind, number=number), (5.0, -7.0)) for kind, number in kinds]
    lr = [image(f"{n}.png", pair[0]) for n, pair in enumerate(pairs[:4])]
    order = [3, 1, 4, 0, 2]
    hr = [image(f"scan_{n}.png", pairs[n][1]) for n in order]
    matches = match_content(lr, hr, scale=SCALE, max_shift_px=24)
    assert [
        *((f"{n}.png", f"scan_{n}.png") for n in range(4)),
        (None, "scan_4.png"),
    ] == names(matches)
    assert [None] * 4 == [m.problem for m in matches[:4]]
    assert "no LR file is left for it" == matches[4].problem


@pytest.fixture(scope="module")
def one_grating() -> tuple[list[SourceImage], list[SourceImage]]:
    """Two fields along the same lines: one pitch, one phase, other roughness."""
    tile = simulated("dense_lines", side_px=180)
    side = 90
    lr, hr = [], []
    for n in range(2):
        # The lines lie along x.
        left = 8 + n * side
        rows, columns = slice(8, 8 + side), slice(left, left + side)
        lr.append(image(f"{n}.png", tile.lr[rows, columns].round().astype(np.uint8)))
        scaled = tuple(slice(SCALE * part.start, SCALE * part.stop) for part in (rows, columns))
        hr.append(image(f"{n}.png", tile.hr[scaled].round().astype(np.uint8)))
    return lr, hr


def test_places_of_one_grating_are_told_apart_by_roughness(
    one_grating: tuple[list[SourceImage], list[SourceImage]],
) -> None:
    """Content needs the full LR grid for it."""
    lr, hr = one_grating
    matches = match_content(lr, hr[::-1], scale=SCALE, max_shift_px=24)
    assert [(f"{n}.png", f"{n}.png") for n in range(2)] == names(matches)
    assert [None] * 2 == [m.problem for m in matches]


def test_names_that_are_exchanged_are_found(
    one_grating: tuple[list[SourceImage], list[SourceImage]],
) -> None:
    """Right names stay as they are; exchanged ones name the better file."""
    lr, hr = one_grating
    right = [Match(*files) for files in zip(lr, hr, strict=True)]
    assert right == check_names(right, scale=SCALE, max_shift_px=24)
    rest = Match(None, image("rest.png"), "no LR file has the name 'rest'")
    exchanged = [Match(lr[0], hr[1]), rest, Match(lr[1], hr[0])]
    first, second, third = check_names(exchanged, scale=SCALE, max_shift_px=24)
    assert "content matches 0.png better than 1.png" in (first.problem or "")
    assert "content matches 1.png better than 0.png" in (third.problem or "")
    assert rest == second


def test_small_pictures_keep_their_names() -> None:
    """What cannot be compared is judged by its registration alone."""
    match = Match(image("a.png", BLANK[:40, :40]), image("a.png", np.zeros((160, 160), np.uint8)))
    assert [match] == check_names([match], scale=SCALE, max_shift_px=24)
    assert [] == check_names([], scale=SCALE, max_shift_px=24)


def test_equal_contents_are_not_guessed(rng: np.random.Generator) -> None:
    """Perfect gratings of one pitch could be exchanged."""
    lr = [image(f"{n}.png", fast_scan(grating(40), rng, noise_sigma=1)) for n in range(2)]
    hr = [image(f"h{n}.png", slow_scan(grating(40), rng, noise_sigma=1)) for n in range(2)]
    matches = match_content(lr, hr, scale=SCALE, max_shift_px=12)
    assert all("as well as" in (m.problem or "") for m in matches)


def test_more_lr_than_hr_files_are_reported() -> None:
    """The LR file whose content matches worst is left."""
    first = shifted_pair(simulated("sram"), (0, 0))
    second = shifted_pair(simulated("granular"), (0, 0))
    lr = [image("second.png", second[0]), image("first.png", first[0])]
    matches = match_content(lr, [image("h.png", first[1])], scale=SCALE, max_shift_px=24)
    assert [("second.png", None), ("first.png", "h.png")] == names(matches)
    assert "no HR file is left: others match better" == matches[0].problem


def test_small_pictures_are_refused_by_content() -> None:
    """The message gives the size that is needed."""
    with pytest.raises(RegistrationError, match=r"has 40x40 LR px, expected at least 46"):
        match_content(
            [image("a.png", np.zeros((40, 40), np.uint8))],
            [image("b.png", np.zeros((160, 160), np.uint8))],
            scale=SCALE,
            max_shift_px=24,
        )
