"""Defects: the typed view of the rows of a defect list, alike for both versions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from service.scans.klarf.values import INTEGER, MISSING, NUMBER, ImageRef, integer, number
from service.scans.klarf.wafers import Wafer


class Defect(NamedTuple):
    """A defect; None where the file does not say, or says `NA`.

    Attributes:
        row: Index of its row among all defects of the file, from 0.
        wafer: Its wafer.
        images: Its images, in order.
        id: Number of the defect, unique on a wafer.
        x_index: Index of its die in x.
        y_index: Index of its die in y.
        x_rel_nm: Position in x relative to the origin of its die, nanometres.
        y_rel_nm: Position in y relative to the origin of its die, nanometres.
        x_size_nm: Width, nanometres.
        y_size_nm: Height, nanometres.
        size_nm: Size (`DSIZE`), nanometres.
        area_nm2: Area, square nanometres.
        class_number: Number of its class.
        test: Number of the test that found it.
    """

    row: int
    wafer: Wafer
    images: tuple[ImageRef, ...]
    id: int
    x_index: int | None
    y_index: int | None
    x_rel_nm: float | None
    y_rel_nm: float | None
    x_size_nm: float | None
    y_size_nm: float | None
    size_nm: float | None
    area_nm2: float | None
    class_number: int | None
    test: int | None

    @property
    def die(self) -> str | None:
        """Index of the die as `x,y`."""
        if self.x_index is None or self.y_index is None:
            return None
        return f"{self.x_index},{self.y_index}"

    @property
    def class_name(self) -> str | None:
        """Name of its class."""
        return None if self.class_number is None else self.wafer.classes.get(self.class_number)


ID = "DEFECTID"
# Columns in the order of the fields of `Defect`: name, and power of the unit of lengths (None: an
# integer).
_COLUMNS: tuple[tuple[str, int | None], ...] = (
    (ID, None),
    ("XINDEX", None),
    ("YINDEX", None),
    ("XREL", 1),
    ("YREL", 1),
    ("XSIZE", 1),
    ("YSIZE", 1),
    ("DSIZE", 1),
    ("DEFECTAREA", 2),
    ("CLASSNUMBER", None),
    ("TEST", None),
)


def valid_value(column: str) -> bytes | None:
    """Return a pattern of values of a column that `DefectDecoder` certainly accepts.

    Returns:
        A regular expression, or None if any value of the column is accepted.
    """
    name = column.upper()
    for known, power in _COLUMNS:
        if known == name:
            plain = INTEGER if power is None else NUMBER
            return plain if name == ID else rb"(?:%b|%b)" % (plain, MISSING)
    return None


class DefectDecoder:
    """Reads the typed columns of the rows of one list."""

    def __init__(self, columns: Sequence[str], *, unit_nm: float) -> None:
        """Find the columns.

        Args:
            columns: Names of all columns.
            unit_nm: Unit of lengths, nanometres.
        """
        places: Mapping[str, int] = {name.upper(): at for at, name in enumerate(columns)}
        self._steps = [
            (place, name, _converter(power, unit_nm), field)
            for field, (name, power) in enumerate(_COLUMNS)
            if (place := places.get(name)) is not None
        ]
        self._fast = [(place, convert) for place, _, convert, _ in self._steps]
        self._is_complete = len(self._steps) == len(_COLUMNS)

    def fields(self, values: Sequence[bytes]) -> list[Any]:
        """Return the fields of `Defect` from `id` on.

        Raises:
            ValueError: A value is not a number; the message names the column.
        """
        if self._is_complete:
            try:
                return [convert(values[place]) for place, convert in self._fast]
            except ValueError:
                pass  # `NA`, or a malformed value
        fields: list[Any] = [None] * len(_COLUMNS)
        for place, name, convert, field in self._steps:
            value = values[place]
            if value == MISSING and name != ID:
                continue
            try:
                fields[field] = convert(value)
            except ValueError as error:
                raise ValueError(f"{name} {error}") from None
        return fields


def _converter(power: int | None, unit_nm: float) -> Callable[[bytes], float]:
    if power is None:
        return integer
    factor = unit_nm**power
    if factor == 1:
        return number
    return lambda value: number(value) * factor
