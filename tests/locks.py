"""The locks as the tests read them: each with the locks that it includes."""

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from requirements.layers import read_entries

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements"


def list_locks(name: str) -> list[str]:
    """Return the names of a lock and of all locks that it includes, e.g. `scan` and `base`."""
    text = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")
    included = re.findall(r"^-r (.+)\.txt$", text, flags=re.MULTILINE)
    found = [name, *(lower for other in included for lower in list_locks(other))]
    return list(dict.fromkeys(found))


def read_lock(name: str) -> dict[str, str]:
    """Return the versions that a lock installs, by canonical package name; markers are dropped."""
    return {
        canonicalize_name(entry.name): entry.version
        for lock in list_locks(name)
        for entry in read_entries(REQUIREMENTS / f"{lock}.txt")
    }


def unmet(requirements: list[Requirement], pins: dict[str, str]) -> list[str]:
    """List the requirements that a lock does not pin to a version that they allow."""
    return [
        str(requirement)
        for requirement in requirements
        if (version := pins.get(canonicalize_name(requirement.name))) is None
        or version not in requirement.specifier
    ]
