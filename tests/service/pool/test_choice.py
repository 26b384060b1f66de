"""Choice of the engine process."""

import pytest

from service.pool.choice import expected_s


@pytest.mark.parametrize(
    ("reported_s", "in_flight", "expected"),
    [(0.0, 0, 0.5), (3.0, 2, 3.5), (0.25, 4, 2.5)],
)
def test_the_larger_estimate_counts_and_the_tile_itself(
    reported_s: float, in_flight: int, expected: float
) -> None:
    """The report, which may be old, or this front end's own tiles."""
    assert expected == expected_s(reported_s=reported_s, in_flight=in_flight, per_tile_s=0.5)


def test_the_faster_of_two_idle_processes_is_better() -> None:
    """Although neither has anything to do."""
    fast, slow = (expected_s(reported_s=0.0, in_flight=0, per_tile_s=s) for s in (0.1, 0.2))
    assert fast < slow
