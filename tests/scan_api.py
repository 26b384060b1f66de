"""A client of `/scans` for tests, of an app in this process or of a server."""

import time
from typing import Any, TypeAlias

import httpx2
from fastapi.testclient import TestClient

ENDED = frozenset({"done", "incomplete", "failed", "cancelled"})
TIMEOUT_S = 120.0


# httpx2's and those of FastAPI's own client, which are alike and share no base class.
Answer: TypeAlias = Any


class Scans:
    """Asks for scans and waits for them."""

    def __init__(self, client: httpx2.Client | TestClient) -> None:
        self._client = client

    def post(
        self, source: object, sink: object, *, key: str | None = None, **changes: Any
    ) -> Answer:
        """Ask for a scan with a CSV manifest; returns the answer."""
        options = {"manifest": "csv", **changes.pop("options", {})}
        body = {"source": str(source), "sink": str(sink), "options": options, **changes}
        headers = {} if key is None else {"idempotency-key": key}
        return self._client.request("POST", "/scans", json=body, headers=headers)

    def start(self, source: object, sink: object, **changes: Any) -> str:
        """Ask for a scan; returns its id."""
        answer = self.post(source, sink, **changes)
        assert 201 == answer.status_code, answer.text
        return answer.json()["id"]

    def get(self, scan: str) -> dict[str, Any]:
        """How far a scan is."""
        answer = self._client.request("GET", f"/scans/{scan}")
        assert 200 == answer.status_code, answer.text
        return answer.json()

    def do(self, scan: str, verb: str) -> Answer:
        """Pause or resume a scan; returns the answer."""
        return self._client.request("POST", f"/scans/{scan}/{verb}")

    def delete(self, scan: str) -> Answer:
        """Stop or forget a scan; returns the answer."""
        return self._client.request("DELETE", f"/scans/{scan}")

    def wait(self, scan: str, *states: str) -> dict[str, Any]:
        """Wait until a scan is in one of some states, by default one of the ends."""
        wanted = frozenset(states) or ENDED
        deadline_s = time.monotonic() + TIMEOUT_S
        while (info := self.get(scan))["state"] not in wanted:
            assert info["state"] not in ENDED, info
            assert time.monotonic() < deadline_s, info
            time.sleep(0.02)
        return info

    def wait_done(self, scan: str, tiles: int) -> dict[str, Any]:
        """Wait until so many tiles of a scan are done."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while ((info := self.get(scan))["tiles"] or {"done": 0})["done"] < tiles:
            assert info["state"] not in ENDED, info
            assert time.monotonic() < deadline_s, info
            time.sleep(0.02)
        return info
