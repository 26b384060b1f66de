"""Decides which tiles go to a worker together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from service.scans.rows import PendingTile

# Number of tiles, up to a shard more, of a round. A larger round takes more memory here; each
# further round restarts the workers.
_ROUND_TILES = 200_000
# Largest table, counted in tiles of the model's own size. A lost worker loses its tables, and a
# table is recorded in one step.
_TABLE_TILES = 64
# Least number of tables for each worker, so that no worker idles long at the end of a round.
_TABLES_PER_WORKER = 8
# Number of losses of a tile before it fails: in a table, with its shard, alone.
MOST_LOSSES = 3


@dataclass(frozen=True)
class Plan:
    """Tiles of one round; see `semsr.cluster.run`.

    Attributes:
        tables: Tiles that go to a worker together; a shard is never split.
        is_careful: Whether its tiles were lost before and may have crashed their worker.
    """

    tables: list[list[PendingTile]]
    is_careful: bool

    def ids(self) -> set[int]:
        """Rows of all tiles of the round."""
        return {tile.id for table in self.tables for tile in table}


def plan_round(
    pending: Iterable[PendingTile],
    losses: Mapping[int, int],
    *,
    count: int,
    workers: int,
    unit_tiles: int,
    tile_bytes: int,
) -> Plan:
    """Plan a round of tiles that were never lost.

    Args:
        pending: Pending tiles, in order of their positions.
        losses: Number of times each tile was lost, by row.
        count: Approximate number of pending tiles.
        workers: Number of workers.
        unit_tiles: Tiles of a shard of the sink, see `service.scans.sinks.Sink`.
        tile_bytes: Size of a tile of the model's own size, bytes.

    Returns:
        An empty plan if no such tile is pending.
    """
    fresh = (tile for tile in pending if tile.id not in losses)
    most = min(_TABLE_TILES, -(-count // (workers * _TABLES_PER_WORKER)))
    tables: list[list[PendingTile]] = []
    table: list[PendingTile] = []
    size = planned = 0
    for _, unit in groupby(fresh, lambda tile: tile.position // unit_tiles):
        members = list(unit)
        table += members
        planned += len(members)
        # Rounded down, so that a file's header does not make it count as two tiles.
        size += sum(max(1, tile.ref.size_bytes // tile_bytes) for tile in members)
        if size >= most:
            tables.append(table)
            table, size = [], 0
        if planned >= _ROUND_TILES:
            break
    if table:
        tables.append(table)
    return Plan(tables, is_careful=False)


def plan_suspects(
    pending: Iterable[PendingTile], losses: Mapping[int, int], *, unit_tiles: int
) -> Plan:
    """Plan a round of tiles that were lost: each shard alone, then each tile alone.

    Args:
        pending: Pending tiles, in order of their positions.
        losses: Number of times each tile was lost, by row; other tiles are left out.
        unit_tiles: Tiles of a shard of the sink.
    """
    suspects = (tile for tile in pending if tile.id in losses)
    tables: list[list[PendingTile]] = []
    for _, unit in groupby(suspects, lambda tile: tile.position // unit_tiles):
        members = list(unit)
        # Only one tile of a shard in a round: two workers must not write the same shard.
        alone = [tile for tile in members if losses[tile.id] > 1]
        tables.append(alone[:1] or members)
    return Plan(tables, is_careful=True)
