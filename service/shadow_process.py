"""The process of the shadow: `python -m service.shadow_process CONFIG`, started by the service.

It answers one tile at a time on processor time that nothing else wants (SCHED_IDLE), compares its
answer with the served one, and ends with the service.
"""

import contextlib
import hashlib
import os
import signal
import socket
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from bundle_format.bundle import load_bundle
from engines.batches import EngineOutput, run_batch
from engines.process import run_and_end, signal_at_parents_end
from engines.protocol import Engine
from engines.registry import load_engine
from service.ground.exit_codes import EXIT_FAILED, EXIT_OK
from service.ground.logs import configure_logs
from service.hosting.loading import load_model
from service.images.codec.png_encode import encode_png
from service.images.metadata import ImageMetadata
from service.settings import Settings
from service.shadow.figures import compare
from service.shadow.wire import receive_frame, send_frame
from service.shadow.worker import PICTURES

Pixels = npt.NDArray[np.uint8]

# It gets single tiles, answered in 8 bits.
_OWN = {"max_batch_size": 1, "answer_bits": 8}


class ShadowProcess:
    """The loaded model at the other end of the service's socket."""

    def __init__(self, connection: socket.socket, engine: Engine, config: dict[str, Any]) -> None:
        self._connection = connection
        self._engine = engine
        self._limit_grey: int = config["limit_grey"]
        self._pictures: str | None = config["pictures"]
        self._last: tuple[Pixels, Pixels, Pixels] | None = None

    def run(self) -> None:
        """Answer frames until the service closes the connection."""
        with contextlib.suppress(EOFError):
            while True:
                head, pixels = receive_frame(self._connection)
                try:
                    if "keep" in head:
                        reply = self._keep(head["keep"])
                    else:
                        reply = self._answer(head, pixels)
                except Exception as error:
                    # Any error of the model is the result of this tile; the next may succeed.
                    reply = {"error": f"{type(error).__name__}: {error}"[:2000]}
                send_frame(self._connection, reply)

    def _answer(self, head: dict[str, Any], pixels: bytearray) -> dict[str, Any]:
        height, width = head["shape"]
        scale: int = head["scale"]
        lr = np.frombuffer(pixels, np.uint8, height * width).reshape(height, width)
        served = np.frombuffer(pixels, np.uint8, offset=lr.size)
        served = served.reshape(scale * height, scale * width)
        started_s = time.perf_counter()
        output: EngineOutput = run_batch(self._engine, lr[None, None])
        seconds = time.perf_counter() - started_s
        shadow = output.sr[0, 0]
        differences = compare(served, shadow, scale=scale, limit_grey=self._limit_grey)
        self._last = lr, served, shadow
        return {
            "differences": asdict(differences),
            "flags": output.flags[0].tolist(),
            "seconds": seconds,
            "sha256": hashlib.sha256(lr.data).hexdigest(),
        }

    def _keep(self, name: str) -> dict[str, Any]:
        """Store the pictures of the last tile, each whole or not at all."""
        if self._pictures is None or self._last is None:
            return {"error": "nothing to store: no compared tile, or no folder for pictures"}
        folder = Path(self._pictures)
        for kind, picture in zip(PICTURES, self._last, strict=True):
            part = folder / f"{name}-{kind}.part"
            part.write_bytes(encode_png(picture, ImageMetadata()))
            part.replace(folder / f"{name}-{kind}.png")
        return {}


def yield_processor() -> None:
    """Run this process only when no other wants the processor, or else at the lowest priority."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError:
        # A sandbox may lack the call.
        os.nice(19)


def _settings(config: dict[str, Any]) -> Settings:
    """Return the settings of the shadow's engine; the service's environment counts no further.

    Without a precision in the settings, the shadow takes that of the served model where its bundle
    has it, and its bundle's own otherwise.
    """
    bundle = load_bundle(Path(config["bundle"]))
    precision = config["precision"]
    if precision is None:
        wanted = config["wanted_precision"]
        is_there = wanted in bundle.manifest.graphs
        precision = wanted if is_there else bundle.manifest.precision
    names = ("engine", "threads", "device", "hint", "plan_cache")
    given = {name: config[name] for name in names}
    return Settings().model_copy(update={**given, "precision": precision, **_OWN})


def run(config: dict[str, Any]) -> int:
    """Load, prove and serve the shadow; returns the exit code."""
    connection = socket.socket(fileno=config["fd"])
    configure_logs(config["log_level"], config["log_format"], process="shadow")
    try:
        yield_processor()
        model = load_model(Path(config["bundle"]), _settings(config), load_engine)
    except Exception as error:
        # Without a trace: a shadow that cannot be loaded is a wrong setting or a wrong bundle.
        send_frame(connection, {"failed": f"{type(error).__name__}: {error}"[:2000]})
        return EXIT_FAILED
    manifest = model.bundle.manifest
    hello = {
        "name": manifest.name,
        "version": model.bundle.version,
        "sha": model.bundle.digest,
        "engine": model.engine.name,
        "precision": model.engine.precision,
        "tile": list(manifest.tile),
        "scale": manifest.scale,
    }
    send_frame(connection, hello)
    ShadowProcess(connection, model.engine, config).run()
    return EXIT_OK


def main() -> int:
    """Read the argument and run."""
    signal_at_parents_end(signal.SIGKILL)
    return run(orjson.loads(sys.argv[1]))


if __name__ == "__main__":
    run_and_end(main)
