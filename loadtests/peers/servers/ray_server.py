"""Ray Serve: HTTP proxy, one replica, batches of 8 within 2 ms. `python … PORT`."""

import signal
import sys

import numpy as np
import ray
from identity_model import enlarge, to_tile
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=1, max_ongoing_requests=64)
class Identity:
    """The model behind `serve.batch`."""

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.002)
    async def run(self, tiles: list[np.ndarray]) -> list[np.ndarray]:
        """Run one batch."""
        return list(enlarge(np.stack(tiles)))

    async def __call__(self, request: Request) -> Response:
        """Raw tile in, raw tile out."""
        sr = await self.run(to_tile(await request.body()))
        return Response(sr.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Identity.bind(), route_prefix="/")
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    serve.shutdown()
    ray.shutdown()
