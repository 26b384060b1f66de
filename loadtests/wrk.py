"""The load of `wrk`, where it is installed: a well-known client next to our own.

wrk reads every byte of an answer, and with 0.9 MB per answer it is slower than the server. Our own
client only counts the bytes. Ratios from both are printed: wrk shows the rate that a real client
gets, and our client the rate that the server can reach.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from loadtests.closed_loop import LoadResult
from loadtests.exchange import Address, TileRequest

_SCRIPT = """\
wrk.method = "POST"
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
file:close()
{headers}
"""
_UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def is_installed() -> bool:
    """Whether wrk is on PATH."""
    return shutil.which("wrk") is not None


def run_wrk(
    address: Address, tile: TileRequest, *, connections: int, seconds: float, threads: int = 1
) -> LoadResult:
    """Run wrk; the latencies of the result are its median and 99th percentile."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "body").write_bytes(tile.body)
        lines = "\n".join(
            f'wrk.headers["{key}"] = "{value}"' for key, value in tile.headers.items()
        )
        script = folder / "load.lua"
        script.write_text(_SCRIPT.format(body=folder / "body", headers=lines), encoding="utf-8")
        url = f"http://{address[0]}:{address[1]}{tile.path}"
        length = f"{max(1, round(seconds))}s"
        counts = [f"-t{threads}", f"-c{connections}", f"-d{length}"]
        child = subprocess.run(
            ["wrk", *counts, "--latency", "-s", str(script), url],  # noqa: S607
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=seconds + 60,
        )
    return parse_wrk(child.stdout)


def parse_wrk(text: str) -> LoadResult:
    """Read wrk's report.

    Raises:
        ValueError: It is not a report of wrk.
    """
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m),", text)
    percentiles = dict(re.findall(r"(50|99)%\s+([\d.]+(?:us|ms|s))", text))
    if total is None or len(percentiles) != 2:
        raise ValueError(f"not a report of wrk: {text[:200]!r}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text
    )
    errors = 0 if bad is None else int(bad[1])
    seconds = float(total[2]) * (60.0 if total[3] == "m" else _UNITS_MS[total[3]] / 1e3)
    median_ms, last_ms = (_milliseconds(percentiles[key]) for key in ("50", "99"))
    good = int(total[1]) - errors
    errors += 0 if broken is None else sum(map(int, broken.groups()))
    # As many as a percentile needs to find both.
    return LoadResult(good, errors, seconds, [median_ms] * 98 + [last_ms] * 2)


def _milliseconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)(us|ms|s)", text)
    if match is None:
        raise ValueError(f"not a time of wrk: {text!r}")
    return float(match[1]) * _UNITS_MS[match[2]]
