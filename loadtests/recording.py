"""The service with the recording of metrics off, or timed: `python -m loadtests.recording off`.

The product has no such switch: the methods that record are replaced before the service is imported.
`off` leaves calls that do nothing; `timed` sums up the time of the calls and writes it, as JSON,
to the file that `RECORDING_FILE` names when the process ends.
"""

import functools
import json
import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from prometheus_client import Gauge

from service.ground.instruments import Count, Counter, Histogram, Observations

FILE_VARIABLE = "RECORDING_FILE"
_NUM_EMPTY = 100_000
_METHODS: list[tuple[type, str]] = [
    (Count, "inc"),
    (Observations, "observe"),
    (Gauge, "inc"),
    (Gauge, "dec"),
    (Gauge, "set"),
]


def _turn_off() -> None:
    for kind, name in _METHODS:
        setattr(kind, name, lambda *_, **__: None)


def _time_calls(path: Path) -> None:
    """Sum up the time of all recording calls; the look-up of labels is timed as a separate call.

    The time of an empty call, which is that of the clock, is subtracted.
    """
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

    def write() -> None:
        calls, nanoseconds = total["calls"], total["nanoseconds"]
        nothing = timed(lambda *_: None)
        for _ in range(_NUM_EMPTY):
            nothing(1.0)
        empty_ns = (total["nanoseconds"] - nanoseconds) / _NUM_EMPTY
        result = {"calls": calls, "nanoseconds": nanoseconds - calls * empty_ns}
        path.write_text(json.dumps(result), encoding="utf-8")

    leave = os._exit

    def write_and_leave(code: int) -> NoReturn:
        write()
        leave(code)

    # A process of the service ends by this call and never runs the functions of `atexit`.
    os._exit = write_and_leave


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
