"""A program: start the service, send one tile, end it; print what happened as JSON.

Runs inside a sandbox with the interpreter that is tested, whose service it starts, so it imports
nothing that only the tests have. Writes no file.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import numpy as np
from PIL import Image

TIMEOUT_S = 120.0
CHECKS = 3


def main(golden: Path, command: list[str], health_check: list[str]) -> dict[str, object]:
    """Serve one golden tile.

    Args:
        golden: The bundle's folder of golden tiles.
        command: Starts the service.
        health_check: The container's.

    Returns:
        What a test wants to know.
    """
    lr, sr = (np.asarray(Image.open(golden / name)) for name in ("lr.png", "sr.png"))
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{os.environ['SEMSR_PORT']}"
    try:
        with httpx2.Client(base_url=url, timeout=60.0, trust_env=False) as client:
            _wait_ready(client, process)
            headers = {
                "content-type": "application/octet-stream",
                "x-tile-shape": f"{lr.shape[-2]},{lr.shape[-1]}",
            }
            answer = client.post("/superresolve", content=lr.tobytes(), headers=headers)
        pixels = np.frombuffer(answer.content, np.uint8).astype(int)
        healthy = _check(health_check)
        process.send_signal(signal.SIGTERM)
        return {
            "uid": os.getuid(),
            "writable": [str(path) for path in _places() if _can_write(path)],
            "status": answer.status_code,
            "largest_error": int(np.abs(pixels - sr.reshape(-1)).max()),
            "health_check": healthy,
            "exit_code": process.wait(TIMEOUT_S),
            "health_check_after": _check(health_check),
        }
    finally:
        process.kill()


def _wait_ready(client: httpx2.Client, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise RuntimeError(f"the service ended with exit code {process.returncode}")
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError("the service was not ready in time")


def _check(command: list[str]) -> int:
    """Check as often as a container does before it counts as unhealthy; the last exit code."""
    codes = (subprocess.run(command, check=False).returncode for _ in range(CHECKS))
    return next((code for code in codes if code == 0), 1)


def _places() -> list[Path]:
    return [Path(name) for name in ("/", "/tmp", "/var/tmp", "/run", ".", sys.prefix)]  # noqa: S108


def _can_write(folder: Path) -> bool:
    try:
        (folder / "semsr-test-writes").touch()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), *json.loads(sys.argv[2]))))
