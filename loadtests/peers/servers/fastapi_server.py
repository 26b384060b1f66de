"""A plain FastAPI loop: no queue, no batches, the model in the route. `python … PORT`."""

import sys

import uvicorn
from fastapi import FastAPI, Request, Response
from identity_model import enlarge, to_tile

app = FastAPI()


@app.get("/ready")
async def ready() -> dict[str, bool]:
    """Answer as soon as the server runs."""
    return {"ready": True}


@app.post("/superresolve")
async def superresolve(request: Request) -> Response:
    """Raw tile in, raw tile out."""
    tile = to_tile(await request.body())
    return Response(enlarge(tile[None]).tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False)
