"""Runs Locust without its web page, against a service that it starts or that already runs."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import httpx2

from loadtests.target import running_service

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
# Slow bad clients are disconnected soon, so that a short run sees it.
_SETTINGS = {"SEMSR_BODY_TIMEOUT_S": "5", "SEMSR_HEAD_TIMEOUT_S": "5"}
_HOSTILE_LIMIT_S = 20.0


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "classes",
        nargs="*",
        metavar="USER",
        help="PipelineUser, NightlyUser, … (default: all, by their weights)",
    )
    parser.add_argument("--url", help="URL of a running service (default: one is started)")
    parser.add_argument("--users", type=int, default=20, help="number of users")
    parser.add_argument("--seconds", type=float, default=30.0, help="length in seconds")


def run(options: argparse.Namespace) -> int:
    """Run Locust; the service must be ready afterwards.

    Returns:
        Locust's exit code, 1 if any request failed.

    Raises:
        RuntimeError: The service is not ready afterwards.
    """
    if options.url is not None:
        return _run_locust(options.url, options)
    with running_service(options.bundle, _SETTINGS) as target:
        return _run_locust(target.url, options)


def _run_locust(url: str, options: argparse.Namespace) -> int:
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"]
    users = str(options.users)
    command += ["-u", users, "-r", users, "-t", f"{options.seconds:.0f}s", "--host", url]
    # Requests in flight at the end are finished, not counted as failures.
    command += ["--stop-timeout", "30", "--only-summary", *options.classes]
    child = subprocess.run(
        command,
        cwd=LOCUSTFILE.parents[1],
        env={"LOADTEST_HOSTILE_LIMIT_S": str(_HOSTILE_LIMIT_S), **os.environ},
        check=False,
    )
    answer = httpx2.get(f"{url}/readyz", trust_env=False, timeout=30.0)
    if answer.status_code != 200:
        raise RuntimeError(f"after the load /readyz answers {answer.status_code}: {answer.text}")
    return child.returncode
