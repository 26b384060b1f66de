"""*Nightly scans*: are they done by the morning, how fast do they go, what fails.

For whoever looks after the night. Scans are kept in one list that every instance reads, so what is
said of the list is the largest of all instances; tiles are added up.
"""

from deploy.grafana.panels import WHO, Panel, Query, Row


def _running(status: str) -> str:
    return f'sum(semsr_scan_running_tiles{{{WHO}, status="{status}"}})'


_ALL = f"sum(semsr_scan_running_tiles{{{WHO}}})"
_TILES_PER_S = f"sum by (outcome) (rate(semsr_scan_tiles_total{{{WHO}}}[$__rate_interval]))"

MORNING = Row(
    "Will they be done by the morning?",
    [
        Panel(
            "Late by",
            [Query(f"max(semsr_scan_late_seconds{{{WHO}}})")],
            unit="s",
            kind="stat",
            warn=1,
            bad=900,
            text="The worst scan that has not ended, against its finish_by. Pauses are counted.",
            width=6,
        ),
        Panel(
            "Until the last one is done",
            [Query(f"max(semsr_scan_remaining_seconds{{{WHO}}})")],
            unit="s",
            kind="stat",
            text="Of those whose rate is known: one that was never run has none yet.",
            width=6,
        ),
        Panel(
            "Done of those that run",
            [Query(f"({_running('done')} + {_running('failed')}) / ({_ALL} > 0)")],
            unit="percentunit",
            kind="stat",
            width=6,
        ),
        Panel(
            "Tiles that failed of those that run",
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
            "Late by, and until the last one is done",
            [
                Query(f"max(semsr_scan_late_seconds{{{WHO}}})", "late by"),
                Query(f"max(semsr_scan_remaining_seconds{{{WHO}}})", "until done"),
            ],
            unit="s",
            width=12,
        ),
    ],
)

RATE = Row(
    "How fast do they go?",
    [
        Panel(
            "Tiles that are left",
            [Query(_running("pending"), "pending")],
            text="Rises when a scan begins, falls as it goes; flat: it waits for online tiles, a "
            "pause or a store.",
        ),
        Panel(
            "Tiles a second",
            [Query(_TILES_PER_S, "{{outcome}}")],
            stacked=True,
        ),
        Panel(
            "Beside the line: tiles a second by class",
            [
                Query(
                    f"sum by (priority) (rate(semsr_tiles_total{{{WHO}}}[$__rate_interval]))",
                    "{{priority}}",
                )
            ],
            stacked=True,
            text="Nightly tiles take what online ones leave.",
        ),
    ],
)

ENDS = Row(
    "How did they end?",
    [
        Panel(
            "Scans that ended, in a day",
            [
                Query(
                    f"sum by (state) (increase(semsr_scans_ended_total{{{WHO}}}[1d]))", "{{state}}"
                )
            ],
            text="incomplete: tiles failed, see the manifest. failed: before its end, GET /scans "
            "says why.",
            width=12,
        ),
        Panel(
            "Tiles that failed, in an hour",
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
