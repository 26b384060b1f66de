"""Faults of a fast scan over a whole frame: gains of lines, drift of brightness, charging tails.

All are small and of low frequency, at least along one axis; `capture` applies them to the signal
before the tone curve. They draw from a stream of their own, so that turning them on does not change
the noise of a picture.
"""

import math

import numpy as np

from training.simulator.layout import Floats


def line_gains(num_lines: int, sigma: float, rng: np.random.Generator) -> Floats:
    """Draw each line's gain, (lines, 1): beam current and amplifier differ from line to line."""
    return 1 + sigma * rng.standard_normal((num_lines, 1))


def frame_drift(num_lines: int, sigma: float, rng: np.random.Generator) -> Floats:
    """Draw a slow drift of brightness down the frame, (lines, 1), mean 1.

    A slope and one slow wave with random weights; `sigma` is the standard deviation over lines that
    it has on average.
    """
    place = (np.arange(num_lines)[:, None] + 0.5) / num_lines
    slope, wave = rng.standard_normal(2)
    phase = rng.uniform(0, 2 * math.pi)
    shape = 0.8 * slope * math.sqrt(12) * (place - 0.5)
    shape = shape + 0.6 * wave * math.sqrt(2) * np.sin(2 * math.pi * place + phase)
    return 1 + sigma * shape


def charging_tails(signal: Floats, strength: float, length_px: float) -> Floats:
    """Darken what the beam scans after something bright: a tail to the right within each line.

    Where more electrons leave than arrive, the insulator charges positively and holds back the
    secondaries of the pixels after it until the charge has leaked away (Reimer 1998, on
    specimen charging; Cazaux, J. Microsc. 217, 16, 2005). The charge is taken to follow the excess
    of the signal over its line's mean and to leak exponentially.

    Args:
        signal: (rows, columns), scanned from left to right.
        strength: Relative loss of signal in the tail of an endless feature of excess 1, which is
            also the largest loss.
        length_px: Decay length.

    Returns:
        The darkened signal, the same shape.
    """
    excess = np.maximum(signal - signal.mean(axis=1, keepdims=True), 0.0)
    kept = math.exp(-1 / length_px)
    # Each line begins in the state that lines like it leave behind.
    charge = kept * excess.mean(axis=1)
    charges = np.empty_like(excess)
    for column in range(excess.shape[1]):
        charges[:, column] = charge
        charge = kept * charge + (1 - kept) * excess[:, column]
    return signal * (1 - strength * np.minimum(charges, 1.0))
