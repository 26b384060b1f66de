"""The residual and the domain: slow references, and what must and must not alarm."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from export.residual import Explanation, domain_distances, domain_features, explain, residual_score

BASE, SLOPE = 8.6, 0.31
SIDE = 96


def _lines(seed: int = 0, *, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Blurred lines as a clean answer shows them and as a fast scan saw them, (H, W) grey."""
    rng = np.random.default_rng(seed)
    columns = np.arange(SIDE)
    clean = ndimage.gaussian_filter1d(np.where(columns % 12 < 6, 110.0, 45.0), 0.8)
    clean = np.tile(clean, (SIDE, 1))
    deviation = noise * np.sqrt(BASE + SLOPE * clean)
    return clean, clean + deviation * rng.standard_normal(clean.shape)


def _tensor(grey: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(grey.astype(np.float32))[None, None] / 255.0


def _explain(lr: np.ndarray, seen: np.ndarray) -> Explanation:
    return explain(_tensor(lr), _tensor(seen), noise_base=BASE, noise_slope=SLOPE)


def _score(lr: np.ndarray, seen: np.ndarray) -> float:
    return float(residual_score(_explain(lr, seen).residual))


def _with_spot(picture: np.ndarray, *, grey: float, sigma_px: float = 1.5) -> np.ndarray:
    spot = np.zeros_like(picture)
    spot[SIDE // 2, SIDE // 3] = 1.0
    spot = ndimage.gaussian_filter(spot, sigma_px)
    return picture + grey * spot / spot.max()


def _mean_of(values: np.ndarray, window: int, *, is_counting_border: bool) -> np.ndarray:
    """Box means pixel by pixel; beyond the border lie zeros or nothing."""
    result = np.empty_like(values)
    reach = window // 2
    for row, column in np.ndindex(*values.shape):
        part = values[
            max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1
        ]
        result[row, column] = part.sum() / (window**2 if is_counting_border else part.size)
    return result


def test_fit_and_residual_are_those_of_least_squares() -> None:
    """NumPy's solver finds the same gain, sharpness and residual."""
    seen, _ = _lines()
    lr = 8 + 1.3 * ndimage.gaussian_filter(_lines(1)[1], 0.5)

    found = _explain(lr, seen)

    smooth = _mean_of(seen, 3, is_counting_border=False)
    coarse, target = smooth - smooth.mean(), lr - lr.mean()
    fine = seen - seen.mean() - coarse
    # The prior is two more rows: both factors 1, weighed as a structure of two grey levels.
    weight = 2.0 * math.sqrt(lr.size)
    rows = np.concatenate([np.stack([coarse.ravel(), fine.ravel()], axis=1), weight * np.eye(2)])
    wanted = np.concatenate([target.ravel(), [weight, weight]])
    (gain, sharpness), *_ = np.linalg.lstsq(rows, wanted, rcond=None)
    expected = lr.mean() + gain * coarse + sharpness * fine
    residual = (lr - expected) / np.sqrt(BASE + SLOPE * np.clip(expected, 0, 255))
    assert pytest.approx(gain, abs=1e-3) == float(found.gain)
    assert pytest.approx(sharpness, abs=1e-3) == float(found.sharpness)
    np.testing.assert_allclose(found.residual[0, 0].numpy(), residual, atol=2e-3)


def test_score_is_that_of_a_slow_search() -> None:
    """Windows one by one, each size against its own mean of absolute values."""
    residual = np.random.default_rng(3).standard_normal((40, 52)).astype(np.float32)
    residual[18:24, 30:35] += 1.5

    blocks = residual.reshape(20, 2, 26, 2).mean(axis=(1, 3))
    blocks = blocks - _mean_of(blocks, 15, is_counting_border=False)
    scores = []
    for values, window in ((residual, 3), (blocks, 3), (blocks, 5)):
        means = np.abs(_mean_of(values, window, is_counting_border=True))
        scores.append(means.max() / (means.mean() * math.sqrt(math.pi / 2)))

    assert pytest.approx(max(scores), rel=1e-4) == float(
        residual_score(torch.from_numpy(residual)[None, None])
    )


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0, 2.5])
def test_blank_film_never_alarms(noise: float) -> None:
    """However noisy it is, and whether its answer keeps the noise or not."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        film = np.full((SIDE, SIDE), 72.0)
        lr = film + noise * 5.6 * rng.standard_normal(film.shape)
        for seen in (film, lr, ndimage.gaussian_filter(lr, 1.0)):
            assert _score(lr, seen) < 6.0


@pytest.mark.parametrize("grey", [30.0, -30.0])
def test_an_erased_and_an_invented_spot_alarm(grey: float) -> None:
    """A spot of either sign that only one of the two shows; not one that both show."""
    clean, _ = _lines()
    spotted = _with_spot(clean, grey=grey)
    noise = _lines(5)[1] - clean

    assert _score(spotted + noise, spotted) < 6.0
    assert _score(spotted + noise, clean) > 8.0
    assert _score(clean + noise, spotted) > 8.0


@pytest.mark.parametrize(("gain", "offset"), [(0.7, 20.0), (1.3, -10.0)])
def test_tone_and_noise_level_do_not_change_the_score(gain: float, offset: float) -> None:
    """Gain and offset are fitted, and the residual is measured against its own spread."""
    clean, noisy = _lines(2)

    expected = _score(noisy, clean)

    assert pytest.approx(expected, rel=0.05) == _score(noisy, gain * clean + offset)
    residual = _explain(noisy, clean).residual
    assert pytest.approx(float(residual_score(residual)), rel=1e-4) == float(
        residual_score(2.5 * residual)
    )


def test_features_are_what_their_names_say() -> None:
    """Mean, deviation, skewness, noise, sharpness and energies, against NumPy."""
    clean, noisy = _lines(4)
    explanation = _explain(noisy, clean)

    features = domain_features(_tensor(noisy), explanation)[0].numpy()

    centred = noisy - noisy.mean()
    energies = []
    picture = centred
    for _ in range(3):
        height, width = (side // 2 for side in picture.shape)
        picture = picture.reshape(height, 2, width, 2).mean(axis=(1, 3))
        energies.append((picture**2).mean())
    expected = [
        noisy.mean() / 255,
        0.5 * np.log(centred.var() + 4),
        (centred**3).mean() / (centred.var() + 4) ** 1.5,
        np.log(np.abs(explanation.residual.numpy()).mean() * math.sqrt(math.pi / 2) + 0.05),
        float(explanation.sharpness / explanation.gain),
        np.log(energies[0] - energies[1] + 1),
        np.log(energies[1] - energies[2] + 1),
        np.log(energies[2] + 1),
    ]
    np.testing.assert_allclose(features, expected, atol=2e-3)


def test_distance_is_mahalanobis() -> None:
    """Against a solver, and the same for every tile of a batch."""
    rng = np.random.default_rng(6)
    sample = rng.standard_normal((30, 4)) @ rng.standard_normal((4, 4))
    precision = np.linalg.inv(np.cov(sample, rowvar=False))
    mean = sample.mean(axis=0)
    expected = [math.sqrt((row - mean) @ precision @ (row - mean) / 4) for row in sample]

    found = domain_distances(
        torch.from_numpy(sample),
        means=torch.from_numpy(np.stack([mean, mean + 1])),
        precisions=torch.from_numpy(np.stack([precision, precision])),
    )

    np.testing.assert_allclose(found[:, 0].numpy(), expected, rtol=1e-9)
    assert (30, 2) == found.shape
    assert not np.allclose(found[:, 1].numpy(), expected)
