"""Record of a comparison: `compare.json` in its folder, from which an interrupted one continues.

It holds what was asked for, the plan, and the runs that are finished. A second start keeps all of
that and may add systems; one with another budget, or another recipe of the same name, is refused.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.comparison.plan import PlannedRun
from training.comparison.systems import System
from training.ground.whole_file import write_whole_text

FORMAT_VERSION = 1
KIND = "semsr-comparison"
FILE = "compare.json"


class RecordError(RuntimeError):
    """The folder holds another comparison, or a record that cannot be used."""


class Record:
    """What is known of a comparison so far; every change is written at once.

    Args:
        folder: Folder of the comparison; made where absent.
        asked: Description of the trainings, JSON-compatible: see `asked_of`.
        overwrite: Whether to forget a record that is there.

    Raises:
        RecordError: The folder holds another comparison, or an unknown format version.
    """

    def __init__(self, folder: Path, asked: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.path = folder / FILE
        folder.mkdir(parents=True, exist_ok=True)
        self._asked = dict(asked)
        self._plan: dict[str, dict[str, Any]] = {}
        self._runs: dict[str, dict[str, Any]] = {}
        self._failed: dict[str, str] = {}
        if self.path.is_file() and not overwrite:
            self._read()
        self._write()

    @property
    def plan(self) -> list[PlannedRun]:
        """Planned runs so far."""
        return [_planned(entry) for entry in self._plan.values()]

    @property
    def minutes(self) -> dict[str, float]:
        """Minutes of the finished runs, by name of the run."""
        return {name: entry["minutes"] for name, entry in self._runs.items()}

    @property
    def failed(self) -> dict[str, str]:
        """Errors by name of the system or run, of this start."""
        return dict(self._failed)

    def add_plan(self, planned: PlannedRun) -> None:
        """Keep the plan of a system."""
        self._plan[planned.name] = asdict(planned)
        self._write()

    def add_run(self, name: str, minutes: float) -> None:
        """Keep a run that is finished.

        Args:
            name: Name of the run.
            minutes: Time that this start spent on it.
        """
        self._runs[name] = {"minutes": round(minutes, 2)}
        self._write()

    def add_failure(self, name: str, error: str) -> None:
        """Keep the error of a system or run; the next start tries it again."""
        self._failed[name] = error
        self._write()

    def _read(self) -> None:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RecordError(f"{self.path} is not JSON: {error}") from error
        for key, expected in (("kind", KIND), ("format_version", FORMAT_VERSION)):
            if found.get(key) != expected:
                raise RecordError(
                    f"{self.path} has {key} {found.get(key)!r}; expected {expected!r}"
                )
        try:
            self._continue(found)
        except (KeyError, TypeError, AttributeError) as error:
            raise RecordError(f"{self.path} lacks or misstates {error}") from error

    def _continue(self, found: Mapping[str, Any]) -> None:
        asked, before = json.loads(json.dumps(self._asked)), found["asked"]
        # Systems may be added; known ones must be the same.
        different = sorted(key for key in asked if key != "recipes" and asked[key] != before[key])
        different += [
            f"recipe of {name}"
            for name, recipe in asked["recipes"].items()
            if before["recipes"].get(name, recipe) != recipe
        ]
        if different:
            raise RecordError(
                f"{self.path.parent} holds a comparison with another {', '.join(different)}; "
                "choose another folder, or forget that comparison by --overwrite"
            )
        self._asked = {**asked, "recipes": {**before["recipes"], **asked["recipes"]}}
        self._plan, self._runs = dict(found["plan"]), dict(found["runs"])
        for entry in self._plan.values():
            _planned(entry)

    def _write(self) -> None:
        document = {
            "format_version": FORMAT_VERSION,
            "kind": KIND,
            "asked": self._asked,
            "plan": self._plan,
            "runs": self._runs,
            "failed": self._failed,
        }
        write_whole_text(self.path, json.dumps(document, indent=1) + "\n")


def _planned(entry: Mapping[str, Any]) -> PlannedRun:
    lists = {key: tuple(entry.get(key, ())) for key in ("changes", "overrides")}
    return PlannedRun(**{**entry, **lists})


def asked_of(
    systems: Sequence[System], *, minutes: float | None, seeds: int, data: Path
) -> dict[str, Any]:
    """Describe what decides the training of a comparison; finished models may come and go.

    Args:
        systems: Systems; only recipes are described.
        minutes: Budget of one run; None for the whole schedules.
        seeds: Trainings of each system.
        data: Folder of the data.
    """
    return {
        "recipes": {
            system.name: {
                "recipe": system.recipe().model_dump(mode="json"),
                "published_steps": system.published().optimization.steps,
            }
            for system in systems
            if system.kind == "recipe"
        },
        "minutes": minutes,
        "seeds": seeds,
        "data": str(data.resolve()),
    }
