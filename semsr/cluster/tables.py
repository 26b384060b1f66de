"""Pending tiles and outcomes as Arrow tables: the only data sent between the machines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bundle_format.bundle import FLAGS
from service.scans.extras import load_extra
from service.scans.rows import Outcome, PendingTile
from service.scans.sources import TileRef

_TILE_COLUMNS = {
    "id": "int64",
    "position": "int64",
    "target": "string",
    "name": "string",
    "stem": "string",
    "place": "int64",
    "size_bytes": "int64",
    "sidecar": "string",
    "sidecar_place": "int64",
    "sidecar_bytes": "int64",
}
_OUTCOME_COLUMNS = {
    "id": "int64",
    "status": "string",
    "error": "string",
    "input_sha256": "string",
    "output": "string",
    "output_bytes": "int64",
    "output_sha256": "string",
    "milliseconds": "float64",
    **dict.fromkeys(FLAGS, "float64"),
    "pixel_size_x_nm": "float64",
    "pixel_size_y_nm": "float64",
    "metadata": "string",
    "is_shared": "bool_",
}
# Status of rows that are not outcomes. The worker cannot continue; `error` is the reason:
ENDED = "ended"
# The tile is still pending; `error` is the reason:
FAULTY = "faulty"


@dataclass(frozen=True)
class Returned:
    """A worker's answer to a table of tiles.

    Attributes:
        outcomes: Outcomes of the finished tiles.
        faults: Unexpected errors of unfinished tiles, by row of the tile.
        ended_by: Reason for which the worker cannot continue, or None.
    """

    outcomes: list[Outcome]
    faults: dict[int, str] = field(default_factory=dict[int, str])
    ended_by: str | None = None


def arrow() -> Any:
    """Import pyarrow.

    Raises:
        MissingExtraError: It is not installed.
    """
    return load_extra("pyarrow", purpose="a scan over a cluster", extra="ray")


def tile_table(tiles: Sequence[PendingTile]) -> Any:
    """Write tiles as a table."""
    rows = [
        (
            tile.id, tile.position, tile.target, tile.ref.name, tile.ref.stem, tile.ref.place,
            tile.ref.size_bytes, *(tile.ref.sidecar or (None, None, None)),
        )
        for tile in tiles
    ]  # fmt: skip
    return _table(rows, _TILE_COLUMNS)


def tiles_of(table: Any) -> list[PendingTile]:
    """Read `tile_table`."""
    return [
        PendingTile(
            row["id"],
            row["position"],
            row["target"],
            TileRef(
                row["name"],
                row["stem"],
                row["place"],
                row["size_bytes"],
                None
                if row["sidecar"] is None
                else (row["sidecar"], row["sidecar_place"], row["sidecar_bytes"]),
            ),
        )
        for row in table.to_pylist()
    ]


def outcome_table(
    outcomes: Sequence[Outcome],
    *,
    faults: Mapping[int, str] | None = None,
    ended_by: str | None = None,
) -> Any:
    """Write the fields of `Returned` as a table."""
    rows: list[tuple[Any, ...]] = [
        (
            outcome.id, outcome.status, outcome.error, outcome.input_sha256, outcome.output,
            outcome.output_bytes, outcome.output_sha256, outcome.milliseconds,
            *(outcome.quality or (None,) * len(FLAGS)),
            *(outcome.pixel_size_nm or (None, None)), outcome.metadata, outcome.is_shared,
        )
        for outcome in outcomes
    ]  # fmt: skip
    empty = (None,) * (len(_OUTCOME_COLUMNS) - 3)
    rows += [(tile_id, FAULTY, fault, *empty) for tile_id, fault in (faults or {}).items()]
    if ended_by is not None:
        rows.append((-1, ENDED, ended_by, *empty))
    return _table(rows, _OUTCOME_COLUMNS)


def outcomes_of(table: Any) -> Returned:
    """Read `outcome_table`."""
    outcomes: list[Outcome] = []
    faults: dict[int, str] = {}
    ended_by: str | None = None
    for row in table.to_pylist():
        if row["status"] == ENDED:
            ended_by = row["error"]
            continue
        if row["status"] == FAULTY:
            faults[row["id"]] = row["error"]
            continue
        quality = tuple(row[name] for name in FLAGS)
        size = (row["pixel_size_x_nm"], row["pixel_size_y_nm"])
        outcomes.append(
            Outcome(
                row["id"],
                row["status"],
                error=row["error"],
                input_sha256=row["input_sha256"],
                output=row["output"],
                output_bytes=row["output_bytes"],
                output_sha256=row["output_sha256"],
                milliseconds=row["milliseconds"],
                quality=None if quality[0] is None else quality,
                pixel_size_nm=None if size[0] is None else size,
                metadata=row["metadata"],
                is_shared=row["is_shared"],
            )
        )
    return Returned(outcomes, faults, ended_by)


def to_bytes(table: Any) -> bytes:
    """Write a table as an Arrow stream."""
    pa = arrow()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def from_bytes(content: bytes) -> Any:
    """Read an Arrow stream."""
    return arrow().ipc.open_stream(content).read_all()


def _table(rows: Sequence[tuple[Any, ...]], columns: dict[str, str]) -> Any:
    pa = arrow()
    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in columns.items()])
    by_column = zip(*rows, strict=True) if rows else [()] * len(columns)
    arrays = [
        pa.array(list(values), field.type) for values, field in zip(by_column, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
