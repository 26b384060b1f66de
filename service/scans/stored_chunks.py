"""The chunks that a file stores; HDF5 and Zarr read missing chunks as the fill value."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence


class StoredChunks:
    """The stored chunks of an array; the memory grows with their number, not with the shape.

    Attributes:
        by_row: Number of stored chunks by their index along the first axis.
        lacking: Number of tiles with chunks that are not stored.
    """

    def __init__(self, rows: Iterable[int], shape: Sequence[int], chunks: Sequence[int]) -> None:
        """Count the chunks.

        Args:
            rows: Index along the first axis of each stored chunk.
            shape: Shape of the array, (H, W) or (N, ..., H, W).
            chunks: Shape of a chunk.
        """
        if len(shape) == 2:
            rows, shape, chunks = (0 for _ in rows), (1, *shape), (1, *chunks)
        self._tiles_per_row = chunks[0]
        self._expected = math.prod(-(-n // c) for n, c in zip(shape[1:], chunks[1:], strict=True))
        self.by_row = Counter(row for row in rows if row * chunks[0] < shape[0])
        whole = sum(
            min(chunks[0], shape[0] - row * chunks[0])
            for row, count in self.by_row.items()
            if count >= self._expected
        )
        self.lacking = shape[0] - whole

    def missing(self, index: int) -> int:
        """Return the number of chunks of a tile that are not stored."""
        return max(0, self._expected - self.by_row[index // self._tiles_per_row])
