"""`python -m deploy.kubernetes`: write the Prometheus rules as a PrometheusRule object.

`make deploy-files` runs it.
"""

from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).parents[1] / "prometheus" / "rules"
OUT = Path(__file__).parent / "monitoring" / "prometheus-rule.yaml"


def prometheus_rule() -> str:
    """Return every group of rules as one PrometheusRule, in YAML."""
    groups: list[dict[str, Any]] = []
    for path in sorted(RULES.glob("*.yml"), reverse=True):
        groups += yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    content = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "semsr"},
        "spec": {"groups": groups},
    }
    text = yaml.safe_dump(content, sort_keys=False, width=100, allow_unicode=True)
    return f"# Made by `make deploy-files` from deploy/prometheus/rules; do not edit.\n{text}"


if __name__ == "__main__":
    OUT.write_text(prometheus_rule(), encoding="utf-8")
