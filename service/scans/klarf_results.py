"""The results of a scan in a copy of its KLARF file: columns next to the defects."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from bundle_format.bundle import FLAGS
from service.scans.errors import StoreLostError
from service.scans.journal import Journal
from service.scans.klarf.klarf import Value
from service.scans.klarf.table import NewColumn
from service.scans.klarf_source import KlarfSource

# Values of SEMSR_STATUS, the worst of a defect's images.
NO_IMAGE, DONE, FAILED, PENDING = range(4)
_STATUS = {"done": DONE, "failed": FAILED, "pending": PENDING}
# Of these flags the lowest value is the worst, of all others the highest.
_WORST_IS_LOWEST = frozenset({"consistency", "consistency_worst"})

COLUMNS = (
    NewColumn("SEMSR_STATUS", "int32"),
    NewColumn("SEMSR_TILE", "int32"),
    *(NewColumn(f"SEMSR_{flag.upper()}", "float") for flag in FLAGS),
)
OUTPUT = NewColumn("SEMSR_OUTPUT", "string")


def results_name(name: str) -> str:
    """Return the name of the copy of a KLARF file."""
    path = PurePosixPath(name)
    return f"{path.stem}_sr{path.suffix}"


def write_results(source: KlarfSource, journal: Journal, folder: Path) -> Path:
    """Write a copy of the KLARF file of a scan, with all outcomes so far.

    Args:
        source: Source of the scan.
        journal: Journal of the scan.
        folder: Folder of the copy.

    Raises:
        StoreLostError: The disk is full.
    """
    path = folder / results_name(source.name)
    content = with_results(source, {row["name"]: row for row in journal.rows()})
    try:
        path.write_bytes(content)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StoreLostError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def with_results(source: KlarfSource, outcomes: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return the KLARF file with the columns of the results.

    Args:
        source: Source of the scan.
        outcomes: For the name of a tile its row in the journal.
    """
    # Programs that read 1.2 expect a number in every column but the images.
    has_texts = source.klarf.version == "1.8"
    columns = (*COLUMNS, OUTPUT) if has_texts else COLUMNS

    def rows() -> Iterator[Sequence[Value]]:
        for names in source.images_of:
            # Files that are not named like an image have no row.
            tiles = [outcomes[name] for name in names if name in outcomes]
            values = _values(tiles)
            yield (*values, _output(tiles)) if has_texts else values

    return source.klarf.with_columns(columns, rows())


def _values(tiles: Sequence[Mapping[str, Any]]) -> Sequence[Value]:
    if not tiles:
        return (NO_IMAGE, None, *(None for _ in FLAGS))
    status = max(_STATUS[tile["status"]] for tile in tiles)
    done = [tile for tile in tiles if tile["status"] == "done"]
    return (status, tiles[0]["position"], *(_worst(flag, done) for flag in FLAGS))


def _worst(flag: str, tiles: Sequence[Mapping[str, Any]]) -> float | None:
    values = [value for tile in tiles if (value := tile[flag]) is not None and math.isfinite(value)]
    if not values:
        return None
    return min(values) if flag in _WORST_IS_LOWEST else max(values)


def _output(tiles: Sequence[Mapping[str, Any]]) -> str:
    """Return the files of all images of a defect that are done."""
    outputs = [str(tile["output"]) for tile in tiles if tile["status"] == "done"]
    # A file name may hold what a text of KLARF cannot.
    return "|".join(outputs).replace('"', "?").translate(dict.fromkeys(range(0x20), "?"))
