"""BentoML: a front service for raw bodies and a service that batches adaptively, at most 8.

Its own input types take arrays as JSON or pickle only, so a small ASGI app, mounted in the front
service, takes the bytes; between the two services BentoML sends arrays by itself.
`bentoml serve bentoml_server:Front --port PORT`.
"""

import bentoml
import numpy as np
from identity_model import enlarge, to_tile
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Identity:
    """The model."""

    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=8, max_latency_ms=1000)
    def run(self, lr: np.ndarray) -> np.ndarray:
        """Run one batch (N, 240, 240)."""
        return enlarge(lr)


async def superresolve(request: Request) -> Response:
    """Raw tile in, raw tile out."""
    identity = bentoml.get_current_service().identity.to_async
    # BentoML 1.4.40 replaces its session after 100 requests, and closes the old one under those
    # that are still in flight: one in a hundred would fail.
    identity._session_manager.max_requests = float("inf")
    sr = await identity.run(to_tile(await request.body())[None])
    return Response(sr.tobytes(), media_type="application/octet-stream")


app = Starlette(routes=[Route("/superresolve", superresolve, methods=["POST"])])


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
@bentoml.asgi_app(app)
class Front:
    """Takes raw bodies."""

    identity = bentoml.depends(Identity)
