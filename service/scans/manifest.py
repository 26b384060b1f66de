"""The manifest: one row per tile, as Parquet or CSV, written from the journal at any time."""

import csv
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from bundle_format.bundle import FLAGS
from service.scans.errors import StoreLostError
from service.scans.extras import load_extra
from service.scans.facts import IDENTITY, STAGE
from service.scans.journal import Journal

FORMAT_VERSION = 1
FORMATS = ("parquet", "csv")
_PARQUET = "a manifest in Parquet (one in CSV needs nothing)"

# Column and type; Arrow's names of types.
COLUMNS: dict[str, str] = {
    "source": "string",
    "position": "int64",
    "status": "string",
    "error": "string",
    "output": "string",
    "input_bytes": "int64",
    "output_bytes": "int64",
    "input_sha256": "string",
    "output_sha256": "string",
    "model": "string",
    "model_version": "string",
    "engine": "string",
    "precision": "string",
    "milliseconds": "float64",
    **dict.fromkeys(FLAGS, "float64"),
    "pixel_size_x_nm": "float64",
    "pixel_size_y_nm": "float64",
    **dict.fromkeys(STAGE, "float64"),
    **dict.fromkeys(IDENTITY, "string"),
    "metadata": "string",
}
_PAGE_ROWS = 8192


def write_manifest(journal: Journal, folder: Path, *, form: str) -> Path:
    """Write the manifest, with all outcomes so far, to `folder/manifest.FORM`.

    Args:
        journal: Journal of the scan.
        folder: Folder; an older manifest in it is replaced.
        form: Form, `parquet` or `csv`.

    Raises:
        MissingExtraError: Parquet needs pyarrow.
        StoreLostError: The disk is full.
    """
    path = folder / f"manifest.{form}"
    try:
        if form == "parquet":
            _write_parquet(journal, path)
        else:
            _write_csv(journal, path)
    except Exception as error:
        # A partial manifest would look like a whole one.
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StoreLostError(f"cannot write {path}: {error.strerror or error}") from error
        raise
    return path


def check_form(form: str) -> None:
    """Check that a manifest of a form can be written, before the scan begins.

    Raises:
        MissingExtraError: Parquet needs pyarrow.
    """
    if form == "parquet":
        load_extra("pyarrow", purpose=_PARQUET)


def _write_parquet(journal: Journal, path: Path) -> None:
    arrow = load_extra("pyarrow", purpose=_PARQUET)
    parquet = load_extra("pyarrow.parquet", purpose=_PARQUET)
    schema = arrow.schema(
        [(name, getattr(arrow, kind)()) for name, kind in COLUMNS.items()],
        metadata={"semsr_manifest_version": str(FORMAT_VERSION)},
    )
    rows = _rows(journal)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while page := list(islice(rows, _PAGE_ROWS)):
            writer.write_table(arrow.Table.from_pylist(page, schema=schema))


def _write_csv(journal: Journal, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS))
        writer.writeheader()
        writer.writerows(_rows(journal))


def _rows(journal: Journal) -> Iterator[dict[str, Any]]:
    pins = journal.pins()
    model = {name: pins[name] for name in ("model", "model_version", "engine", "precision")}
    for tile in journal.rows():
        facts: dict[str, Any] = json.loads(tile["metadata"] or "{}")
        is_done = tile["status"] == "done"
        row = {
            **{name: tile[name] for name in COLUMNS if name in tile},
            "source": tile["name"],
            "input_bytes": tile["size_bytes"],
            **(model if is_done else {}),
            **{name: _number(facts.get(name)) for name in STAGE},
            **{name: _text(facts.get(name)) for name in IDENTITY},
        }
        yield {name: row.get(name) for name in COLUMNS}


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None  # an integer with hundreds of digits; `metadata` has it


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
