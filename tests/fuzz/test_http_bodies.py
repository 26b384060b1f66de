"""100,000 damaged bodies over HTTP: no 5xx, no picture that is not there, no memory that grows."""

import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from semsr.server_process import running_server
from tests.fuzz.http_bodies import Findings, send_all

TINY_BUNDLE = Path(__file__).parent.parent / "data" / "tiny_bundle"
BODIES = int(os.environ.get("FUZZ_BODIES", "100000"))
WARM_UP_BODIES = 5_000
CONNECTIONS = 4
MOST_GROWTH_MIB = 20.0


def resident_mib(pid: int) -> float:
    """Memory of a process that is resident now."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def send(url: str, numbers: range) -> Findings:
    """Send requests over several connections at once."""
    findings = Findings()
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        shares = [numbers[first::CONNECTIONS] for first in range(CONNECTIONS)]
        for found in threads.map(lambda share: send_all(url, share), shares):
            findings.add(found)
    return findings


@pytest.mark.slow
def test_damaged_bodies_cost_no_5xx_no_wrong_picture_and_no_memory() -> None:
    """Every type with odd headers, over connections that are kept, against a real process."""
    settings = {"SEMSR_BUNDLE": str(TINY_BUNDLE), "SEMSR_ENGINE": "identity", "SEMSR_THREADS": "1"}
    with running_server(settings) as server:
        warm_up = send(server.url, range(WARM_UP_BODIES))
        before_mib = resident_mib(server.pid)
        findings = send(server.url, range(WARM_UP_BODIES, WARM_UP_BODIES + BODIES))
        growth_mib = resident_mib(server.pid) - before_mib

    # Shown by `pytest -rP`.
    sys.stdout.write(
        f"{BODIES} bodies by status: {dict(sorted(findings.statuses.items()))}; "
        f"{findings.compared} pictures compared; memory {before_mib:.1f} MiB, grown by "
        f"{growth_mib:.1f} MiB; {len(findings.faults)} faults\n"
    )
    assert [] == (warm_up.faults + findings.faults)[:20]
    assert BODIES == findings.statuses.total()
    assert {200, 400, 415, 422} <= findings.statuses.keys()
    assert growth_mib <= MOST_GROWTH_MIB
