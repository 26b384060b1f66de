"""`docs/configuration.md`, generated from the settings; a test checks that they agree.

Run `make docs` after a change of a setting.
"""

import sys
from pathlib import Path

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from semsr.whole_file import write_whole_text
from service.settings import GROUPS

TARGET = Path("docs/configuration.md")

_HEAD = """\
# Configuration

<!-- Made by `make docs` from service/settings/; do not edit. -->

Every setting is an environment variable.
If a value is invalid or out of bounds, the service exits at start-up with code 2
and a message that names the variable.
The options `--host`, `--port`, `--bundle`, and `--engine` of `semsr serve`
set the variables of the same names.
"""

_TABLE_HEAD = """\
| Variable | Default | Bounds | Meaning |
|---|---|---|---|
"""

# Defaults that depend on the machine; the table says how they are found.
_COMPUTED = {
    "bundle": "the shipped bundle",
    "cache_dir": "the user's cache folder",
    "plan_cache": "in the user's cache folder",
    "scan_state": "in the user's state folder",
}


def configuration_page() -> str:
    """Return the page as Markdown."""
    return _HEAD + "".join(_section(group) for group in GROUPS)


def _section(group: type[BaseModel]) -> str:
    heading = (group.__doc__ or "").strip().removesuffix(".")
    rows = [_row(name, field) for name, field in group.model_fields.items()]
    return f"\n## {heading}\n\n{_TABLE_HEAD}" + "\n".join(rows) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    default = _COMPUTED.get(name) or ("unset" if field.default is None else f"`{field.default}`")
    meaning = " ".join((field.description or "").split())
    return f"| `SEMSR_{name.upper()}` | {default} | {_bounds(field)} | {meaning} |"


def _bounds(field: FieldInfo) -> str:
    limits = []
    for constraint in [*field.metadata, *_inner_metadata(field)]:
        if isinstance(constraint, annotated_types.Ge):
            limits.append(f"≥ {constraint.ge}")
        elif isinstance(constraint, annotated_types.Gt):
            limits.append(f"> {constraint.gt}")
        elif isinstance(constraint, annotated_types.Le):
            limits.append(f"≤ {constraint.le}")
    return ", ".join(limits)


def _inner_metadata(field: FieldInfo) -> list[object]:
    """Return the constraints in an optional type, as in `Annotated[int, Field(ge=1)] | None`."""
    found: list[object] = []
    for part in getattr(field.annotation, "__args__", ()):
        for metadata in getattr(part, "__metadata__", ()):
            found += metadata.metadata if isinstance(metadata, FieldInfo) else [metadata]
    return found


if __name__ == "__main__":
    write_whole_text(TARGET, configuration_page())
    sys.stdout.write(f"{TARGET}\n")
