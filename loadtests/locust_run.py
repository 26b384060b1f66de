"""Locust without a window, against a service that this starts, or one that runs already."""

import os
import subprocess
import sys
from pathlib import Path

import httpx2

from loadtests.target import running_service

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
# Bad clients that are slow are cut soon, so that a short run sees it.
_SETTINGS = {"SEMSR_BODY_TIMEOUT_S": "5", "SEMSR_HEAD_TIMEOUT_S": "5"}
_HOSTILE_LIMIT_S = 20.0


def run_locust(
    *, url: str | None, bundle: Path, users: int, seconds: float, classes: list[str]
) -> int:
    """Run it; the service must be ready afterwards.

    Args:
        url: Of a service; None starts one.
        bundle: That it then serves.
        users: How many.
        seconds: Length.
        classes: Of users; none means all, by their weights.

    Returns:
        Locust's exit code, 1 if any request failed.

    Raises:
        RuntimeError: The service is not ready afterwards.
    """
    if url is None:
        with running_service(bundle, _SETTINGS) as target:
            return run_locust(
                url=target.url, bundle=bundle, users=users, seconds=seconds, classes=classes
            )
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"]
    options = ["-u", str(users), "-r", str(users), "-t", f"{seconds:.0f}s", "--host", url]
    # Requests under way at the end are finished, not counted as failures.
    options += ["--stop-timeout", "30", "--only-summary", *classes]
    child = subprocess.run(
        [*command, *options],
        cwd=LOCUSTFILE.parents[1],
        env={"LOADTEST_HOSTILE_LIMIT_S": str(_HOSTILE_LIMIT_S), **os.environ},
        check=False,
    )
    answer = httpx2.get(f"{url}/readyz", trust_env=False, timeout=30.0)
    if answer.status_code != 200:
        raise RuntimeError(f"after the load /readyz answers {answer.status_code}: {answer.text}")
    return child.returncode
