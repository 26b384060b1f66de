"""PatchNCE and MoNCE: equal to the published code, to a slow version and to closed forms."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from training.losses.patch_nce import patch_nce
from training.losses.transport import Kind, transport_weights

PUBLISHED = {
    "same": [0.0002365, 0.0002500, 0.0004115, 0.0002238, 0.0001362],
    "near": [0.0163530, 0.0172753, 0.0281876, 0.0154794, 0.0094468],
    "other": [5.8571730, 5.9113474, 6.3867111, 5.8028727, 5.3126483],
    "repeated": [1.3062438, 1.7668517, 3.1632509, 0.8815420, 0.0034363],
}
"""PatchNCE, hard at beta 1.0 and 0.1, easy at 1.0 and 0.1: losses of the published code of CUT and
MoNCE (github.com/fnzhan/MoNCE) on the vectors of `drawn`, which are run there in single precision;
their code is not here."""

SPANS = {
    "same": [(0.08, 10.6), (0.06, 8.3)],
    "near": [(0.06, 11.0), (0.06, 10.2)],
    "other": [(0.05, 8.3), (0.08, 13.0)],
    "repeated": [(0.001, 15.3), (0.0, 5.9)],
}
"""Least and greatest weight of a negative, times P - 1, at beta 0.1: hard, then easy."""


def drawn() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Draw the pairs of queries and keys, (256, 256) each, in the order of the published run."""
    generator = torch.Generator().manual_seed(11)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    def unit(values: torch.Tensor) -> torch.Tensor:
        return functional.normalize(values, dim=1)

    x = unit(normal(256, 256))
    y = unit(x + unit(normal(256, 256)))
    z = unit(normal(256, 256))
    prototypes = normal(8, 256)
    r = unit(prototypes[torch.arange(256) % 8] + 0.5 * normal(256, 256))
    s = unit(r + 0.5 * unit(normal(256, 256)))
    return {"same": (x, x), "near": (x, y), "other": (x, z), "repeated": (r, s)}


def unit_vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    """Draw unit vectors in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(
        torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_losses_equal_the_published_code(name: str) -> None:
    """All columns of a row to 1e-5 of the value, or to the last digit that is known."""
    queries, keys = drawn()[name]
    similarity = queries @ keys.T
    weights = [
        transport_weights(similarity, beta=beta, kind=kind)
        for kind in ("hard", "easy")
        for beta in (1.0, 0.1)
    ]

    losses = [float(patch_nce(queries, keys, weights=w)) for w in [None, *weights]]

    assert pytest.approx(PUBLISHED[name], rel=1e-5, abs=6e-8) == losses


@pytest.mark.parametrize("name", SPANS)
def test_weights_span_what_the_published_ones_do(name: str) -> None:
    """To the digits that are known; a diagonal that counted would be among the extremes."""
    queries, keys = drawn()[name]
    others = ~torch.eye(256, dtype=torch.bool)

    for kind, (least, most) in zip(("hard", "easy"), SPANS[name], strict=True):
        weights = 255 * transport_weights(queries @ keys.T, beta=0.1, kind=kind)[others]
        assert pytest.approx(least, abs=0.005) == float(weights.min())
        assert pytest.approx(most, abs=0.06) == float(weights.max())


def test_loss_equals_a_slow_version() -> None:
    """Query by query, with and without weights; images do not see each other's keys."""
    queries, keys = unit_vectors(2, 5, 7), unit_vectors(2, 5, 7, seed=1)
    weights = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for factors in (np.ones((2, 5, 5)), 4 * weights.numpy()):
        losses = []
        for image in range(2):
            cosines = (queries[image] @ keys[image].T).numpy()
            for place in range(5):
                others = [j for j in range(5) if j != place]
                right = math.exp(cosines[place, place] / 0.2)
                wrong = sum(
                    factors[image, place, j] * math.exp(cosines[place, j] / 0.2) for j in others
                )
                losses.append(-math.log(right / (right + wrong)))
        weighted = None if factors.min() == 1 else weights

        loss = patch_nce(queries, keys, temperature=0.2, weights=weighted)

        assert pytest.approx(np.mean(losses), rel=1e-6) == float(loss)


@pytest.mark.parametrize("places", [64, 256])
def test_equal_vectors_give_the_logarithm_of_the_number_of_places(places: int) -> None:
    """The own column is excluded and the positive is added."""
    equal = unit_vectors(1, 9).expand(places, 9)

    assert pytest.approx(math.log(places), rel=1e-6) == float(patch_nce(equal, equal))


def test_a_high_temperature_makes_random_vectors_equal() -> None:
    """At this T, the masked logit of -10 still adds exp(-10 / T) to the 255 negatives."""
    queries, keys = unit_vectors(256, 64), unit_vectors(256, 64, seed=1)

    loss = float(patch_nce(queries, keys, temperature=100.0))

    assert pytest.approx(math.log(256 + math.exp(-0.1)), abs=1e-3) == loss


def test_even_weights_are_patch_nce() -> None:
    """1 / (P - 1) for each negative changes nothing; the diagonal does not matter."""
    queries, keys = unit_vectors(64, 16), unit_vectors(64, 16, seed=1)
    even = torch.full((64, 64), 1 / 63, dtype=torch.float64)
    plain = float(patch_nce(queries, keys))

    assert pytest.approx(plain, rel=1e-6) == float(patch_nce(queries, keys, weights=even))
    even.fill_diagonal_(5.0)
    assert pytest.approx(plain, rel=1e-6) == float(patch_nce(queries, keys, weights=even))


@pytest.mark.parametrize("kind", ["hard", "easy"])
def test_a_large_beta_is_patch_nce(kind: Kind) -> None:
    """The weights of 64 places are then 1 / 63: the number of places counts, not 256."""
    queries, keys = unit_vectors(64, 16), unit_vectors(64, 16, seed=1)
    weights = transport_weights(queries @ keys.T, beta=1e4, kind=kind)

    loss = float(patch_nce(queries, keys, weights=weights))

    # At this beta, exp(-10 / beta) of the diagonal is nearly 1: weights are 1 / 64.
    assert pytest.approx(1 / 64, rel=2e-3) == float(weights[0, 1])
    assert pytest.approx(float(patch_nce(queries, keys)), rel=5e-3) == loss


def test_keys_get_no_gradient() -> None:
    """Only the output's side learns, with weights as well."""
    queries, keys = (unit_vectors(2, 8, 4, seed=n).requires_grad_() for n in (0, 1))
    weights = transport_weights(queries @ keys.transpose(1, 2), beta=0.2, kind="easy")

    patch_nce(queries, keys, weights=weights).backward()

    assert not weights.requires_grad
    assert keys.grad is None
    assert queries.grad is not None
    assert float(queries.grad.abs().max()) > 0


def test_gradient_equals_finite_differences() -> None:
    """In double precision, the weights held fixed."""
    keys = unit_vectors(1, 6, 4, seed=1)
    weights = transport_weights(unit_vectors(1, 6, 4) @ keys.transpose(1, 2), beta=0.3, kind="hard")

    assert torch.autograd.gradcheck(
        lambda q: patch_nce(q, keys, weights=weights), unit_vectors(1, 6, 4).requires_grad_()
    )


@pytest.mark.parametrize("kind", ["hard", "easy"])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_rows_and_columns_of_weights_sum_to_one(kind: Kind, beta: float) -> None:
    """After 50 iterations, to 1e-6, with nothing on the diagonal at the published precision."""
    queries, keys = unit_vectors(2, 96, 64), unit_vectors(2, 96, 64, seed=1)

    weights = transport_weights(queries @ keys.transpose(1, 2), beta=beta, kind=kind)

    for axis in (1, 2):
        assert float((weights.sum(axis) - 1).abs().max()) < 1e-6
    assert float(weights.diagonal(dim1=1, dim2=2).max()) < 1e-4


@pytest.mark.parametrize("kind", ["hard", "easy"])
@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_logarithms_equal_the_direct_iterations(kind: Kind, beta: float) -> None:
    """Sinkhorn's own form: u = 1 / (K v), v = 1 / (K' u), w = u K v."""
    similarity = unit_vectors(20, 8) @ unit_vectors(20, 8, seed=1).T
    gain = similarity.clone() if kind == "hard" else 1 - similarity
    kernel = torch.exp(gain.fill_diagonal_(-10.0) / beta)
    u, v = torch.ones(20, 1).double(), torch.ones(20, 1).double()
    for _ in range(50):
        u = 1 / (kernel @ v)
        v = 1 / (kernel.T @ u)

    weights = transport_weights(similarity, beta=beta, kind=kind)

    assert torch.allclose(u * kernel * v.T, weights, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("kind", ["hard", "easy"])
def test_small_beta_stays_finite(kind: Kind) -> None:
    """In single precision, where exp(2 / 0.02) is infinite, and on equal vectors too."""
    queries = unit_vectors(32, 8).float()
    for keys in (unit_vectors(32, 8, seed=1).float(), -queries, queries[:1].expand(32, 8)):
        weights = transport_weights(queries @ keys.T, beta=0.02, kind=kind)
        assert torch.isfinite(weights).all()
        assert torch.isfinite(patch_nce(queries, keys, weights=weights))


def test_smaller_beta_spreads_the_weights() -> None:
    """The reason for choosing it: at 1.0, all negatives count nearly alike."""
    similarity = unit_vectors(64, 32) @ unit_vectors(64, 32, seed=1).T
    spreads = [
        float(transport_weights(similarity, beta=beta, kind="easy").std())
        for beta in (1.0, 0.3, 0.1)
    ]

    assert spreads == sorted(spreads)
    assert spreads[2] > 5 * spreads[0]


def test_easy_weights_ignore_repeats_of_a_place() -> None:
    """Repeats are no errors: hard weights push them apart, easy ones do not count them."""
    queries, keys = drawn()["repeated"]
    twins = (torch.arange(256)[:, None] - torch.arange(256)) % 8 == 0
    twins.fill_diagonal_(fill_value=False)
    shares = {
        kind: float(transport_weights(queries @ keys.T, beta=0.1, kind=kind)[twins].sum() / 256)
        for kind in ("hard", "easy")
    }

    # Of 255 negatives, 31 are twins: 12 %.
    assert shares["hard"] > 0.9
    assert shares["easy"] < 1e-3


def test_half_precision_is_computed_in_single() -> None:
    """Under autocast the constant 1e-8 would be 0 and its logarithm infinite."""
    queries, keys = unit_vectors(16, 8).float(), unit_vectors(16, 8, seed=1).float()
    weights = torch.zeros(16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = patch_nce(queries, keys, weights=weights)

    assert torch.float32 == loss.dtype
    assert torch.equal(patch_nce(queries, keys, weights=weights), loss)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((4, 4), {"kind": "soft"}, "kind is 'soft', expected one of hard, easy"),
        ((4, 4), {"beta": 0.0}, "beta is 0.0"),
        ((4, 4), {"iterations": 0}, "iterations are 0"),
        ((4, 5), {}, r"similarity has shape \(4, 5\)"),
        ((1, 1), {}, "P >= 2"),
    ],
)
def test_wrong_arguments_of_weights_are_rejected(shape, options, message: str) -> None:
    """Errors name the argument, the value and what was expected."""
    with pytest.raises(ValueError, match=message):
        transport_weights(torch.zeros(shape), **{"beta": 1.0, "kind": "hard", **options})


def test_wrong_arguments_of_the_loss_are_rejected() -> None:
    """PyTorch would broadcast some of them silently."""
    vectors = unit_vectors(2, 4, 3)
    with pytest.raises(ValueError, match="one shape"):
        patch_nce(vectors, vectors[:1])
    with pytest.raises(ValueError, match="one shape"):
        patch_nce(vectors, vectors, weights=torch.ones(4, 4))
    with pytest.raises(ValueError, match=r"queries have shape \(3,\)"):
        patch_nce(vectors[0, 0], vectors[0, 0])
    with pytest.raises(ValueError, match="temperature is 0"):
        patch_nce(vectors, vectors, temperature=0)
