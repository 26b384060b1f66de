"""Mosec: Rust front end, one Python worker, batches of 8. `python … --port PORT`."""

import numpy as np
from identity_model import enlarge, to_tile
from mosec import Server, Worker


class Identity(Worker):
    """The model; bytes stay bytes on the wire."""

    def deserialize(self, data: bytes) -> np.ndarray:
        """Raw body to tile."""
        return to_tile(data)

    def serialize(self, data: np.ndarray) -> bytes:
        """Tile to raw body."""
        return data.tobytes()

    def forward(self, data: list[np.ndarray]) -> list[np.ndarray]:
        """Run one batch."""
        return list(enlarge(np.stack(data)))


if __name__ == "__main__":
    server = Server()
    server.append_worker(Identity, num=1, max_batch_size=8, max_wait_time=2)
    server.run()
