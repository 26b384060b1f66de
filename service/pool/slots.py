"""A front end's slots of the arena: taken for a tile, free again when its answer is gone."""

import weakref

import numpy as np

from engines.protocol import Tile
from service.pool.arena import Arena


class Slots:
    """The slots of this front end; taken on the event loop, freed on any thread."""

    def __init__(self, arena: Arena, partition: int) -> None:
        self.arena = arena
        self._free = list(arena.partition(partition))
        self._held: dict[int, weakref.ref[Tile]] = {}

    @property
    def num_free(self) -> int:
        """Number of free slots."""
        return len(self._free)

    def take(self) -> int:
        """Take the slot that was freed last: its memory is warm."""
        return self._free.pop()

    def give_back(self, slot: int) -> None:
        """Free a slot."""
        self._free.append(slot)

    def lend(self, slot: int, height: int, width: int) -> Tile:
        """Return a view of the answer in a slot; the slot is free once all its views are gone.

        Args:
            slot: Slot index.
            height: Rows of the answer.
            width: Bytes of a row.
        """
        view = self.arena.sr(slot, height, width)
        # Every view of a view refers to the same array, which lives as long as any of them.
        owner = view.base
        if not isinstance(owner, np.ndarray):
            raise TypeError("an arena's view is one of an array")
        self._held[slot] = weakref.ref(owner, lambda _: self._unlend(slot))
        return view

    def _unlend(self, slot: int) -> None:
        self._held.pop(slot, None)
        self._free.append(slot)
