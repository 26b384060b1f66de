"""Locust users of the service: pipeline, nightly, mixed, hostile.

    python -m loadtests locust                                  # starts a service and loads it
    locust -f loadtests/locustfile.py --headless -u 20 -t 1m --host http://127.0.0.1:8000
    locust -f loadtests/locustfile.py … PipelineUser NightlyUser       # some of the users only

A refusal (503, and 504 where a deadline was given) is not a failure: the user retries after the
time that it names. Every other answer that is not as documented is a failure, and Locust then ends
with exit code 1. Locust is a closed loop in Python; `python -m loadtests.open_loop` gives more
accurate latencies.
"""

import os
import random
import time
from urllib.parse import urlsplit

import gevent
import numpy as np
import numpy.typing as npt
from locust import FastHttpUser, User, between, constant_pacing, task
from locust.contrib.fasthttp import ResponseContextManager

from loadtests import hostile, images

# Longest reaction to a bad client; beyond the service's own SEMSR_BODY_TIMEOUT_S.
HOSTILE_LIMIT_S = float(os.environ.get("LOADTEST_HOSTILE_LIMIT_S", "60"))
DEADLINE_MS = int(os.environ.get("LOADTEST_DEADLINE_MS", "30000"))
_DEFAULT_RETRY_MS = 100.0
_NUM_TILES = 8


def _media_type(answer: ResponseContextManager) -> str | None:
    return None if answer.headers is None else str(answer.headers.get("content-type"))


class _ServiceUser(FastHttpUser):
    """Sends pictures and judges answers."""

    abstract = True
    network_timeout = 120.0
    connection_timeout = 10.0

    def on_start(self) -> None:
        """Ask what is served."""
        with self.client.get("/model", catch_response=True) as answer:
            model = answer.json() if answer.status_code == 200 else {}
        self.scale = int(model.get("scale", 4))
        self.tile_px = tuple(model.get("tile", (240, 240)))
        self.model = model.get("name", "default")
        self.tiles = [images.wafer(seed, *self.tile_px) for seed in range(_NUM_TILES)]

    def send(
        self,
        name: str,
        request: tuple[bytes, dict[str, str]],
        *,
        length: int | None = None,
        media_type: str | None = None,
        path: str = "/superresolve",
        **headers: str,
    ) -> float | None:
        """Post one picture.

        Args:
            name: Name in the statistics.
            request: Body and headers.
            length: Length of a good answer in bytes; None does not check.
            media_type: Content type of a good answer; None does not check.
            path: Path of the route.
            headers: Further headers, with `_` for `-`.

        Returns:
            Seconds after which to retry, or None if the answer is final.
        """
        body, own = request
        more = {key.replace("_", "-"): value for key, value in headers.items()}
        with self.client.request(
            "POST",
            path,
            data=body,  # pyright: ignore[reportArgumentType] - bytes are taken, and not declared
            headers={**own, **more},
            name=name,
            catch_response=True,
        ) as answer:
            if answer.status_code in {503, 504}:
                return self._refused(answer)
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}: {(answer.text or '')[:200]}")
            elif length is not None and len(answer.content or b"") != length:
                answer.failure(f"{len(answer.content or b'')} bytes, expected {length}")
            elif media_type is not None and _media_type(answer) != media_type:
                answer.failure(f"{_media_type(answer)}, expected {media_type}")
            return None

    def _refused(self, answer: ResponseContextManager) -> float | None:
        problem = answer.json()
        if answer.status_code == 503 and "retry_after_ms" not in problem:
            answer.failure("503 without retry_after_ms")
            return None
        answer.success()
        return float(problem.get("retry_after_ms", _DEFAULT_RETRY_MS)) / 1e3

    @property
    def answer_bytes(self) -> int:
        """Length of a raw tile's answer."""
        height, width = self.tile_px
        return self.scale**2 * height * width

    def any_tile(self) -> npt.NDArray[np.uint8]:
        """One of the user's tiles."""
        return random.choice(self.tiles)  # noqa: S311 - a load, not a secret


class PipelineUser(_ServiceUser):
    """A defect-detection pipeline: raw tiles, a kept connection, a deadline."""

    weight = 6
    wait_time = between(0.0, 0.02)

    @task
    def tile(self) -> None:
        """Send one tile; after a refusal wait for the time that it names."""
        wait_s = self.send(
            "pipeline: raw",
            images.raw(self.any_tile()),
            length=self.answer_bytes,
            x_request_timeout_ms=str(DEADLINE_MS),
        )
        if wait_s is not None:
            gevent.sleep(wait_s)


class NightlyUser(_ServiceUser):
    """A nightly job: every tile must be served in the end."""

    weight = 2
    wait_time = between(0.0, 0.0)

    @task
    def tile(self) -> None:
        """Send one tile until it is served."""
        request = images.raw(self.any_tile())
        while True:
            wait_s = self.send(
                "nightly: raw", request, length=self.answer_bytes, x_priority="nightly"
            )
            if wait_s is None:
                return
            gevent.sleep(wait_s)


class MixedUser(_ServiceUser):
    """People and scripts: every format, several sizes, Open Inference Protocol, quiet routes."""

    weight = 2
    wait_time = between(0.05, 0.5)

    @task(4)
    def png(self) -> None:
        """8 bit PNG."""
        self.send("mixed: png", images.file(self.any_tile(), "png"), media_type="image/png")

    @task(2)
    def deep_tiff(self) -> None:
        """16 bit TIFF in and out."""
        pixels = self.any_tile().astype("uint16") * 200
        self.send(
            "mixed: tiff, 16 bit",
            images.file(pixels, "tiff"),
            media_type="image/tiff",
            x_answer_dtype="uint16",
        )

    @task(2)
    def jpeg(self) -> None:
        """JPEG, answered as PNG."""
        self.send("mixed: jpeg", images.file(self.any_tile(), "jpeg"), media_type="image/png")

    @task(2)
    def npy(self) -> None:
        """A NumPy file, answered compressed."""
        self.send(
            "mixed: npy", images.npy(self.any_tile()), media_type="application/zstd",
            accept="application/zstd",
        )  # fmt: skip

    @task
    def odd_sizes(self) -> None:
        """A small picture and one of several tiles."""
        rows, columns = self.tile_px
        for height, width in ((rows // 3, columns // 2), (2 * rows + 5, columns + 3)):
            pixels = images.wafer(3, height, width)
            length = self.scale**2 * height * width
            self.send("mixed: other sizes", images.raw(pixels), length=length)

    @task
    def inference_protocol(self) -> None:
        """One raw tile by the binary tensor extension."""
        headers = {"Content-Type": images.RAW, "Inference-Header-Content-Length": "0"}
        path = f"/v2/models/{self.model}/infer"
        self.send("mixed: v2", (self.any_tile().tobytes(), headers), path=path)

    @task
    def quiet_routes(self) -> None:
        """Routes of operators and dashboards."""
        for path in ("/readyz", "/livez", "/metrics", "/model", "/v2"):
            self.client.get(path, name=f"mixed: {path}")


class HostileUser(User):
    """Broken and malicious clients; see `loadtests.hostile`."""

    weight = 1
    wait_time = constant_pacing(0.2)

    def on_start(self) -> None:
        """Begin at a random act, so that several users do different things."""
        self.number = random.randrange(len(hostile.ACTS))  # noqa: S311 - a load, not a secret

    @task
    def act(self) -> None:
        """Perform the next act; slow ones run next to the others."""
        act = hostile.ACTS[self.number % len(hostile.ACTS)]
        self.number += 1
        if act.name.startswith("slow"):
            gevent.spawn(self._perform, act)
        else:
            self._perform(act)

    def _perform(self, act: hostile.Act) -> None:
        parts = urlsplit(str(self.host))
        start_s = time.perf_counter()
        problem: Exception | None = None
        try:
            address = (str(parts.hostname), parts.port or 80)
            hostile.perform(act, address, longest_s=HOSTILE_LIMIT_S)
        except (hostile.HostileError, OSError) as error:
            problem = error
        self.environment.events.request.fire(
            request_type="RAW",
            name=f"hostile: {act.name}",
            response_time=1e3 * (time.perf_counter() - start_s),
            response_length=0,
            exception=problem,
            context={},
        )
