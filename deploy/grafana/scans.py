"""*Nightly scans*: completion by the morning, rate, and failures.

For operators responsible for nightly scans. Every instance reads the same list of scans, so figures
of the list are the maximum over instances; tiles are summed.
"""

from deploy.grafana.panels import WHO, Panel, Query, Row, series, total


def _running(status: str) -> str:
    return f'sum(semsr_scan_running_tiles{{{WHO}, status="{status}"}})'


_ALL = f"sum(semsr_scan_running_tiles{{{WHO}}})"
_TILES_PER_S = total("semsr_scan_tiles_total", "outcome")

MORNING = Row(
    "Completion by the morning",
    [
        Panel(
            "Expected delay",
            [Query(f"max(semsr_scan_late_seconds{{{WHO}}})")],
            unit="s",
            kind="stat",
            warn=1,
            bad=900,
            text="Most overdue active scan against its finish_by. Includes pauses.",
            width=6,
        ),
        Panel(
            "Time until all are done",
            [Query(f"max(semsr_scan_remaining_seconds{{{WHO}}})")],
            unit="s",
            kind="stat",
            text="Covers scans with a known rate; a scan that has never run has none yet.",
            width=6,
        ),
        Panel(
            "Progress of running scans",
            [Query(f"({_running('done')} + {_running('failed')}) / ({_ALL} > 0)")],
            unit="percentunit",
            kind="stat",
            width=6,
        ),
        Panel(
            "Failed tiles of running scans",
            [Query(_running("failed"))],
            kind="stat",
            warn=1,
            bad=1000,
            width=6,
        ),
        Panel(
            "Scans by state",
            [Query(f"max by (state) (semsr_scans{{{WHO}}})", "{{state}}")],
            width=12,
        ),
        Panel(
            "Expected delay, and time until all are done",
            [
                Query(f"max(semsr_scan_late_seconds{{{WHO}}})", "expected delay"),
                Query(f"max(semsr_scan_remaining_seconds{{{WHO}}})", "until done"),
            ],
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
            text="Rises when a scan starts and falls while it runs. A flat line means that the "
            "scan waits for online tiles, a pause, or a store.",
        ),
        Panel(
            "Scan tiles per second",
            [Query(_TILES_PER_S, "{{outcome}}")],
            stacked=True,
        ),
        Panel(
            "All tiles per second by priority",
            [series("priority", "semsr_tiles_total")],
            stacked=True,
            text="Nightly tiles use the capacity that online tiles leave free.",
        ),
    ],
)

ENDS = Row(
    "Ended scans",
    [
        Panel(
            "Ended scans per day",
            [series("state", "semsr_scans_ended_total", function="increase", window="1d")],
            text="incomplete: tiles failed, see the manifest. failed: stopped early; GET /scans "
            "gives the reason.",
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
            width=12,
        ),
    ],
)

ROWS = [MORNING, RATE, ENDS]
