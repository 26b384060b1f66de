"""Memory for answers in the process of the engine: reused, and known to the engine.

An answer is lent until the last view of it is gone, which is when its last byte has been sent.
Memory that is reused costs no page faults, and an engine on a GPU copies straight into it, because
it has been registered (`engines.protocol.Engine.register`).
"""

import mmap
import weakref
from collections import deque

import numpy as np
import numpy.typing as npt

from engines.protocol import Engine, Tile

_BLOCKS = 16
"""Answers of one piece of memory; registering a piece stops the engine for a moment."""


class AnswerMemory:
    """Answers of one size; lent and returned on any thread."""

    def __init__(self, engine: Engine, *, answer_bytes: int) -> None:
        """Begin without memory.

        Args:
            engine: Engine that fills the answers.
            answer_bytes: Size of the usual answer; larger ones get memory of their own.
        """
        self._engine = engine
        self._block_bytes = -(-answer_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        # The one that was returned last is lent next: it is warm.
        self._free: deque[npt.NDArray[np.uint8]] = deque()
        self._lent: dict[int, tuple[npt.NDArray[np.uint8], weakref.ref[Tile]]] = {}

    def lend(self, height: int, width: int) -> Tile:
        """Return an array (height, width) uint8 with any content."""
        size = height * width
        if size > self._block_bytes:
            return np.empty((height, width), dtype=np.uint8)
        try:
            block = self._free.pop()
        except IndexError:
            block = self._grow()
        # Every view of a view refers to the array that owns the memory: here one for each loan.
        owner = np.frombuffer(block.data, dtype=np.uint8, count=size)
        key = block.ctypes.data
        self._lent[key] = block, weakref.ref(owner, lambda _: self._take_back(key))
        return owner.reshape(height, width)

    def _take_back(self, key: int) -> None:
        block, _ = self._lent.pop(key)
        self._free.append(block)

    def _grow(self) -> npt.NDArray[np.uint8]:
        piece = np.frombuffer(mmap.mmap(-1, _BLOCKS * self._block_bytes), dtype=np.uint8)
        self._engine.register(piece)
        first, *others = np.split(piece, _BLOCKS)
        self._free.extend(others)
        return first
