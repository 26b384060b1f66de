"""The service with the recording of metrics off, or timed: `python -m loadtests.recording off`.

The product has no such switch: the methods of the Prometheus client that record are replaced before
the service is imported. `off` leaves a call that does nothing; `timed` adds up what the calls take
and writes it, as JSON, to the file that `RECORDING_FILE` names when the process ends.
"""

import atexit
import functools
import json
import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

FILE_VARIABLE = "RECORDING_FILE"
_METHODS: list[tuple[type, str]] = [
    (Counter, "inc"),
    (Gauge, "inc"),
    (Gauge, "dec"),
    (Gauge, "set"),
    (Histogram, "observe"),
]


def _turn_off() -> None:
    for kind, name in _METHODS:
        setattr(kind, name, lambda *_, **__: None)


def _time_calls(path: Path) -> None:
    """Let every recording call add to a sum; looking up labels is a call of its own."""
    total = {"calls": 0, "nanoseconds": 0}

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*arguments: object, **named: object) -> object:
            started_ns = time.perf_counter_ns()
            try:
                return method(*arguments, **named)
            finally:
                total["nanoseconds"] += time.perf_counter_ns() - started_ns
                total["calls"] += 1

        return call

    for kind, name in [*_METHODS, *((kind, "labels") for kind in (Counter, Gauge, Histogram))]:
        setattr(kind, name, timed(getattr(kind, name)))
    atexit.register(lambda: path.write_text(json.dumps(total), encoding="utf-8"))


def main() -> None:
    """Replace the methods, then run the service."""
    match sys.argv[1:]:
        case ["off"]:
            _turn_off()
        case ["timed"]:
            _time_calls(Path(os.environ[FILE_VARIABLE]))
        case arguments:
            raise SystemExit(f"expected off or timed, found {arguments}")
    sys.argv[1:] = []
    runpy.run_module("service", run_name="__main__")


if __name__ == "__main__":
    main()
