"""The wafer that defects belong to: lot, wafer, device, step, tool, and the grid of dies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.scans.klarf.document import Document, decoded
from service.scans.klarf.values import integer, number, text

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Wafer:
    """A wafer as its file describes it; None where the file does not say.

    Attributes:
        lot: Id of the lot.
        wafer: Id of the wafer.
        slot: Slot of the wafer in its carrier.
        device: Device (product).
        step: Process step.
        recipe: Recipe of the inspection (`SetupID`, `RecipeID`), without its time.
        tool: Inspection station: manufacturer, model and id, joined by spaces.
        timestamp: Time of the result as written.
        orientation: Location of the orientation mark as written, such as `DOWN` or `270`.
        die_pitch_nm: Distance of dies in x and y, nanometres.
        die_origin_nm: Position of the origin of die (0, 0) in x and y, nanometres.
        centre_nm: Position of the wafer's centre relative to the origin of die (0, 0), nanometres.
        classes: Names of the classes by number; classes of the whole file.
    """

    lot: str | None = None
    wafer: str | None = None
    slot: int | None = None
    device: str | None = None
    step: str | None = None
    recipe: str | None = None
    tool: str | None = None
    timestamp: str | None = None
    orientation: str | None = None
    die_pitch_nm: Point | None = None
    die_origin_nm: Point | None = None
    centre_nm: Point | None = None
    classes: Mapping[int, str] = field(default_factory=dict[int, str], compare=False)


def _words(values: Sequence[bytes]) -> str:
    return " ".join(word for value in values if (word := text(value)))


def _first(values: Sequence[bytes]) -> str:
    return text(values[0])


def _slot(values: Sequence[bytes]) -> int:
    return integer(values[0])


def _point(values: Sequence[bytes]) -> Point:
    return number(values[0]), number(values[1])


# Attribute of `Wafer`, number of values (least, most), and how they are read. Names are those of
# both versions, in lower case: tools disagree about capitals (FileTimestamp, FileTimeStamp).
_FACTS: dict[str, tuple[str, tuple[int, int], Callable[[Sequence[bytes]], Any]]] = {
    "lotid": ("lot", (1, 1), _first),
    "waferid": ("wafer", (1, 1), _first),
    "slot": ("slot", (1, 1), _slot),
    "slotnumber": ("slot", (1, 1), _slot),
    "deviceid": ("device", (1, 1), _first),
    "stepid": ("step", (1, 1), _first),
    "setupid": ("recipe", (1, 3), _first),
    "recipeid": ("recipe", (1, 3), _first),
    "inspectionstationid": ("tool", (1, 3), _words),
    "resulttimestamp": ("timestamp", (1, 2), _words),
    "orientationmarklocation": ("orientation", (1, 1), _first),
    "diepitch": ("die_pitch_nm", (2, 2), _point),
    "dieorigin": ("die_origin_nm", (2, 2), _point),
    "samplecenterlocation": ("centre_nm", (2, 2), _point),
}
_LENGTHS = frozenset({"die_pitch_nm", "die_origin_nm", "centre_nm"})


def is_fact(name: bytes) -> bool:
    """Return whether a record or field of this name describes a wafer."""
    return name.decode("latin-1").lower() in _FACTS


def read_fact(
    document: Document, name: bytes, values: Sequence[bytes], offset: int, *, unit_nm: float
) -> tuple[str, Any]:
    """Read a record (1.2) or field (1.8) that describes a wafer (`is_fact`).

    Args:
        document: The file, for messages.
        name: Name of the record or field.
        values: Its values.
        offset: Offset of its name.
        unit_nm: Unit of lengths, nanometres.

    Returns:
        Attribute of `Wafer` and its value.

    Raises:
        KlarfError: It has the wrong number of values, or a value that is not a number.
    """
    attribute, (least, most), read = _FACTS[name.decode("latin-1").lower()]
    shown = decoded(name)
    if not least <= len(values) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise document.error(offset, f"{shown} with {len(values)} values", wanted)
    try:
        value = read(values)
    except ValueError as error:
        found, _, expected = str(error).partition("; expected ")
        raise document.error(offset, f"{shown} {found}", expected) from None
    if attribute in _LENGTHS:
        value = (value[0] * unit_nm, value[1] * unit_nm)
    return attribute, value
