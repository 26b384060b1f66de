"""Matching with a reference and transfer of its features: closed forms and a slow version."""

import pytest
import torch
from torch.nn import functional

from models import masa_matching
from models.masa_matching import (
    BLOCK_PX,
    Matches,
    coarse_places,
    fine_places,
    match,
    reflected,
    transfer,
)


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return features that look alike nowhere."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 0.3


def grid(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the row and the column of each place."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return rows, columns


def identity(count: int, height: int, width: int) -> Matches:
    """Return matches of every place with itself, with score 1."""
    rows, columns = grid(height, width)
    return Matches(
        rows=rows.expand(count, -1, -1),
        columns=columns.expand(count, -1, -1),
        scores=torch.ones(count, 1, height, width),
    )


def test_a_patch_finds_its_own_place_with_score_one() -> None:
    """Of a reference that holds the LR image itself, also where it lies elsewhere."""
    lr = features(2, 5, 16, 24)
    reference = features(2, 5, 40, 48, seed=1)
    reference[0, :, 7:23, 11:35] = lr[0]
    reference[1, :, 20:36, 3:27] = lr[1]

    matches = match(lr, reference)

    rows, columns = grid(16, 24)
    # The outermost patches hold zeros in one image and the surroundings in the other.
    inner = (slice(1, -1), slice(1, -1))
    for number, (top, left) in enumerate([(7, 11), (20, 3)]):
        assert torch.equal((rows + top)[inner], matches.rows[number][inner])
        assert torch.equal((columns + left)[inner], matches.columns[number][inner])
    assert torch.allclose(torch.ones(2, 14, 22), matches.scores[:, 0, 1:-1, 1:-1], atol=1e-5)


def test_an_image_matched_with_itself_is_found_to_its_border() -> None:
    """Beyond the border both are continued by zeros."""
    image = features(1, 4, 24, 16)

    matches = match(image, image)

    rows, columns = grid(24, 16)
    assert torch.equal(rows, matches.rows[0])
    assert torch.equal(columns, matches.columns[0])
    assert torch.allclose(torch.ones(24, 16), matches.scores[0, 0], atol=1e-5)


def test_places_do_not_depend_on_the_scale_of_features() -> None:
    """A factor on the features of either image changes neither places nor scores."""
    lr, reference = features(1, 4, 19, 13), features(1, 4, 30, 25, seed=1)

    expected, actual = match(lr, reference), match(20.0 * lr, 0.1 * reference)

    assert torch.equal(expected.rows, actual.rows)
    assert torch.equal(expected.columns, actual.columns)
    assert torch.allclose(expected.scores, actual.scores, atol=1e-5)
    assert -1 <= float(actual.scores.min()) <= float(actual.scores.max()) <= 1 + 1e-5


def test_searches_agree_with_a_slow_version() -> None:
    """Each place by one loop over all positions, written from the description."""
    lr, reference = features(1, 3, 16, 8), features(1, 3, 14, 21, seed=1)
    padded = functional.pad(reference, (3, 3, 3, 3))

    centres = coarse_places(lr, reference)
    rows, columns = fine_places(lr, reference, centres, window=(12, 12))

    for block, top in enumerate((0, 8)):
        best = (-9.0, (0, 0))
        for y in range(14):
            for x in range(21):
                total = 0.0
                for d in (1, 2, 3):
                    ours = lr[0, :, top + 4 - d : top + 5 + d : d, 4 - d : 5 + d : d]
                    theirs = padded[0, :, y + 3 - d : y + 4 + d : d, x + 3 - d : x + 4 + d : d]
                    total += float(
                        functional.cosine_similarity(ours.flatten(), theirs.flatten(), 0)
                    )
                best = max(best, (total, (y, x)))
        assert best[1] == tuple(centres[0, block].tolist())
    around_lr, around_reference = (functional.pad(x, (1, 1, 1, 1)) for x in (lr, reference))
    for y, x in ((0, 0), (5, 3), (7, 7), (8, 0), (15, 7)):
        corner = [
            min(max(int(centres[0, y // 8, axis]) - 6, 0), (14, 21)[axis] - 12) for axis in (0, 1)
        ]
        ours = around_lr[0, :, y : y + 3, x : x + 3].flatten()
        found = max(
            (
                float(
                    functional.cosine_similarity(
                        ours, around_reference[0, :, v : v + 3, u : u + 3].flatten(), 0
                    )
                ),
                (v, u),
            )
            for v in range(corner[0], corner[0] + 12)
            for u in range(corner[1], corner[1] + 12)
        )
        assert found[1] == (int(rows[0, y, x]), int(columns[0, y, x]))


def test_searches_in_parts_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of memory changes no place."""
    lr, reference = features(2, 4, 24, 16), features(1, 4, 20, 30, seed=1)
    expected = match(lr, reference)

    monkeypatch.setattr(masa_matching, "MAX_CHUNK", 1)
    actual = match(lr, reference)

    assert torch.equal(expected.rows, actual.rows)
    assert torch.equal(expected.columns, actual.columns)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_matches_with_itself_return_the_features(scale: int) -> None:
    """Every cell of every block is the mean of equal cells, up to the border of the image."""
    given = features(2, 3, 16 * scale, 8 * scale)

    actual = transfer(given, identity(2, 16, 8), scale=scale)

    assert torch.allclose(given, actual, atol=1e-6)


def test_ones_stay_ones_and_scores_weigh() -> None:
    """The fold of ones over its divisor is 1 wherever patches lie inside the reference."""
    rows, columns = (torch.randint(1, 9, (1, 16, 16)) for _ in range(2))
    scores = torch.full((1, 1, 16, 16), 0.25)

    actual = transfer(
        torch.ones(1, 2, 40, 40), Matches(rows=rows, columns=columns, scores=scores), scale=4
    )

    assert torch.allclose(torch.full((1, 2, 64, 64), 0.25), actual, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 2])
def test_transfer_is_unfold_and_fold_block_by_block(scale: int) -> None:
    """The published form: patches of side 3s at stride s, folded with a divisor."""
    height, width = 16, 24
    given = features(1, 3, 10 * scale, 12 * scale)
    rows = torch.randint(0, 10, (1, height, width))
    columns = torch.randint(0, 12, (1, height, width))
    scores = torch.ones(1, 1, height, width)
    options = {"kernel_size": 3 * scale, "stride": scale, "padding": scale}
    patches = functional.unfold(given, **options)

    actual = transfer(given, Matches(rows=rows, columns=columns, scores=scores), scale=scale)

    size = BLOCK_PX * scale
    for top in range(0, height, BLOCK_PX):
        for left in range(0, width, BLOCK_PX):
            box = (0, slice(top, top + BLOCK_PX), slice(left, left + BLOCK_PX))
            place = (rows[box] * 12 + columns[box]).flatten()
            taken = patches[:, :, place]
            folded = functional.fold(taken, (size, size), **options)
            divisor = functional.fold(torch.ones_like(taken), (size, size), **options)
            at = (
                ...,
                slice(scale * top, scale * top + size),
                slice(scale * left, scale * left + size),
            )
            assert torch.allclose(folded / divisor, actual[at], atol=1e-5)


def test_gradient_reaches_features_and_scores_and_not_the_places() -> None:
    """The scores are the way by which matching learns."""
    lr, reference = (features(1, 3, 8, 8, seed=n).requires_grad_() for n in (0, 1))
    fine = features(1, 2, 16, 16, seed=2).requires_grad_()

    matches = match(lr, reference)
    transfer(fine, matches, scale=2).square().sum().backward()

    assert not matches.rows.requires_grad
    for tensor in (lr, reference, fine):
        assert tensor.grad is not None
        assert float(tensor.grad.abs().max()) > 0


def test_one_reference_for_all_is_the_same_as_a_copy_for_each() -> None:
    """It is not copied."""
    lr, reference = features(3, 4, 8, 16), features(1, 4, 12, 15, seed=1)
    fine = features(1, 2, 24, 30, seed=2)

    one, each = match(lr, reference), match(lr, reference.repeat(3, 1, 1, 1))

    assert torch.equal(one.rows, each.rows)
    assert torch.allclose(one.scores, each.scores)
    assert torch.allclose(
        transfer(fine, one, scale=2), transfer(fine.repeat(3, 1, 1, 1), each, scale=2)
    )


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((40, 40), 12), ((40, 240), 72), ((240, 240), 12), ((240, 40), 12), ((8, 5), 5)],
)
def test_window_grows_with_the_reference(sizes: tuple[int, int], expected: int) -> None:
    """One and a half blocks at equal sizes; never more than there is."""
    assert expected == masa_matching._window_px(*sizes)


def test_reflection_continues_small_images_too() -> None:
    """0 1 2 goes on with 1 0 1 2."""
    row = torch.tensor([0.0, 1.0, 2.0])[None, None, None]

    assert [0, 1, 2, 1, 0, 1, 2] == reflected(row, 0, 4)[0, 0, 0].tolist()
    assert [[0, 1, 2]] * 3 == reflected(row, 2, 0)[0, 0].tolist()
