"""The table of engines: a row for each way to call one, a column for each batch size."""

from collections.abc import Sequence

from loadtests.results import Column, Row

_SUBJECT = (
    Column("bundle", "Bundle"),
    Column("what", "What"),
    Column("precision", "Precision"),
    Column("way", "Way"),
    Column("callers", "Callers"),
    Column("memory", "Memory of tiles"),
)
_BEST = (
    Column("golden_levels", "Golden tile, grey levels"),
    Column("limit_per_s", "Limit, tiles/s", 0),
    Column("limited_by", "Limited by"),
    Column("percent_of_limit", "Best, % of limit"),
    Column("problem", "Problem"),
)


def by_batch(rows: Sequence[Row]) -> tuple[list[Column], list[Row]]:
    """Combine the rows that differ in their batch size only.

    Args:
        rows: Rows with `batch` and `tiles_per_s`; others, such as failures, remain as they are.
            Rates of the machine (`rate`) are left out.

    Returns:
        Columns, without empty ones, and rows. Each has the share of the limit at its best batch.
    """
    wide: dict[tuple[object, ...], Row] = {}
    for row in rows:
        if "rate" in row:
            continue
        found = wide.setdefault(tuple(row.get(column.key) for column in _SUBJECT), {})
        for column in (*_SUBJECT, *_BEST):
            if column.key != "percent_of_limit" and column.key in row:
                found[column.key] = row[column.key]
        if "tiles_per_s" in row:
            found[_key(row["batch"])] = row["tiles_per_s"]
        if "percent_of_limit" in row:
            best = max(row["percent_of_limit"], found.get("percent_of_limit", 0.0))
            found["percent_of_limit"] = best
    batches = sorted({row["batch"] for row in rows if "tiles_per_s" in row and "batch" in row})
    columns = [*_SUBJECT, *(Column(_key(batch), f"{batch}, tiles/s", 0) for batch in batches)]
    combined = list(wide.values())
    kept = [
        column
        for column in [*columns, *_BEST]
        if any(row.get(column.key) is not None for row in combined)
    ]
    return kept, combined


def _key(batch: int) -> str:
    return f"batch {batch}"


def rates_note(rows: Sequence[Row]) -> str:
    """Return a sentence with the rates of the machine; empty without any."""
    rates = [
        f"{row['what']} {row.get('precision') or row.get('memory')} {row['rate']}"
        for row in rows
        if "rate" in row
    ]
    return f"Rates of this run: {', '.join(rates)}." if rates else ""
