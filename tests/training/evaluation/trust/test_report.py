"""The report on the trust flags: rates, bins, target, files."""

import json
import math
from pathlib import Path

import pytest

from training.evaluation.trust.report import (
    JudgedFailure,
    TrustReport,
    bin_name,
    format_report,
    rate,
    write_report,
)


def _failure(failure: str, contrast: float, residual: float, size: float = 4.0) -> JudgedFailure:
    return JudgedFailure(
        failure="erased" if failure == "erased" else "invented",
        defect="void",
        scene="sram",
        size_lr_px=size,
        contrast_to_noise=contrast,
        residual=residual,
    )


def _report(*, missed: int = 0, alarms: int = 0) -> TrustReport:
    """Forty failures of each kind beyond contrast 3, some missed; 200 clean tiles, some alarm."""
    strong = [
        _failure(kind, 3.0 + number / 10, 0.9 if number < missed else 1.5)
        for kind in ("erased", "invented")
        for number in range(40)
    ]
    return TrustReport(
        facts={"bundle": "test 0123"},
        failures=[*strong, _failure("erased", 2.9, 0.1, size=9.0)],
        clean=[1.01] * alarms + [0.6] * (200 - alarms),
        served=[0.5, 2.0],
        domains={"twice the noise": [0.5, 1.5, 1.6, 1.7]},
        cost_share=0.01,
    )


def test_a_rate_has_its_exact_interval() -> None:
    """Clopper and Pearson: 0 of 200 leaves 1.83 % possible."""
    none = rate([False] * 200)

    assert (0, 200, 0.0, 0.0) == (none.count, none.total, none.value, none.low)
    assert pytest.approx(1 - 0.025 ** (1 / 200)) == none.high
    assert math.isnan(rate([]).value)
    assert "–" == str(rate([]))


@pytest.mark.parametrize(
    ("missed", "alarms", "is_met"), [(0, 0, True), (2, 2, True), (3, 0, False), (0, 3, False)]
)
def test_the_target_is_95_percent_at_one_percent(missed: int, alarms: int, is_met: bool) -> None:
    """Of failures from contrast 3 on, of each kind; weaker ones do not count."""
    assert is_met == _report(missed=missed, alarms=alarms).is_met


def test_failures_are_counted_in_their_bins() -> None:
    """Half-open ranges of contrast and size."""
    report = _report(missed=10)

    assert (0, 10) == _counts(report, contrast=(3.0, 4.0))
    assert (30, 30) == _counts(report, contrast=(4.0, math.inf))
    assert (0, 1) == _counts(report, contrast=(2.0, 3.0), size=(8.0, math.inf))
    assert (0, 0) == _counts(report, size=(8.0, math.inf))
    assert ("3–4", "≥ 8") == (bin_name((3.0, 4.0)), bin_name((8.0, math.inf)))


def _counts(report: TrustReport, **bounds: tuple[float, float]) -> tuple[int, int]:
    found = report.caught("erased", **bounds)
    return found.count, found.total


def test_the_report_is_written_for_people_and_machines(tmp_path: Path) -> None:
    """Markdown with the rates, JSON with every figure behind them, a picture."""
    report = _report(missed=1, alarms=1)

    write_report(report, tmp_path)

    text = (tmp_path / "trust.md").read_text(encoding="utf-8")
    assert format_report(report) == text
    assert "clean tiles that alarm: 0.5% [0.0%, 2.8%] (1 of 200)" in text
    assert "| twice the noise | 75.0% [19.4%, 99.4%] (3 of 4) |" in text
    document = json.loads((tmp_path / "trust.json").read_text(encoding="utf-8"))
    assert (1, "semsr-trust", True) == (
        document["format_version"],
        document["kind"],
        document["is_met"],
    )
    assert 81 == len(document["failures"])
    assert (tmp_path / "trust.png").read_bytes().startswith(b"\x89PNG")
