"""Stage `report`: one self-contained HTML page with the verdict, and the same figures as JSON.

`report.json` holds no time and no place, so that two runs of equal inputs and plan write the same
bytes; the page adds the times in one section of its own.
"""

import base64
import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bundle_format.bundle import load_bundle
from semsr.acceptance.charts import legend, line_chart
from semsr.acceptance.criteria import is_accepted, judge_criteria
from semsr.acceptance.findings import Finding
from semsr.acceptance.identity import sha256_of, sha256_of_text
from semsr.acceptance.judging import NEW
from semsr.acceptance.layout import Layout, Settings, read_json, write_json
from semsr.acceptance.planning import SEEN
from semsr.acceptance.splitting import split_findings
from semsr.progress import duration
from training.evaluation.report.tables import OWN_COLUMNS, OWN_PAIR_COLUMNS, shown
from training.ground.whole_file import write_whole_text
from training.run.folder import RunDir

TEMPLATE = "report.html.j2"
SHOWN_RANGES = (
    ("spot_sigma_px", "beam spot, sigma", "HR px"),
    ("lag_decay", "detector lag, decay", ""),
    ("line_jitter_px", "line jitter", "HR px"),
    ("gain", "gain", ""),
    ("gamma", "gamma", ""),
    ("offset_grey", "offset", "grey levels"),
    ("noise_var_base", "noise variance at black", "grey levels²"),
    ("noise_var_slope", "noise variance, slope with grey", "grey levels"),
)
STAGES = {
    "check": "check of the images",
    "split": "split",
    "estimate": "estimation of the degradation",
    "plan": "plan of the training",
    "train": "training",
    "export": "export",
    "evaluate": "evaluation",
}


def write_report(
    settings: Settings,
    layout: Layout,
    asked: Mapping[str, Any],
    *,
    seconds: Mapping[str, float],
    measured: Mapping[str, Mapping[str, float]],
) -> tuple[list[Path], bool]:
    """Judge the criteria, and write `report.json` and `report.html`.

    Args:
        settings: Options.
        layout: Folder, with the files of all stages before.
        asked: Description of data, code and versions, see `identity.asked_of`.
        seconds: Seconds of each stage.
        measured: Measured times of each stage.

    Returns:
        The written files, and whether the model is accepted.
    """
    document = _document(settings, layout, asked)
    write_json(layout.report_json, "report", document)
    html = (
        _environment()
        .get_template(TEMPLATE)
        .render(
            report=document,
            groups=[
                (name, list(rows))
                for name, rows in groupby(document["criteria"], key=lambda row: row["group"])
            ],
            pictures=_embedded(layout, document["pictures"]),
            spectrum=_spectrum_chart(document["spectra"]),
            legend=legend(list(document["spectra"]["db"])),
            curve=_loss_chart(document["training"]["curve"]),
            own_columns=[
                column
                for column in OWN_COLUMNS
                if any(row[column[0]] is not None for row in document["figures"])
            ],
            pair_columns=[
                column
                for column in OWN_PAIR_COLUMNS
                if any(row[column[0]] is not None for row in document["made_pairs"])
            ],
            new=NEW,
            fingerprint=sha256_of(layout.report_json),
            times=_times(seconds, measured),
        )
    )
    write_whole_text(layout.report, html)
    return [layout.report, layout.report_json], document["is_accepted"]


def read_verdict(layout: Layout) -> dict[str, Any]:
    """Return the document of a finished report."""
    return read_json(layout.report_json)


def _document(settings: Settings, layout: Layout, asked: Mapping[str, Any]) -> dict[str, Any]:
    checked, split, plan = (read_json(p) for p in (layout.check, layout.split, layout.plan))
    figures, ranges = read_json(layout.figures), read_json(layout.degradation)["ranges"]
    bundle = load_bundle(layout.bundle)
    manifest = bundle.manifest
    parity = {name: item.model_dump(mode="json") for name, item in manifest.parity.items()}
    criteria = judge_criteria(figures, parity, new=NEW)
    findings = [*checked["findings"], *(_plain(item) for item in split_findings(layout))]
    if plan["seen"]:
        text = SEEN.format(len(plan["seen"]))
        findings.append({"level": "warning", "text": text, "files": plan["seen"]})
    if plan["steps"] < plan["whole_steps"]:
        findings.append(
            {
                "level": "note",
                "text": f"the training took {plan['steps']} of the recipe's "
                f"{plan['whole_steps']} steps, "
                + ("as --steps says" if settings.steps else "as many as the time allowed"),
                "files": [],
            }
        )
    options = {**asked["budget"], **asked["options"], **asked["bundle"], **asked["detector"]}
    files = {**asked["files"], "--detector": options.pop("--detector")}
    return {
        "is_accepted": is_accepted(criteria),
        "name": settings.name,
        "bundle": {
            "version": bundle.version,
            "scale": manifest.scale,
            "tile": list(manifest.tile),
            "window": manifest.window,
            "gmac": manifest.gmac,
            "generator": manifest.generator.name,
            "precisions": sorted(manifest.graphs),
            "trust": _trust(manifest.trust),
            "files": dict(manifest.files),
            "manifest_sha256": sha256_of(layout.bundle / "manifest.json"),
        },
        "criteria": [asdict(item) for item in criteria],
        "findings": findings,
        "sides": split["sides"],
        "images": checked["images"],
        "domain": checked["domain"],
        "degradation": [
            {"name": name, "unit": unit, "low": ranges[key][0], "high": ranges[key][1]}
            for key, name, unit in SHOWN_RANGES
        ],
        "training": {
            "recipe": asked["recipe"]["name"],
            "method": asked["recipe"]["method"]["name"],
            "start": {**plan["start"], "file": _file_name(plan["start"]["file"])},
            "steps": plan["steps"],
            "whole_steps": plan["whole_steps"],
            "seed": settings.seed,
            "checkpoint_sha256": sha256_of(RunDir(layout.run).checkpoint),
            "curve": _curve(layout),
        },
        **{
            key: figures[key]
            for key in ("figures", "floors", "spread", "made_pairs", "pairs", "spectra", "pictures")
        },
        "each_tile": figures["each_tile"],
        "hashes": {
            "LR images": _folder_hash(asked["LR"]),
            "HR images": _folder_hash(asked["HR"]),
            **({"pairs": _folder_hash(asked["pairs"])} if asked["pairs"] else {}),
            **{name: value for name, value in files.items() if value},
            "code": asked["code"]["sha256"],
        },
        "options": {name: of for name, of in options.items() if of not in (None, False)},
        "files": {"LR": asked["LR"], "HR": asked["HR"], "pairs": asked["pairs"]},
        "versions": asked["versions"],
    }


def _plain(finding: Finding) -> dict[str, Any]:
    return {"level": finding.level, "text": finding.text, "files": list(finding.files)}


def _trust(trust: Any) -> dict[str, Any] | None:  # noqa: ANN401 - the manifest's record or None
    if trust is None:
        return None
    return {
        "residual_limit": trust.residual_limit,
        "domain_limit": trust.domains[0].limit,
        "tiles": trust.clean_tiles,
    }


def _file_name(path: str | None) -> str | None:
    """Return the last two parts of a path: the place of a folder says nothing to a reader."""
    return None if path is None else "/".join(Path(path).parts[-2:])


def _folder_hash(files: Mapping[str, Any]) -> str:
    """Return one digest of names and digests of files."""
    return sha256_of_text(json.dumps(files, sort_keys=True))


def _curve(layout: Layout) -> dict[str, list[float]]:
    """Return steps and losses; without the seconds that the statistics hold too."""
    stats = RunDir(layout.run).read_stats()
    return {key: [float(line[key]) for line in stats] for key in ("step", "loss")}


def _spectrum_chart(spectra: Mapping[str, Any]) -> str:
    return line_chart(
        spectra["frequency"],
        spectra["db"],
        x_label="frequency / Nyquist",
        y_label="mean power / dB",
    )


def _loss_chart(curve: Mapping[str, Sequence[float]]) -> str:
    if len(curve["step"]) < 2:
        return ""
    return line_chart(
        curve["step"], {"loss": curve["loss"]}, x_label="training step", y_label="loss"
    )


def _embedded(layout: Layout, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the picture rows by section, with their files as data URIs."""
    sections: dict[str, list[Any]] = {}
    for row in rows:
        pictures = [
            {
                "caption": item["caption"],
                "data": base64.b64encode((layout.root / item["file"]).read_bytes()).decode(),
            }
            for item in row["pictures"]
        ]
        sections.setdefault(row["section"], []).append({**row, "pictures": pictures})
    return sections


def _times(
    seconds: Mapping[str, float], measured: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    plan = measured.get("plan", {})
    return {
        "written": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "stages": [
            (STAGES[name], duration(value)) for name, value in seconds.items() if name in STAGES
        ],
        "total": duration(sum(seconds.values())),
        "step_s": plan.get("step_s"),
    }


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = shown
    return environment
