"""A scan in a process of its own that notes every tile that its engine computes; see the tests.

    python scan_process.py SOURCE SINK LOG [TILES]

The log gets the number of each tile (see `scans.numbered_tile`), a line each, by one write a batch.
With TILES the process sends itself SIGINT when so many tiles have been computed.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engines.identity_engine import IdentityEngine
from engines.protocol import Tile
from tests.scans import SCALE, scan


class NotingEngine(IdentityEngine):
    """The identity engine with a diary that survives the process."""

    def __init__(self, log: Path, stop_after: int | None) -> None:
        super().__init__(scale=SCALE)
        self._left = stop_after
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Note the tiles, then enlarge them; warm-up batches are black."""
        numbers = [256 * int(tile[0, 0]) + int(tile[0, 1]) for tile in lr if tile.any()]
        os.write(self._log, "".join(f"{number}\n" for number in numbers).encode())
        if self._left is not None:
            self._left -= len(numbers)
            if self._left <= 0:
                self._left = None
                os.kill(os.getpid(), signal.SIGINT)
        return super().run(lr, sr)


def main(source: str, sink: str, log: str, stop_after: str | None = None) -> int:
    """Run the scan; the exit code says whether all is done."""
    engine = NotingEngine(Path(log), None if stop_after is None else int(stop_after))
    report = scan(source, sink, engine_loader=lambda *_: engine)
    sys.stdout.write(report.text())
    return 0 if report.is_complete else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
