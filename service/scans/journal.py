"""The journal of a scan records which tiles are done, so that a scan can be resumed.

The journal has one row per tile. A tile becomes `done` only after its output is durable. If a
process is killed, its unfinished rows are still `pending`, and the next run computes them. The
journal also holds its format and the `pins` of its scan, and rejects any other scan.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from service.scans.errors import ScanError, ScanMismatchError
from service.scans.journal_file import JournalFile
from service.scans.rows import OUTCOME_FIELDS, Counts, Outcome, PendingTile
from service.scans.sources import Listed, TileRef

_PAGE_ROWS = 512


class Journal:
    """The journal of one scan; safe for threads. One process at a time uses it (`WorkFolder`)."""

    def __init__(self, path: Path) -> None:
        """Open a journal, or make an empty one.

        Raises:
            ScanError: The file is not a journal, is damaged, or has another format.
            StoreLostError: The disk is full.
        """
        self._file = JournalFile(path)
        self.path = path

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    # --- which scan it is ---

    def pins(self) -> dict[str, Any]:
        """Return the pins of the scan; empty for a new scan."""
        return {key: json.loads(value) for key, value in self._file.read("SELECT * FROM facts")}

    def pin(self, pins: Mapping[str, Any]) -> None:
        """Pin a new scan, or check that a resumed one is the same.

        Raises:
            ScanMismatchError: It is another scan; the message names every difference.
        """
        known = self.pins()
        if not known:
            with self._file.transaction() as database:
                database.executemany(
                    "INSERT INTO facts VALUES (?, ?)",
                    [(key, json.dumps(value)) for key, value in pins.items()],
                )
            return
        different = [
            f"{key} was {known.get(key)!r} and is {value!r}"
            for key, value in pins.items()
            if known.get(key) != value
        ]
        if different:
            raise ScanMismatchError(
                f"the journal {self.path} belongs to another scan: {'; '.join(different)}. Resume "
                "it with its own values, start from scratch (--no-resume), or use another sink"
            )

    def fact(self, key: str) -> Any:
        """Return a fact of the scan as a whole, or None."""
        return self.pins().get(key)

    def set_fact(self, key: str, value: Any) -> None:
        """Store a fact of the scan as a whole; None removes it."""
        with self._file.transaction() as database:
            database.execute("DELETE FROM facts WHERE key = ?", (key,))
            if value is not None:
                database.execute("INSERT INTO facts VALUES (?, ?)", (key, json.dumps(value)))

    # --- the tiles ---

    def list_tiles(self, listed: Iterable[tuple[Listed, str | None]]) -> int:
        """Add the tiles and sidecars of the source; a tile that has changed is pending again.

        Args:
            listed: Tiles and sidecars, with the name of a tile's own output file.

        Returns:
            Number of listed tiles.

        Raises:
            ScanError: Two tiles would become one file.
        """
        count = 0
        with self._file.transaction() as database:
            for item, target in listed:
                if item.is_sidecar:
                    database.execute(
                        "INSERT OR REPLACE INTO sidecars VALUES (?, ?, ?, ?)",
                        (item.stem, item.name, item.place, item.size_bytes),
                    )
                    continue
                count += 1
                values = (item.name, item.stem, item.place, item.size_bytes, item.stamp, target)
                try:
                    database.execute(
                        "INSERT INTO tiles (name, stem, place, size_bytes, stamp, target) "
                        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
                        "place = excluded.place, size_bytes = excluded.size_bytes, "
                        "stamp = excluded.stamp, status = 'pending', error = NULL "
                        "WHERE stamp <> excluded.stamp OR size_bytes <> excluded.size_bytes",
                        values,
                    )
                except sqlite3.IntegrityError as error:
                    [(other,)] = database.execute(
                        "SELECT name FROM tiles WHERE target = ?", (target,)
                    )
                    raise ScanError(
                        f"{other} and {item.name} would both become {target}"
                    ) from error
            # New tiles come after those known before, so that a stack's order holds.
            database.execute(
                "UPDATE tiles SET position = ordered.place FROM (SELECT id, "
                "row_number() OVER (ORDER BY name) - 1 + (SELECT coalesce(max(position) + 1, 0) "
                "FROM tiles) AS place FROM tiles WHERE position IS NULL) AS ordered "
                "WHERE tiles.id = ordered.id"
            )
        return count

    def retry_failed(self) -> None:
        """Make failed tiles pending, as the cause may be gone."""
        self._file.write("UPDATE tiles SET status = 'pending' WHERE status = 'failed'")

    def check_outputs(self, found: Iterable[tuple[str, int]]) -> int:
        """Make tiles pending whose output is missing or has another length.

        Args:
            found: Names and lengths of the files of the sink.

        Returns:
            Number of these tiles.
        """
        with self._file.transaction() as database:
            database.execute("CREATE TEMP TABLE found (name TEXT PRIMARY KEY, size INTEGER)")
            database.executemany("INSERT OR REPLACE INTO found VALUES (?, ?)", found)
            lost = database.execute(
                "UPDATE tiles SET status = 'pending' WHERE status = 'done' AND NOT EXISTS (SELECT "
                "1 FROM found WHERE found.name = tiles.output AND size = tiles.output_bytes)"
            ).rowcount
            database.execute("DROP TABLE found")
        return lost

    def forget(self, position: int) -> None:
        """Make one tile pending."""
        self._file.write("UPDATE tiles SET status = 'pending' WHERE position = ?", (position,))

    def forget_all(self) -> None:
        """Make every tile pending."""
        self._file.write("UPDATE tiles SET status = 'pending'")

    def counts(self) -> Counts:
        """Count the tiles."""
        counts = dict(self._file.read("SELECT status, count(*) FROM tiles GROUP BY status"))
        return Counts(sum(counts.values()), counts.get("done", 0), counts.get("failed", 0))

    def outputs(self) -> Iterator[tuple[int, str, str]]:
        """Yield position, output and sha256 of every tile that is done."""
        yield from self._pages("output, output_sha256", "status = 'done'")

    def pending(self) -> Iterator[PendingTile]:
        """Yield the pending tiles in order, page by page; the journal may change in between."""
        rows = self._pages(
            "id, target, tiles.name, tiles.stem, tiles.place, tiles.size_bytes, sidecars.name, "
            "sidecars.place, sidecars.size_bytes",
            "status = 'pending'",
            table="tiles LEFT JOIN sidecars ON sidecars.stem = tiles.stem",
        )
        for position, tile_id, target, name, stem, place, size_bytes, *sidecar in rows:
            known = None if sidecar[0] is None else (sidecar[0], sidecar[1], sidecar[2])
            yield PendingTile(
                tile_id, position, target, TileRef(name, stem, place, size_bytes, known)
            )

    # --- their outcomes ---

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Record outcomes of tiles, all or none.

        Raises:
            StoreLostError: The journal cannot be written.
        """
        columns = ", ".join(f"{field} = ?" for field in OUTCOME_FIELDS)
        rewritten = {
            (outcome.output_bytes, outcome.output) for outcome in outcomes if outcome.is_shared
        }
        with self._file.transaction() as database:
            database.executemany(
                f"UPDATE tiles SET {columns} WHERE id = ?",  # noqa: S608 (names of this file)
                [(*outcome.values(), outcome.id) for outcome in outcomes],
            )
            database.executemany(
                "UPDATE tiles SET output_bytes = ? WHERE output = ? AND status = 'done'", rewritten
            )

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield every tile in order, with its outcome."""
        fields = ("name", "position", "size_bytes", *OUTCOME_FIELDS)
        for row in self._pages(", ".join(fields), "1"):
            yield dict(zip(fields, row[1:], strict=True))

    def common(self, column: str) -> Any:
        """Return the value that a column has in every tile that is done, or None."""
        rows = self._file.read(
            f"SELECT DISTINCT {column} FROM tiles WHERE status = 'done' LIMIT 2"  # noqa: S608
        )
        return rows[0][0] if len(rows) == 1 else None

    def failures(self, most: int) -> list[tuple[str, str]]:
        """Return name and error of the first tiles that failed."""
        return self._file.read(
            "SELECT name, error FROM tiles WHERE status = 'failed' ORDER BY position LIMIT ?",
            (most,),
        )

    def _pages(
        self, columns: str, condition: str, *, table: str = "tiles"
    ) -> Iterator[tuple[Any, ...]]:
        """Yield rows in order, each with its position first; holds no lock between pages."""
        last = -1
        while True:
            rows = self._file.read(
                f"SELECT position, {columns} FROM {table} WHERE {condition} "  # noqa: S608
                "AND position > ? ORDER BY position LIMIT ?",
                (last, _PAGE_ROWS),
            )
            yield from rows
            if len(rows) < _PAGE_ROWS:
                return
            last = rows[-1][0]
