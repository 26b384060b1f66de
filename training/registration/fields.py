"""Where an LR picture and an HR picture of one place overlap, on the HR grid.

The LR picture is enlarged to the HR grid (`u`). A shift d = (dy, dx) of a pair, in HR px, says that
the scene lies d further down and right in HR than in `u` where the two fields are centred on each
other: HR(p + origin + d) = u(p). Fields of equal size have the origin (0, 0).
"""

from dataclasses import dataclass
from typing import Literal

Axis = Literal["y", "x"]
AXES: tuple[Axis, Axis] = ("y", "x")
"""Names of the array axes 0 and 1."""

Shift = tuple[float, float]
"""(dy, dx) in HR px."""


@dataclass(frozen=True)
class Fields:
    """Sizes of the two pictures of a pair.

    Attributes:
        lr_shape: Rows and columns of the LR picture.
        hr_shape: Rows and columns of the HR picture.
        scale: HR px per LR px.
    """

    lr_shape: tuple[int, int]
    hr_shape: tuple[int, int]
    scale: int

    @property
    def origin(self) -> tuple[int, int]:
        """HR pixel under the first pixel of the enlarged LR picture when both are centred."""
        return (
            (self.hr_shape[0] - self.scale * self.lr_shape[0]) // 2,
            (self.hr_shape[1] - self.scale * self.lr_shape[1]) // 2,
        )

    def searchable(self, max_shift_px: int) -> tuple[slice, slice]:
        """Return the part of `u` that stays within HR at every shift up to the maximum."""
        rows, columns = (
            slice(
                max(0, max_shift_px - origin),
                min(self.scale * lr, hr - max_shift_px - origin),
            )
            for lr, hr, origin in zip(self.lr_shape, self.hr_shape, self.origin, strict=True)
        )
        return rows, columns

    def crops(self, shift: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the LR part and the HR part that show the same field after a whole shift.

        Args:
            shift: Whole HR px.

        Returns:
            Rows and columns of LR, and of HR: HR's sides are exactly `scale` times LR's. Slices are
            empty where nothing overlaps.
        """
        lr_part, hr_part = [], []
        for lr, hr, origin, d in zip(self.lr_shape, self.hr_shape, self.origin, shift, strict=True):
            offset = origin + d
            first = -(min(0, offset) // self.scale)  # rounded up
            last = max(first, min(lr, (hr - offset) // self.scale))
            lr_part.append(slice(first, last))
            hr_part.append(slice(self.scale * first + offset, self.scale * last + offset))
        return (lr_part[0], lr_part[1]), (hr_part[0], hr_part[1])
