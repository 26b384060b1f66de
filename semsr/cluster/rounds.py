"""Decides which tiles are handed out together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from service.scans.rows import PendingTile

# So many tiles, or a shard more, are handed out at a time: what a round costs in memory here and,
# at its end, in workers that start anew.
_ROUND_TILES = 200_000
# Of tiles of the model's own size: what a lost worker costs, and what is recorded at once.
_TABLE_TILES = 64
# Tables for each worker at least, so that none waits long for the others in the end.
_TABLES_PER_WORKER = 8
# So often a tile may be lost with its worker: among others, with its shard, alone.
MOST_LOSSES = 3


@dataclass(frozen=True)
class Plan:
    """One round.

    Attributes:
        tables: Tiles that go to a worker together; those of a shard are never apart.
        is_careful: They were lost before, and may be why.
    """

    tables: list[list[PendingTile]]
    is_careful: bool

    def ids(self) -> set[int]:
        """Rows of all its tiles."""
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
    """Plan the next round: tiles that were never lost first.

    Args:
        pending: What is to be computed, in order of positions.
        losses: How often tiles were lost, by row.
        count: Of `pending`, about.
        workers: That will take them.
        unit_tiles: Tiles of a shard of the sink, see `service.scans.sinks.Sink`.
        tile_bytes: Of a tile of the model's own size.

    Returns:
        An empty plan when there is nothing to do.
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
        # A file's head makes no second tile of it.
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
        pending: See `plan_round`.
        losses: See `plan_round`; other tiles are left out.
        unit_tiles: See `plan_round`.
    """
    suspects = (tile for tile in pending if tile.id in losses)
    tables: list[list[PendingTile]] = []
    for _, unit in groupby(suspects, lambda tile: tile.position // unit_tiles):
        members = list(unit)
        # One of a shard at a time: two workers must not write the same shard.
        alone = [tile for tile in members if losses[tile.id] > 1]
        tables.append(alone[:1] or members)
    return Plan(tables, is_careful=True)
