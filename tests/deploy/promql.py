"""Rules, alerts and PromQL as the tests of `deploy/` read them."""

import functools
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yml"))

# What others than this service and these rules export.
_FOREIGN = re.compile(r"up|ALERTS|process_\w+|DCGM_FI_\w+")
_SUFFIXES = re.compile(r"_(bucket|sum|count)$")
_WORDS = frozenset({"and", "or", "unless", "bool", "offset"})


def read_rules() -> list[dict[str, Any]]:
    """Read every rule, alerts and recorded figures alike, in the order of the files."""
    return [
        rule
        for path in RULE_FILES
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


def read_alerts() -> dict[str, dict[str, Any]]:
    """Read the alerts by name."""
    return {rule["alert"]: rule for rule in read_rules() if "alert" in rule}


@functools.cache
def recorded_names() -> list[str]:
    """List the names of the recorded figures."""
    return [rule["record"] for rule in read_rules() if "record" in rule]


@functools.cache
def documented_metrics() -> set[str]:
    """List the metrics that docs/metrics.md explains."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(semsr_\w+)`", page, flags=re.MULTILINE))


def metric_names(query: str) -> set[str]:
    """Find the metrics that a query reads, for the PromQL that is written here."""
    text = re.sub(r'"(?:[^"\\]|\\.)*"', '""', query)
    text = re.sub(r"\{[^}]*\}", "{}", text)
    text = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", text)
    text = re.sub(r"\[[^\]]*\]", "", text)
    names = re.findall(r"(?<![\w:$.])[a-zA-Z_:][\w:]*(?!\s*\()(?![\w:])", text)
    return {name for name in names if name not in _WORDS}


def unknown_metrics(query: str) -> set[str]:
    """Find the metrics of a query that neither the service nor a rule nor an exporter has."""
    known = documented_metrics() | set(recorded_names())
    return {
        name
        for name in metric_names(query)
        if name not in known
        and _SUFFIXES.sub("", name) not in known
        and not _FOREIGN.fullmatch(name)
    }
