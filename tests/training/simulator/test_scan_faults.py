"""Faults of a whole frame: gains of lines, drift, charging tails; they touch nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from training.simulator.capture import INSPECTION, REVIEW, STEADY_INSPECTION, capture, noise_free
from training.simulator.layout import Canvas
from training.simulator.scan_faults import charging_tails, frame_drift, line_gains

CANVAS = Canvas(tile_px=384, margin_px=48, pixel_nm=1.0)


def test_line_gains_have_their_sigma_and_no_memory() -> None:
    """Gains of lines scatter about 1 and do not depend on the line before."""
    gains = line_gains(20_000, 0.01, np.random.default_rng(0))[:, 0]
    assert gains.mean() == pytest.approx(1, abs=0.0005)
    assert gains.std() == pytest.approx(0.01, rel=0.02)
    assert abs(np.corrcoef(gains[1:], gains[:-1])[0, 1]) < 0.03


def test_drift_is_slow_and_of_its_sigma() -> None:
    """Over many frames it deviates as stated, and between two lines hardly at all."""
    rng = np.random.default_rng(1)
    drifts = np.stack([frame_drift(240, 0.02, rng)[:, 0] for _ in range(600)])
    assert np.sqrt(((drifts - 1) ** 2).mean()) == pytest.approx(0.02, rel=0.1)
    assert np.abs(np.diff(drifts, axis=1)).max() < 0.002


def test_tail_is_dark_to_the_right_and_decays() -> None:
    """After a bright bar the line is darker by a few percent, half as much a decay length on."""
    signal = np.ones((3, 400))
    signal[1, 150:180] = 3.0
    tails = charging_tails(signal, 0.08, 40.0) / signal
    np.testing.assert_array_equal(tails[[0, 2]], 1.0)  # other lines are left alone
    loss = 1 - tails[1]
    assert 0.02 < loss[181] < 0.08
    assert loss[181 + 40] / loss[181] == pytest.approx(np.exp(-1), rel=0.01)
    assert loss[149] < 0.15 * loss[181]
    assert loss.min() >= 0


def test_tails_are_the_sum_of_what_each_pixel_left() -> None:
    """The charge is every earlier pixel's excess, decayed, and the line's mean before its start."""
    rng = np.random.default_rng(2)
    signal = rng.uniform(0.5, 2.0, (4, 60))
    expected = np.empty_like(signal)
    kept = np.exp(-1 / 25)
    for row, line in enumerate(signal):
        excess = np.maximum(line - line.mean(), 0)
        for column, value in enumerate(line):
            charge = kept ** (column + 1) * excess.mean()
            for earlier in range(column):
                charge += (1 - kept) * kept ** (column - 1 - earlier) * excess[earlier]
            expected[row, column] = value * (1 - 0.08 * charge)
    np.testing.assert_allclose(charging_tails(signal, 0.08, 25.0), expected, rtol=1e-12)


def test_faults_leave_noise_and_jitter_alone() -> None:
    """Turned off, one by one, every other draw of a picture stays."""
    signal = np.ones(CANVAS.shape)
    signal[:, 200:260] = 2.0

    def scan(**faults: float) -> np.ndarray:
        mode = replace(STEADY_INSPECTION, noise_per_grey=1e-9, **faults)
        return capture(signal, CANVAS, mode, np.random.default_rng(3), fine_per_pixel=4)

    still, moving = scan(), scan(line_gain_sigma=0.01)
    rows = (moving - STEADY_INSPECTION.tone_offset) / (still - STEADY_INSPECTION.tone_offset)
    assert np.abs(still - moving).max() > 0.5
    # The same noise lies on both, so that it is the same ratio all along a line but for the noise.
    assert np.median(rows.std(axis=1)) < 0.01
    assert np.corrcoef(rows[:, 5], rows[:, -5])[0, 1] > 0.5


def test_review_has_no_faults_and_inspection_all() -> None:
    """On a flat area review repeats itself from line to line, inspection does not."""
    flat = np.ones(CANVAS.shape)
    review, inspection = (
        noise_free(flat, CANVAS, mode, np.random.default_rng(4), fine_per_pixel=4)
        for mode in (REVIEW, INSPECTION)
    )
    assert np.ptp(review) < 1e-9
    lines = inspection.mean(axis=1)
    assert 0.005 < np.diff(lines).std() / lines.mean() / np.sqrt(2) < 0.015
    assert np.ptp(inspection, axis=1).max() < 1e-9  # along a flat line nothing charges
