"""The pixel size, which metrology tools need, and how headers and files state it.

Every reader of this package ends here: a statement in a file, in any unit, becomes a
`PixelSize` in nanometres, or None where the file states no possible size on the wafer.
"""

import re
from dataclasses import dataclass
from typing import Self

from service.ground.errors import BadRequest

NM_PER_M = 1e9
NM_PER_CM = 1e7
NM_PER_INCH = 2.54e7

# Resolutions of 2540 dpi and coarser (a pixel of 10 µm and more) describe a sheet of paper or a
# screen: 72, 96 and 300 dpi are the defaults of image libraries. A SEM image with so large a pixel
# would show a field of centimetres. Finer ones are trusted.
PRINT_PIXEL_NM = 10_000.0

# Possible pixel sizes: a hundredth of an atom to a metre.
_SMALLEST_NM = 1e-3
_LARGEST_NM = 1e9

# Units as the vendors, OME and ImageJ spell them. Both code points of the micro sign occur (U+00B5,
# U+03BC), and both of the ångström (U+00C5, U+212B).
_UNIT_NM = {
    "pm": 1e-3,
    "a": 0.1,
    "\u00e5": 0.1,
    "angstrom": 0.1,
    "nm": 1.0,
    "nanometer": 1.0,
    "um": 1e3,
    "\u00b5m": 1e3,
    "\u03bcm": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "mm": 1e6,
    "cm": NM_PER_CM,
    "m": NM_PER_M,
    "inch": NM_PER_INCH,
    "in": NM_PER_INCH,
}

_HEADER = re.compile(
    r"\s*([0-9]{1,15}(?:\.[0-9]{0,15})?(?:[eE][-+]?[0-9]{1,3})?)"
    r"(?:\s*,\s*([0-9]{1,15}(?:\.[0-9]{0,15})?(?:[eE][-+]?[0-9]{1,3})?))?\s*",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class PixelSize:
    """The size of one pixel on the sample.

    Attributes:
        x_nm: Distance between neighbouring columns, in nanometres, positive.
        y_nm: Distance between neighbouring rows, in nanometres, positive.
    """

    x_nm: float
    y_nm: float

    @classmethod
    def sane(cls, x_nm: float, y_nm: float) -> Self | None:
        """Return the pixel size, or None where the values cannot be one (0, NaN, implausible).

        Rounds to nine significant digits, more than any file format keeps, so that 4 nm read back
        from a rational or an integer number of pixels per metre is 4 nm again.
        """
        if not all(_SMALLEST_NM <= value <= _LARGEST_NM for value in (x_nm, y_nm)):
            return None
        return cls(float(f"{x_nm:.9g}"), float(f"{y_nm:.9g}"))

    @classmethod
    def from_density(cls, x_per_m: float, y_per_m: float) -> Self | None:
        """Return the pixel size of a resolution tag, or None for the resolution of a print.

        Args:
            x_per_m: Pixels per metre along a row.
            y_per_m: Pixels per metre along a column.
        """
        if not (x_per_m > 0 and y_per_m > 0):
            return None
        size = cls.sane(NM_PER_M / x_per_m, NM_PER_M / y_per_m)
        if size is None or max(size.x_nm, size.y_nm) >= PRINT_PIXEL_NM:
            return None
        return size

    def times(self, factor_x: float, factor_y: float) -> "PixelSize":
        """Return the size multiplied by a factor along each axis."""
        return PixelSize(float(f"{self.x_nm * factor_x:.9g}"), float(f"{self.y_nm * factor_y:.9g}"))

    def __str__(self) -> str:
        return f"{self.x_nm:.9g},{self.y_nm:.9g}"


def unit_in_nm(unit: str) -> float | None:
    r"""Return how many nanometres a unit of length has, or None for another unit.

    ImageJ writes the micro sign as the six characters `\u00B5`, XML as `&#181;` or `&#xB5;`.
    """
    plain = unit.strip().lower()
    for spelling in ("\\u00b5", "&#181;", "&#xb5;", "&micro;"):
        plain = plain.replace(spelling, "\u00b5")
    return _UNIT_NM.get(plain)


def parse_pixel_size(header: str) -> PixelSize:
    """Read the header `X-Pixel-Size-Nm`: `4`, or `4,4.5` for x and y, in nanometres.

    Raises:
        BadRequest: It is not one or two positive numbers.
    """
    match = _HEADER.fullmatch(header)
    size = None
    if match is not None:
        x_nm = float(match[1])
        size = PixelSize.sane(x_nm, float(match[2]) if match[2] is not None else x_nm)
    if size is None:
        raise BadRequest(
            f"X-Pixel-Size-Nm is {header[:60]!r}; expected one positive number, or two for x and y "
            "(nanometres per pixel), as in 4 or 4,4.5"
        )
    return size


def format_pixel_size(size: PixelSize) -> str:
    """Return a pixel size as the value of the header `X-Pixel-Size-Nm`, always as `x,y`."""
    return str(size)
