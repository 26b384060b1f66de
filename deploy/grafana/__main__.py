"""`python -m deploy.grafana`: write the dashboards' JSON; `make deploy-files` runs it."""

import json
from pathlib import Path
from typing import Any

from deploy.grafana import engine, line_overview, quality, scans
from deploy.grafana.panels import make_dashboard

_ENCODER = json.JSONEncoder(separators=(",", ":"))
FOLDER = Path(__file__).parent / "dashboards"


def dashboards() -> dict[str, str]:
    """Make every dashboard: file name and JSON text."""
    parts = {
        "semsr-line": ("Line overview", line_overview.ROWS, ("model",)),
        "semsr-engine": ("Engine and batching", engine.ROWS, ("model",)),
        "semsr-quality": ("Image quality and drift", quality.ROWS, ("model", "tool")),
        "semsr-scans": ("Nightly scans", scans.ROWS, ()),
    }
    return {
        f"{uid}.json": _text(make_dashboard(uid, title, rows, variables=variables))
        for uid, (title, rows, variables) in parts.items()
    }


def _text(dashboard: dict[str, Any]) -> str:
    """Write JSON with one line for each entry and each panel, which a diff then shows."""
    panels = ",\n".join(map(_ENCODER.encode, dashboard["panels"]))
    entries = {name: _ENCODER.encode(value) for name, value in dashboard.items()}
    entries["panels"] = f"[\n{panels}\n]"
    lines = ",\n".join(f'"{name}":{text}' for name, text in entries.items())
    return f"{{\n{lines}\n}}\n"


if __name__ == "__main__":
    for name, text in dashboards().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
