"""*Nightly scans*: completion by the morning, rate, and failures.

For operators responsible for nightly scans. Every instance reads the same list of scans, so figures
of the list are the maximum over instances; tiles are summed.
"""

from deploy.grafana.panels import Panel, Row
from deploy.grafana.queries import WHO, Query, series, total


def _running(status: str) -> str:
    return f'sum(semsr_scan_running_tiles{{{WHO}, status="{status}"}})'


_ALL = f"sum(semsr_scan_running_tiles{{{WHO}}})"
_TILES_PER_S = total("semsr_scan_tiles_total", "outcome")

_NO_SCANS = "Scans are disabled (SEMSR_SCAN_ROOTS)"
_NONE_RUNS = "No scan is running"

MORNING = Row(
    "Completion by the morning",
    [
        Panel(
            "Expected delay",
            [Query(f"max(semsr_scan_late_seconds{{{WHO}}})")],
            text="Most overdue active scan against its finish_by. Includes pauses.",
            do="above 0, see runbook SemsrScanLate.",
            empty=_NO_SCANS,
            unit="s",
            kind="stat",
            warn=1,
            bad=900,
            width=6,
        ),
        Panel(
            "Time until all are done",
            [Query(f"max(semsr_scan_remaining_seconds{{{WHO}}})")],
            text="Covers scans with a known rate; a scan that has never run has none yet.",
            do="if it ends after the morning, pause less urgent scans.",
            empty="No scan with a known rate",
            unit="s",
            kind="stat",
            width=6,
        ),
        Panel(
            "Progress of running scans",
            [Query(f"({_running('done')} + {_running('failed')}) / ({_ALL} > 0)")],
            text="Share of the tiles of running scans that are done or failed.",
            do="if it stands still, look at Rate.",
            empty=_NONE_RUNS,
            unit="percentunit",
            kind="stat",
            width=6,
        ),
        Panel(
            "Failed tiles of running scans",
            [Query(_running("failed"))],
            text="Tiles that could not be read, computed, or written.",
            do="GET /scans/ID lists the first ones; the manifest has all, with reasons.",
            empty=_NONE_RUNS,
            kind="stat",
            warn=1,
            bad=1000,
            width=6,
        ),
        Panel(
            "Scans by state",
            [Query(f"max by (state) (semsr_scans{{{WHO}}})", "{{state}}")],
            text="Scans in the list, by state.",
            do="failed and incomplete scans resume by POST /scans/ID/resume once the reason is "
            "gone.",
            empty=_NO_SCANS,
            width=12,
        ),
        Panel(
            "Expected delay, and time until all are done",
            [
                Query(f"max(semsr_scan_late_seconds{{{WHO}}})", "expected delay"),
                Query(f"max(semsr_scan_remaining_seconds{{{WHO}}})", "until done"),
            ],
            text="Both figures over time.",
            do="a line that rises while scans run means that they get less capacity than planned.",
            empty=_NO_SCANS,
            unit="s",
            width=12,
        ),
    ],
)

RATE = Row(
    "Rate",
    [
        Panel(
            "Remaining tiles",
            [Query(_running("pending"), "pending")],
            text="Rises when a scan starts and falls while it runs.",
            do="a flat line means that the scan waits for online tiles, a pause, or a store.",
            empty=_NONE_RUNS,
        ),
        Panel(
            "Scan tiles per second",
            [Query(_TILES_PER_S, "{{outcome}}")],
            text="Tiles finished by scans, by outcome.",
            do="compare with the capacity of the engine on Engine and batching.",
            empty="No scan has run",
            stacked=True,
        ),
        Panel(
            "All tiles per second by priority",
            [series("priority", "semsr_tiles_total")],
            text="Nightly tiles use the capacity that online tiles leave free.",
            do="if online tiles leave none, move the scan or add an instance.",
            stacked=True,
        ),
    ],
)

ENDS = Row(
    "Ended scans",
    [
        Panel(
            "Ended scans per day",
            [series("state", "semsr_scans_ended_total", function="increase", window="1d")],
            text="incomplete: tiles failed. failed: stopped early.",
            do="GET /scans gives the reason of a failed scan, the manifest that of failed tiles; "
            "see runbook SemsrScanFailed.",
            empty="No scan has ended",
            width=12,
        ),
        Panel(
            "Failed tiles per hour",
            [
                Query(
                    f'sum by (instance) (increase(semsr_scan_tiles_total{{{WHO}, outcome="failed"}}'
                    "[1h]))",
                    "{{instance}}",
                )
            ],
            text="Tiles of scans that failed, by instance.",
            do="failures on one instance only point at its disk or network.",
            empty="No tile of a scan has failed",
            width=12,
        ),
    ],
)

ROWS = [MORNING, RATE, ENDS]
