"""`python -m deploy.grafana`: write the dashboards' JSON; `make deploy-files` runs it."""

import json
from pathlib import Path

from deploy.grafana import engine, line_overview, quality, scans
from deploy.grafana.panels import make_dashboard

FOLDER = Path(__file__).parent / "dashboards"


def dashboards() -> dict[str, str]:
    """Make every dashboard: file name and JSON text."""
    parts = {
        "semsr-line": ("Line overview", line_overview.ROWS),
        "semsr-engine": ("Engine and batching", engine.ROWS),
        "semsr-quality": ("Image quality and drift", quality.ROWS),
        "semsr-scans": ("Nightly scans", scans.ROWS),
    }
    return {
        f"{uid}.json": json.dumps(make_dashboard(uid, title, rows), indent=1) + "\n"
        for uid, (title, rows) in parts.items()
    }


if __name__ == "__main__":
    for name, text in dashboards().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
