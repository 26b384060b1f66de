"""Times at which requests are due, fixed before the first is sent and independent of answers."""

import random

Seconds = list[float]


def constant(rate_per_s: float, seconds: float) -> Seconds:
    """Return times from 0 up to `seconds` at even distances."""
    return [number / rate_per_s for number in range(round(rate_per_s * seconds))]


def poisson(rate_per_s: float, seconds: float, *, seed: int) -> Seconds:
    """Return times from 0 up to `seconds` of a Poisson process; one seed gives the same times."""
    rng = random.Random(seed)  # noqa: S311 - a load, not a secret
    times: Seconds = []
    time_s = rng.expovariate(rate_per_s)
    while time_s < seconds:
        times.append(time_s)
        time_s += rng.expovariate(rate_per_s)
    return times
