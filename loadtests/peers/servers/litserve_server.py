"""LitServe: FastAPI front end, one worker process, batches of 8. `python … PORT`.

A raw body does not reach `decode_request` in the worker process, so tiles come as form uploads.
"""

import sys

import litserve
import numpy as np
from fastapi import Request, Response
from identity_model import enlarge, to_tile


class Identity(litserve.LitAPI):
    """The model between a form upload and a raw answer."""

    def setup(self, device: str) -> None:
        """Nothing to load."""

    def decode_request(self, request: Request) -> np.ndarray:
        """Form upload to tile."""
        return to_tile(request["file"].file.read())

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Tiles to one array."""
        return np.stack(inputs)

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """Run one batch."""
        return enlarge(batch)

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """One array to tiles."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> Response:
        """Tile to raw body."""
        return Response(output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    api = Identity(max_batch_size=8, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
