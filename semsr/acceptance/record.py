"""Record of an acceptance, `accept.json`: what was asked for, and the stages that are finished.

A stage counts as finished if its inputs and the files that it wrote still have the recorded
digests. Changed images, options, code or packages are refused, with each difference named: a run
that goes on must end as one that was never stopped.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from semsr.acceptance.identity import sha256_of, sha256_of_text
from training.ground.whole_file import write_whole_text

FORMAT_VERSION = 1
KIND = "semsr-acceptance"
MAX_NAMED = 8

LATER = {"budget": "plan", "bundle": "export", "detector": "evaluate"}
"""Sections of what is asked that matter from a stage on: until it is finished they may change."""


class RecordError(ValueError):
    """The folder holds another acceptance, or a record that cannot be used."""


class Record:
    """What is known of an acceptance so far; every change is written at once.

    Args:
        path: File of the record.
        asked: All that decides the result, see `identity.asked_of`.

    Raises:
        RecordError: The file holds another acceptance, or an unknown format version.
    """

    def __init__(self, path: Path, asked: Mapping[str, Any]) -> None:
        self._path = path
        self._asked: dict[str, Any] = json.loads(json.dumps(asked))
        self._stages: dict[str, dict[str, Any]] = {}
        if path.is_file():
            self._read()

    @property
    def asked(self) -> dict[str, Any]:
        """All that decides the result."""
        return self._asked

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds that each finished stage took, over all starts of the command."""
        return {name: entry["seconds"] for name, entry in self._stages.items()}

    @property
    def measured(self) -> dict[str, dict[str, float]]:
        """Measured times of the finished stages that depend on the machine's load."""
        return {name: entry["measured"] for name, entry in self._stages.items()}

    def is_finished(self, stage: str) -> bool:
        """Whether a stage's inputs and outputs are as recorded."""
        entry = self._stages.get(stage)
        if entry is None or entry["inputs"] != self.inputs_of(stage):
            return False
        root = self._path.parent
        return all(
            (root / name).is_file() and sha256_of(root / name) == digest
            for name, digest in entry["outputs"].items()
        )

    def begin(self, stage: str) -> None:
        """Forget a stage and those after it, whose inputs it may change.

        Nothing is written before the first stage is finished: images that the check refuses may be
        exchanged, and the command repeated.
        """
        names = list(self._stages)
        if stage in names:
            for name in names[names.index(stage) :]:
                del self._stages[name]
            self._write()

    def finish(
        self,
        stage: str,
        outputs: Sequence[Path],
        *,
        seconds: float,
        measured: Mapping[str, float] | None = None,
    ) -> None:
        """Record a finished stage.

        Args:
            stage: Name of the stage.
            outputs: Files that it wrote.
            seconds: Time that this start spent on it.
            measured: Further times, for the report.
        """
        root = self._path.parent
        self._stages[stage] = {
            "inputs": self.inputs_of(stage),
            "outputs": {
                path.relative_to(root).as_posix(): sha256_of(path) for path in sorted(outputs)
            },
            "seconds": round(seconds, 1),
            "measured": {key: round(value, 3) for key, value in (measured or {}).items()},
        }
        self._write()

    def inputs_of(self, stage: str) -> str:
        """Return the digest of a stage's inputs: what was asked, and the outputs before it."""
        before: dict[str, Any] = {}
        for name, entry in self._stages.items():
            if name == stage:
                break
            before[name] = entry["outputs"]
        asked = _without_later(self._asked, {*before, stage})
        return sha256_of_text(json.dumps([asked, before], sort_keys=True))

    def _read(self) -> None:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RecordError(f"{self._path} is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise RecordError(f"{self._path} is not a record of semsr accept")
        for key, expected in (("kind", KIND), ("format_version", FORMAT_VERSION)):
            if found.get(key) != expected:
                raise RecordError(
                    f"{self._path} has {key} {found.get(key)!r}; expected {expected!r}"
                )
        try:
            different = list(
                differences(
                    *(_without_later(of, found["stages"]) for of in (found["asked"], self._asked))
                )
            )
            stages = {
                str(name): {
                    "inputs": str(entry["inputs"]),
                    "outputs": {str(key): str(of) for key, of in entry["outputs"].items()},
                    "seconds": float(entry["seconds"]),
                    "measured": {str(key): float(of) for key, of in entry["measured"].items()},
                }
                for name, entry in found["stages"].items()
            }
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RecordError(f"{self._path} lacks or misstates {error}") from error
        if different:
            more = len(different) - MAX_NAMED
            lines = [*different[:MAX_NAMED], *([f"and {more} more"] if more > 0 else [])]
            raise RecordError(
                "\n  ".join(
                    [
                        f"{self._path.parent} holds an acceptance that differs from this command; "
                        "choose another folder, or start again by --overwrite:",
                        *lines,
                    ]
                )
            )
        self._stages = stages

    def _write(self) -> None:
        document = {
            "format_version": FORMAT_VERSION,
            "kind": KIND,
            "asked": self._asked,
            "stages": self._stages,
        }
        write_whole_text(self._path, json.dumps(document, indent=1) + "\n")


def _without_later(asked: Mapping[str, Any], stages: Collection[str]) -> dict[str, Any]:
    """Return what is asked without the sections that do not matter to any of these stages."""
    return {key: of for key, of in asked.items() if key not in LATER or LATER[key] in stages}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences of two descriptions, one in a line."""
    for section in dict.fromkeys([*before, *now]):
        old, new = before.get(section, {}), now.get(section, {})
        for key in sorted({*_flat(old), *_flat(new)}):
            was, value = _flat(old).get(key), _flat(new).get(key)
            if was != value:
                yield _described(section, key, was, value)


def _flat(values: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{start}{key}/")
        else:
            flat[f"{start}{key}"] = value
    return flat


def _described(section: str, key: str, was: object, now: object) -> str:
    if section in ("LR", "HR", "pairs"):
        what = "is new" if was is None else "is missing" if now is None else "has changed"
        return f"{section}: {key} {what}"
    if section == "files" or key == "--detector":
        what = "was not given" if was is None else "is not given now" if now is None else "differs"
        return f"{key}: the file {what}"
    if section == "code":
        return f"code: semsr's source files differ (sha256 {was}, now {now})"
    if section == "recipe":
        return f"recipe: {key.replace('/', '.')} was {was}, is {now}"
    if section == "versions":
        return f"package {key} was {was}, is {now}"
    before, after = ("not given" if value is None else value for value in (was, now))
    return f"{key} was {before}, is {after}"
