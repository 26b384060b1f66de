"""Facts of the compared systems that no measurement shows: training, needs, ways of use."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.comparison.plan import PlannedRun
from training.comparison.systems import System

PICTURES_FILE = "semsr-pictures.json"
PICTURES_KIND = "semsr-pictures"
PICTURES_VERSION = 1

NEEDS = {
    ("hr",): "HR images",
    ("hr", "lr"): "LR and HR images, unaligned",
    ("pairs",): "aligned pairs",
}
"""What a method trains on, by the images that it needs."""


class PicturesError(ValueError):
    """The facts of a folder of finished pictures cannot be used."""


@dataclass(frozen=True, kw_only=True)
class SystemFacts:
    """Facts of one system.

    Attributes:
        name: Name of the system.
        kind: Kind of the system, see `systems.Kind`.
        trained_on: Images that it was trained on, in words; empty where unknown.
        offline: Reason why it can be neither exported nor served; empty where it can.
        summary: Further facts in words; may be empty.
        plan: Training of this comparison; None for finished models and pictures.
        is_short: Whether it was trained less than its recipe says, or as another network.
    """

    name: str
    kind: str
    trained_on: str = ""
    offline: str = ""
    summary: str = ""
    plan: PlannedRun | None = None
    is_short: bool = False


def facts_of(
    systems: Sequence[System], plan: Sequence[PlannedRun], *, left_out: Mapping[str, str]
) -> list[SystemFacts]:
    """Collect the facts of all systems.

    Args:
        systems: Systems.
        plan: Planned runs of the recipes.
        left_out: Reasons of systems that cannot be judged on LR tiles alone.

    Raises:
        PicturesError: The facts of a folder of pictures are malformed or of an unknown version.
    """
    planned = {entry.name: entry for entry in plan}
    return [_facts(s, planned.get(s.name), offline=left_out.get(s.name, "")) for s in systems]


def _facts(system: System, planned: PlannedRun | None, *, offline: str) -> SystemFacts:
    if system.kind == "pictures":
        return _of_pictures(system)
    if system.kind != "recipe":
        return SystemFacts(name=system.name, kind=system.kind)
    needs = tuple(sorted(system.recipe().method.needs))
    return SystemFacts(
        name=system.name,
        kind=system.kind,
        trained_on=NEEDS.get(needs, " and ".join(needs)),
        offline=offline,
        plan=planned,
        is_short=planned is None or planned.is_short,
    )


def _of_pictures(system: System) -> SystemFacts:
    """Read the facts of a folder of pictures, where there are any."""
    path = system.path / PICTURES_FILE
    if not path.is_file():
        return SystemFacts(name=system.name, kind=system.kind)
    found = _read(path)
    try:
        return SystemFacts(
            name=system.name,
            kind=system.kind,
            trained_on=str(found.get("trained_on", "")),
            offline=str(found.get("offline", "")),
            summary=str(found["summary"]),
            is_short=bool(found["is_short"]),
        )
    except KeyError as error:
        raise PicturesError(f"{path} lacks {error}") from error


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PicturesError(f"{path} cannot be read: {error}") from error
    for key, expected in (("kind", PICTURES_KIND), ("format_version", PICTURES_VERSION)):
        value = found.get(key) if isinstance(found, dict) else None
        if value != expected:
            raise PicturesError(f"{path} has {key} {value!r}; expected {expected!r}")
    return found
