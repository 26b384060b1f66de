"""The shared memory of a pool: tiles, the engines' state, metric snapshots.

The arena is an anonymous file (memfd) that children inherit. It has no name that other processes
could open, only its owner can read it, and the kernel frees it with the last process. Untouched
pages take no memory.

    header | engine rows | snapshot rows | partition 0: slot 0, slot 1, … | partition 1 | …

A slot holds one tile: its input, then its answer. Each front end owns one partition and hands out
its slots by itself, so that no lock is shared. One process at a time writes a slot. The front end
writes the input and then submits the tile; the engine writes the answer and then reports the tile.
"""

import json
import mmap
import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FORMAT_VERSION = 1
MAX_ENGINES = 64
SNAPSHOT_BYTES = 2 * 1024 * 1024
"""Largest snapshot, with all labels of tools. Pages that are never written take no memory."""

BLOCK_SLOTS = 32
"""Slots that an engine registers together, when the first of them is used."""

_PAGE = 4096
_HEADER_BYTES = _PAGE
_ENGINE_ROW = 16  # float64

# Columns of an engine row. Times are seconds; the heartbeat is `time.monotonic()`, which all
# processes of a machine share.
HEARTBEAT, BUSY_S, ONLINE_DRAIN_S, NIGHTLY_DRAIN_S, WAITING, CONNECTIONS = range(6)


class ArenaError(RuntimeError):
    """The system has too little memory, or a file is not an arena of this version."""


@dataclass(frozen=True)
class Geometry:
    """The arena's dimensions.

    Attributes:
        partitions: Number of partitions: one for each front end, and spare ones.
        slots: Slots of one partition.
        lr_bytes: Bytes of the largest input tile.
        sr_bytes: Bytes of the largest answer.
        snapshots: Rows of metric snapshots.
    """

    partitions: int
    slots: int
    lr_bytes: int
    sr_bytes: int
    snapshots: int

    @property
    def slot_bytes(self) -> int:
        """Bytes of a slot, in whole pages."""
        return _pages(_align(self.lr_bytes) + self.sr_bytes)

    @property
    def partition_bytes(self) -> int:
        """Bytes of a partition."""
        return self.slots * self.slot_bytes

    @property
    def snapshots_at(self) -> int:
        """Offset of the snapshot rows in bytes."""
        return _HEADER_BYTES + _pages(MAX_ENGINES * _ENGINE_ROW * 8)

    @property
    def slots_at(self) -> int:
        """Offset of the first partition in bytes."""
        return self.snapshots_at + self.snapshots * _pages(_PAGE + 2 * SNAPSHOT_BYTES)

    @property
    def size(self) -> int:
        """Total number of bytes."""
        return self.slots_at + self.partitions * self.partition_bytes


class Arena:
    """One process's view of the arena.

    Attributes:
        fd: File descriptor, for children to inherit.
        geometry: The arena's dimensions.
    """

    def __init__(self, fd: int, geometry: Geometry) -> None:
        """Map an arena; use `create` or `attach`."""
        self.fd = fd
        self.geometry = geometry
        self._memory = mmap.mmap(fd, geometry.size)
        self._engines: npt.NDArray[np.float64] = np.frombuffer(
            self._memory, np.float64, MAX_ENGINES * _ENGINE_ROW, _HEADER_BYTES
        ).reshape(MAX_ENGINES, _ENGINE_ROW)

    @classmethod
    def create(cls, geometry: Geometry) -> "Arena":
        """Make an arena.

        Raises:
            ArenaError: The system gives too little memory.
        """
        fd = os.memfd_create("semsr-arena", os.MFD_CLOEXEC)
        header = {"format_version": FORMAT_VERSION, "kind": "semsr-arena", **asdict(geometry)}
        try:
            os.fchmod(fd, 0o600)
            os.ftruncate(fd, geometry.size)
            os.pwrite(fd, json.dumps(header).encode(), 0)
            return cls(fd, geometry)
        except OSError as error:
            os.close(fd)
            raise ArenaError(
                f"cannot have {geometry.size / 2**30:.1f} GiB of shared memory for "
                f"{geometry.slots} tiles in each of {geometry.partitions} parts "
                f"(SEMSR_MAX_QUEUE, SEMSR_FRONT_ENDS): {error}"
            ) from error

    @classmethod
    def attach(cls, fd: int) -> "Arena":
        """Map an arena that another process made.

        Raises:
            ArenaError: It is not an arena, or of another version.
        """
        text = os.pread(fd, _HEADER_BYTES, 0).rstrip(b"\0")
        try:
            fields: dict[str, Any] = json.loads(text)
            version = fields.pop("format_version"), fields.pop("kind")
            geometry = Geometry(**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArenaError(f"file descriptor {fd} is not an arena: {error}") from error
        if version != (FORMAT_VERSION, "semsr-arena"):
            raise ArenaError(f"the arena has format {version}; expected {FORMAT_VERSION}")
        return cls(fd, geometry)

    def lr(self, slot: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        """View a slot's input as (height, width) uint8."""
        return self._view(self._slot_at(slot), height, width, self.geometry.lr_bytes)

    def sr(self, slot: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        """View a slot's answer as (height, width) uint8; every call returns a new array object."""
        start = self._slot_at(slot) + _align(self.geometry.lr_bytes)
        return self._view(start, height, width, self.geometry.sr_bytes)

    def partition(self, index: int) -> range:
        """Return the slots of a partition."""
        slots = self.geometry.slots
        return range(index * slots, (index + 1) * slots)

    def free_partition(self, index: int) -> None:
        """Return the memory of an unused partition to the system."""
        size = self.geometry.partition_bytes
        start = self.geometry.slots_at + index * size
        self._memory.madvise(mmap.MADV_REMOVE, start, size)

    def block_of(self, slot: int) -> int:
        """Index of the block that a slot lies in."""
        return slot // BLOCK_SLOTS

    def block(self, index: int) -> npt.NDArray[np.uint8]:
        """View a block of slots as bytes."""
        geometry = self.geometry
        first = index * BLOCK_SLOTS
        slots = min(BLOCK_SLOTS, geometry.partitions * geometry.slots - first)
        return np.frombuffer(
            self._memory, np.uint8, slots * geometry.slot_bytes, self._slot_at(first)
        )

    def engine_row(self, index: int) -> npt.NDArray[np.float64]:
        """Return an engine's row of state, as a writable view with the columns above."""
        return self._engines[index]

    def write_snapshot(self, row: int, content: bytes) -> None:
        """Replace a row's snapshot; a reader sees the old one or the new one, never a mixture.

        Raises:
            ValueError: It is too large.
        """
        if len(content) > SNAPSHOT_BYTES:
            raise ValueError(f"a snapshot of {len(content)} bytes; at most {SNAPSHOT_BYTES} fit")
        state = self._snapshot_state(row)
        count = int(state[0]) + 1
        start = self._snapshot_at(row) + _PAGE + count % 2 * SNAPSHOT_BYTES
        self._memory[start : start + len(content)] = content
        state[1 + count % 2] = len(content)
        # One aligned word: a process that dies before this write leaves the old snapshot in place.
        state[0] = count

    def read_snapshot(self, row: int) -> bytes:
        """Return a row's snapshot; empty if there is none yet."""
        state = self._snapshot_state(row)
        while True:
            count = int(state[0])
            start = self._snapshot_at(row) + _PAGE + count % 2 * SNAPSHOT_BYTES
            content = self._memory[start : start + int(state[1 + count % 2])]
            if count == int(state[0]):
                return content

    def _snapshot_at(self, row: int) -> int:
        if not 0 <= row < self.geometry.snapshots:
            raise ValueError(f"no snapshot row {row}; there are {self.geometry.snapshots}")
        return self.geometry.snapshots_at + row * _pages(_PAGE + 2 * SNAPSHOT_BYTES)

    def _snapshot_state(self, row: int) -> npt.NDArray[np.uint64]:
        """Return the number of written snapshots (parity selects the half) and both lengths."""
        return np.frombuffer(self._memory, np.uint64, 3, self._snapshot_at(row))

    def _slot_at(self, slot: int) -> int:
        geometry = self.geometry
        if not 0 <= slot < geometry.partitions * geometry.slots:
            raise ValueError(f"no slot {slot}; there are {geometry.partitions * geometry.slots}")
        return geometry.slots_at + slot * geometry.slot_bytes

    def _view(self, start: int, height: int, width: int, limit: int) -> npt.NDArray[np.uint8]:
        if not 0 < height * width <= limit:
            raise ValueError(f"{height}x{width} bytes do not fit into {limit} of a slot")
        view = np.frombuffer(self._memory, np.uint8, height * width, start)
        return view.reshape(height, width)


def _align(size: int) -> int:
    """Round up to whole cache lines."""
    return -(-size // 64) * 64


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
