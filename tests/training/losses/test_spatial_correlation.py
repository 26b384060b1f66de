"""FSeSim against a slow version on small maps, and on real features its properties."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from training.losses.features import Vgg16, load_vgg16
from training.losses.filters import gaussian_taps, separable_blur
from training.losses.queries import draw_queries, rarity_map
from training.losses.spatial_correlation import (
    SpatialCorrelation,
    fsesim,
    self_similarity,
    window_in_cells,
)

FORMS = ["paper", "normalised_l1"]
MAP_FORMS = ["paper_l1", "normalised_l1_maps"]


def fresh(seed: int = 0) -> torch.Generator:
    """Return a generator for one draw."""
    return torch.Generator().manual_seed(seed)


def maps(batch: int = 2, seed: int = 0) -> torch.Tensor:
    """Return non-negative random features (N, 5, 7, 9), wider than high, float64."""
    return 6 * torch.rand(batch, 5, 7, 9, generator=fresh(seed), dtype=torch.float64)


def slow_window(query: int, window_cells: int | None) -> list[int]:
    """List the keys of a query of a 7x9 map in row-major order."""
    rows = min(window_cells or 7, 7)
    columns = min(window_cells or 9, 9)
    top = min(max(query // 9 - rows // 2, 0), 7 - rows)
    left = min(max(query % 9 - columns // 2, 0), 9 - columns)
    return [r * 9 + c for r in range(top, top + rows) for c in range(left, left + columns)]


def slow_fsesim(
    source: np.ndarray, target: np.ndarray, queries: np.ndarray, form: str, window: int | None
) -> float:
    """Compute FSeSim query by query and key by key, as methods describe it."""
    losses = []
    for image in range(len(source)):
        prepared = []
        for features in (source[image], target[image]):
            flat = features.reshape(5, -1)
            flat = flat - flat.mean(1, keepdims=True)
            is_paper = form.startswith("paper")
            flat = flat / np.sqrt(5) if is_paper else flat / np.linalg.norm(flat, axis=0)
            prepared.append(flat)
        for query in queries[image]:
            keys = slow_window(int(query), window)
            similarities = []
            for flat in prepared:
                dots = np.array([flat[:, query] @ flat[:, key] for key in keys])
                similarities.append(np.tanh(dots / 10) if is_paper else dots)
            least = np.sort(similarities[1])[::-1][len(keys) // 4]
            a, b = (np.where(similarities[1] >= least, s, 0) for s in similarities)
            if form in MAP_FORMS:
                distances = len(keys) / (len(keys) // 4) * np.abs(a - b)
                squared = np.where(distances < 1, 0.5 * distances**2, distances - 0.5)
                losses.append(np.mean(squared if is_paper else distances))
                continue
            distance = 1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
            # Smooth L1 is half the square below 1; a cosine may be negative, and then it is linear.
            smooth = 0.5 * distance**2 if distance < 1 else distance - 0.5
            losses.append(smooth if form == "paper" else distance)
    return float(np.mean(losses))


@pytest.mark.parametrize("form", [*FORMS, *MAP_FORMS])
@pytest.mark.parametrize("window", [None, 3, 4, 8, 20])
def test_loss_equals_a_slow_version(form, window: int | None) -> None:
    """On a map that is not square, with windows below, between and above its sides."""
    source, target = maps(), maps(seed=1)
    shared, own = draw_queries(7, 9, 12, generator=fresh()), torch.randint(63, (2, 12))

    for queries in (shared, own):
        loss = fsesim(source, target, queries, form=form, window_cells=window)
        ids = queries.expand(2, -1).numpy()
        expected = slow_fsesim(source.numpy(), target.numpy(), ids, form, window)
        assert float(loss) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("form", [*FORMS, *MAP_FORMS])
def test_gradient_is_right_and_reaches_only_the_target(form) -> None:
    """Finite differences in float64; the source is what is to be kept."""
    source, target = maps(1).requires_grad_(), maps(1, seed=1).requires_grad_()
    queries = draw_queries(7, 9, 6, generator=fresh())

    assert torch.autograd.gradcheck(
        lambda x: fsesim(source, x, queries, form=form, window_cells=4), (target,)
    )
    fsesim(source, target, queries, form=form).backward()
    assert source.grad is None
    assert target.grad is not None


@pytest.mark.parametrize("form", FORMS)
def test_the_mask_is_the_targets(form) -> None:
    """The quarter of keys is chosen by one side, so that exchanging the images changes the loss."""
    queries = draw_queries(7, 9, 12, generator=fresh())
    one = float(fsesim(maps(), maps(seed=1), queries, form=form))
    other = float(fsesim(maps(seed=1), maps(), queries, form=form))

    assert abs(one - other) > 1e-3


def test_a_window_changes_the_loss_where_it_is_smaller_than_the_map() -> None:
    """Its side is in image pixels: 64 and 128 px are the same only on maps of 64 px or less."""
    assert [None, 16, 32, 1] == [window_in_cells(px, stride=4) for px in (None, 64, 128, 1)]
    queries = torch.arange(63)

    def loss(window: int | None) -> float:
        return float(fsesim(maps(), maps(seed=1), queries, window_cells=window))

    assert loss(9) == loss(None)
    assert loss(4) != loss(None)


def test_normalised_form_ignores_the_scale_of_features() -> None:
    """The paper's does not: its tanh bends at products of 10."""
    queries = torch.arange(63)

    def change(form) -> float:
        one = self_similarity(maps(), queries, form=form)
        return float((self_similarity(3 * maps(), queries, form=form) / one - 1).abs().median())

    assert change("normalised_l1") == pytest.approx(0, abs=1e-9)
    assert change("paper") > 0.5


def test_similarity_is_computed_in_float32_under_autocast() -> None:
    """Features may be bfloat16; their products are not."""
    features = maps().bfloat16()
    queries = torch.arange(63)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = self_similarity(features, queries, form="paper")

    assert torch.float32 == rough.dtype
    torch.testing.assert_close(rough, self_similarity(features.float(), queries, form="paper"))


def test_unknown_forms_and_unequal_maps_are_refused() -> None:
    """No silent default."""
    message = "forms are paper, paper_l1, normalised_l1, normalised_l1_maps, got 'cosine'"
    with pytest.raises(ValueError, match=message):
        self_similarity(maps(), torch.arange(3), form="cosine")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="two tensors of one shape"):
        fsesim(maps(2), maps(1), torch.arange(3))


# --- queries ---


def test_even_queries_are_different_places() -> None:
    """Each place at most once, all of them where more are asked for, seeded."""
    queries = draw_queries(6, 8, 20, generator=fresh())

    assert 20 == len(set(queries.tolist()))
    assert set(range(48)) == set(draw_queries(6, 8, 256, generator=fresh()).tolist())
    assert queries.tolist() == draw_queries(6, 8, 20, generator=fresh()).tolist()
    assert queries.tolist() != draw_queries(6, 8, 20, generator=fresh(1)).tolist()


def test_salient_queries_follow_the_saliency() -> None:
    """Half of them in proportion to the weights of each image, the others anywhere."""
    saliency = torch.zeros(2, 1, 20, 20)
    saliency[0, 0, 3, 4], saliency[0, 0, 3, 5], saliency[1, 0, 10, 10] = 3.0, 1.0, 0.1

    queries = draw_queries(20, 20, 400, generator=fresh(), saliency=saliency)

    assert (2, 400) == tuple(queries.shape)
    first, second = queries[:, :200].tolist()
    assert {64, 65} == set(first)
    assert 130 < first.count(64) < 170
    assert {210} == set(second)
    assert 200 == len(set(queries[0, 200:].tolist()))


def test_flat_saliency_is_no_error() -> None:
    """An image without structure gets even draws."""
    queries = draw_queries(8, 8, 64, generator=fresh(), saliency=torch.zeros(1, 1, 8, 8))

    assert len(set(queries[0, :32].tolist())) > 16


def test_bad_queries_are_refused() -> None:
    """A share beyond 1, saliency of another grid, an empty map."""
    with pytest.raises(ValueError, match=r"a share in \[0, 1\], got 4x4, 3 and 2\.0"):
        draw_queries(4, 4, 3, generator=fresh(), saliency=torch.ones(1, 1, 4, 4), salient_share=2.0)
    with pytest.raises(ValueError, match=r"saliency must be \(N, 1, 4, 4\)"):
        draw_queries(4, 4, 3, generator=fresh(), saliency=torch.ones(1, 1, 5, 4))
    with pytest.raises(ValueError, match="a map with places"):
        draw_queries(0, 4, 3, generator=fresh())


def test_rarity_equals_a_slow_version() -> None:
    """The fourth power of 1 - the mean cosine with the nearest keys, a place's own too."""
    features = maps(1)
    flat = features[0].reshape(5, -1).numpy()
    flat = flat - flat.mean(1, keepdims=True)
    flat = flat / np.linalg.norm(flat, axis=0)
    nearest = np.sort(flat.T @ flat, axis=1)[:, -16:]  # a quarter of 63

    rarity = rarity_map(features, generator=fresh(), nearest_share=0.25)

    expected = (1 - nearest.mean(1)) ** 4
    np.testing.assert_allclose(rarity.numpy().ravel(), expected, atol=1e-5)


def test_rarity_of_one_odd_place_among_alike_ones() -> None:
    """Also where only part of the places serve as keys, as on large maps."""
    features = torch.rand(1, 4, 40, 40, generator=fresh()) * 0.1
    features[0, :2] += (torch.arange(40) % 2).float()
    features[0, 3, 17, 23] += 2.0

    rarity = rarity_map(features, generator=fresh(), num_keys=200)[0, 0]

    assert 17 * 40 + 23 == int(rarity.argmax())


# --- with the trained network ---


@functools.cache
def loaded(path: Path) -> Vgg16:
    """Read the network once."""
    return load_vgg16(path)


@pytest.fixture
def vgg16(vgg16_path: Path) -> Vgg16:
    """Return the trained network, or skip."""
    return loaded(vgg16_path)


def lines(side_px: int = 128) -> torch.Tensor:
    """Return wavy lines with bright edges and a little grain, (1, 1, side, side)."""
    y, x = torch.meshgrid(*(torch.arange(side_px, dtype=torch.float32),) * 2, indexing="ij")
    profile = torch.tanh(4 * torch.sin((x + 3 * torch.sin(y / 17)) * 2 * torch.pi / 20))
    grain = 0.01 * torch.randn(side_px, side_px, generator=fresh())
    return (0.35 + 0.12 * profile + 0.2 * (1 - profile**2) + grain)[None, None]


def dots(side_px: int = 128) -> torch.Tensor:
    """Return rows of contact-like dots with a little grain, (1, 1, side, side)."""
    y, x = torch.meshgrid(*(torch.arange(side_px, dtype=torch.float32),) * 2, indexing="ij")
    phase = torch.sin((x + 3 * torch.sin(y / 17)) * 2 * torch.pi / 22)
    holes = torch.sigmoid(8 * (phase * torch.sin(y * 2 * torch.pi / 26) - 0.3))
    grain = 0.01 * torch.randn(side_px, side_px, generator=fresh())
    return (0.35 + 0.3 * holes + grain)[None, None]


def with_blob(image: torch.Tensor) -> torch.Tensor:
    """Put a bright blob of half a per cent of the area on an image."""
    side_px = image.shape[-1]
    y, x = torch.meshgrid(torch.arange(side_px), torch.arange(side_px), indexing="ij")
    distance = torch.hypot(x - 0.62 * side_px, y - 0.4 * side_px)
    blob = torch.sigmoid((0.04 * side_px - distance) / 1.5)
    return image * (1 - blob) + 0.65 * blob


@pytest.mark.parametrize("form", FORMS)
def test_appearance_costs_less_than_a_fifth_of_a_shift(vgg16: Vgg16, form) -> None:
    """Identity 0; gain with offset, and gamma, against a shift of 4 px."""
    wide = dots(136)
    image, shifted = wide[..., 4:132, 4:132], wide[..., 4:132, 8:136]
    correlation = SpatialCorrelation(vgg16, form=form)

    def loss(target: torch.Tensor) -> float:
        with torch.no_grad():
            return float(correlation(image, target, generator=fresh()))

    assert loss(image) == pytest.approx(0.0, abs=1e-6)
    shift = loss(shifted)
    assert loss(0.5 * image + 0.2) < 0.2 * shift
    assert loss(image**0.6) < 0.2 * shift


@pytest.mark.parametrize("form", FORMS)
def test_a_lost_defect_costs_several_times_more_with_salient_queries(vgg16: Vgg16, form) -> None:
    """Only the share differs; a change of gain stays as cheap as it was."""
    image = lines()
    defect = with_blob(image)

    def loss(source: torch.Tensor, target: torch.Tensor, share: float) -> float:
        correlation = SpatialCorrelation(vgg16, form=form, salient_share=share, border_px=16)
        with torch.no_grad():
            return float(correlation(source, target, generator=fresh()))

    lost = loss(defect, image, 0.5)
    assert lost > 2.5 * loss(defect, image, 0.0)
    assert loss(image, 0.5 * image + 0.2, 0.5) < 0.1 * lost


def test_correlation_trains_the_target(vgg16: Vgg16) -> None:
    """A few steps of descent on pixels move another image to the source's structure."""
    source = dots(64)
    target = separable_blur(dots(64).flip(3), gaussian_taps(2.0)).requires_grad_()
    correlation = SpatialCorrelation(vgg16, salient_share=0.5)

    before = correlation(source, target, generator=fresh())
    before.backward()

    assert target.grad is not None
    with torch.no_grad():
        stepped = target - 0.5 * target.grad / target.grad.norm()
        assert float(correlation(source, stepped, generator=fresh())) < float(before)
