"""The whole shift of a pair, and whether it is the only one that the pictures allow.

Along each axis, every position is represented by its best shift across (the profile of the
likelihood). Positions far from the best one that are not clearly worse have one of two reasons:

- a ridge: the likelihood stays high in between, as along straight lines. The shift along the axis
  is unknown, which a pixel loss does not see;
- another peak: the likelihood falls in between, as at the next period of a grating.

Edges with visible roughness make the shift along lines known, although the correlation changes
little there; a bound on the ratio of the structure tensor's eigenvalues would call it unknown.
"""

from dataclasses import dataclass

import numpy as np

from training.registration.fields import AXES, Axis
from training.registration.window_scores import (
    CLEAR_LOSS,
    EQUAL_LOSS,
    Scores,
    WindowScores,
    interpolated,
)

PEAK_RADIUS_PX = 3
"""Positions this near are one peak: the shift's own uncertainty."""

RIDGE_PX = 6
"""Least distance of a position that makes the shift along an axis unknown; nearer ones add to its
standard error."""

Whole = tuple[int, int]


@dataclass(frozen=True)
class FoundShift:
    """Outcome of a search.

    Attributes:
        shift: Whole (dy, dx) in HR px.
        unknown_axis: Axis along which the pictures do not determine the shift; the shift along it
            is then the smallest that they allow.
        others: Shifts of other peaks that explain the pair as well, nearest first.
        is_at_limit: Whether the shift is the greatest that was searched.
        has_structure: False if neither axis is determined.
    """

    shift: Whole
    unknown_axis: Axis | None
    others: tuple[Whole, ...]
    is_at_limit: bool
    has_structure: bool


class _Profile:
    """Best shifts along one axis.

    Attributes:
        across: For every position along the axis, index of the best position across.
        scores: (windows, positions), interpolated to the fraction across.
        total: (positions,), sum of `scores`.
    """

    def __init__(self, scores: Scores, axis: int) -> None:
        along = scores if axis == 0 else scores.swapaxes(1, 2)
        total = along.sum(0)
        self.across = [int(np.argmax(row)) for row in total]
        self.scores = np.stack(
            [
                interpolated(along[:, position], total[position], column)
                for position, column in enumerate(self.across)
            ],
            axis=1,
        )
        self.total = self.scores.sum(0)


def search(scores: WindowScores) -> FoundShift:
    """Find the most likely whole shift, and the shifts that are as likely."""
    reach, best = scores.max_shift_px, scores.best
    profiles = [_Profile(scores.scores, 0), _Profile(scores.scores, 1)]
    allowed = [_ridge(scores, profile, at) for profile, at in zip(profiles, best, strict=True)]
    ridges = [number for number in (0, 1) if allowed[number]]
    if not ridges:
        others = _other_peaks(scores, profiles)
        return _found(best, None, others, reach, has_structure=True)
    # Of lines across both axes, the axis nearer to the direction of the lines.
    number = ridges[0] if len(ridges) == 1 else _axis_of_lines(profiles[0], best)
    along = min(allowed[number], key=lambda position: abs(position - reach))
    across = profiles[number].across[along]
    line = scores.scores[:, along] if number == 0 else scores.scores[:, :, along]
    return _found(
        _ordered(number, along, across),
        number,
        {_ordered(number, along, peak) for peak in _equal_peaks(scores, line, across)},
        reach,
        has_structure=_is_narrow(scores, line, across),
    )


def _found(
    at: Whole, unknown: int | None, others: set[Whole], reach: int, *, has_structure: bool
) -> FoundShift:
    nearest = sorted(others, key=lambda other: (np.hypot(*np.subtract(other, reach)), other))
    return FoundShift(
        shift=(at[0] - reach, at[1] - reach),
        unknown_axis=None if unknown is None else AXES[unknown],
        others=tuple((y - reach, x - reach) for y, x in nearest),
        is_at_limit=any(at[number] in (0, 2 * reach) for number in (0, 1) if number != unknown),
        has_structure=has_structure,
    )


def _ordered(number: int, along: int, across: int) -> Whole:
    return (along, across) if number == 0 else (across, along)


def _ridge(scores: WindowScores, profile: _Profile, best: int) -> list[int]:
    """Return the positions along an axis that a ridge makes as likely as the best; or none."""

    def is_equal(position: int) -> bool:
        preference = scores.preference(profile.scores[:, best], profile.scores[:, position])
        return not preference.is_clear(EQUAL_LOSS) and _stays_high(scores, profile, best, position)

    equal = [position for position in range(len(profile.across)) if is_equal(position)]
    is_wide = any(abs(position - best) >= RIDGE_PX for position in equal)
    return equal if is_wide else []


def _stays_high(scores: WindowScores, profile: _Profile, best: int, position: int) -> bool:
    """Whether the likelihood stays high between the best position and another one."""
    first, last = sorted((best, position))
    lowest = first + int(np.argmin(profile.total[first : last + 1]))
    return scores.preference(profile.scores[:, best], profile.scores[:, lowest]).loss < CLEAR_LOSS


def _other_peaks(scores: WindowScores, profiles: list[_Profile]) -> set[Whole]:
    """Return the peaks of the two profiles that are not clearly worse than the best shift."""
    return {
        _ordered(number, position, profile.across[position])
        for number, profile in enumerate(profiles)
        for position in _equal_peaks(scores, profile.scores, scores.best[number])
    }


def _equal_peaks(scores: WindowScores, line: Scores, best: int) -> list[int]:
    """Return the peaks along a line of shifts that are not clearly worse than the best one.

    Args:
        scores: Scores of the pair.
        line: (windows, positions).
        best: Position of the best shift.
    """
    total = line.sum(0)
    reference = interpolated(line, total, best)
    return [
        position
        for position in range(len(total))
        if abs(position - best) > PEAK_RADIUS_PX
        and total[position] >= total[max(0, position - 1) : position + 2].max()
        and not scores.preference(reference, interpolated(line, total, position)).is_clear()
    ]


def _axis_of_lines(profile: _Profile, best: Whole) -> int:
    """Return the axis nearer to a ridge that lies across both, by its slope at the best shift."""
    positions = np.arange(len(profile.across))
    near = np.abs(positions - best[0]) <= 2 * PEAK_RADIUS_PX
    slope = np.polyfit(positions[near], np.array(profile.across, dtype=np.float64)[near], 1)[0]
    return 0 if abs(slope) <= 1 else 1


def _is_narrow(scores: WindowScores, line: Scores, best: int) -> bool:
    """Whether a line of shifts across a ridge has one narrow peak."""
    next_to = (best - PEAK_RADIUS_PX - 1, best + PEAK_RADIUS_PX + 1)
    return all(
        scores.preference(line[:, best], line[:, position]).is_clear()
        for position in next_to
        if 0 <= position < line.shape[1]
    )
