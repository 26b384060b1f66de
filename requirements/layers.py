"""Divides the locks into layers, the last step of `make lock`: the hashes of a package stand once.

    python3 requirements/layers.py requirements

uv writes every lock complete. Where another lock holds the same entries, this script replaces them
by a line that includes that lock, such as `-r base.txt`. pip then installs the same files, with the
same checks. A divided lock stays as it is. The script needs the standard library only.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

_EXTRAS = ("openvino", "postgres", "rtx", "scan", "tracing", "loadtest")
INCLUDED = {
    **dict.fromkeys(_EXTRAS, ("base",)),
    "ray": ("scan",),
    "dev": ("build", "test", "sbom", *_EXTRAS),
}
"""Names of the locks that a lock includes."""


@dataclass(frozen=True)
class Entry:
    """One pinned package.

    Attributes:
        name: Name of the package.
        version: Its version.
        marker: Environments that it applies to, e.g. `sys_platform == 'win32'`; empty for all.
        hashes: Its files, by sha256.
        text: The lines of the entry.
    """

    name: str
    version: str
    marker: str
    hashes: frozenset[str]
    text: str

    def is_in(self, other: "Entry") -> bool:
        """Return whether an installation of the other entry installs this one too."""
        return other.marker in {"", self.marker} and self.hashes == other.hashes


def read_entries(path: Path) -> list[Entry]:
    """Read the entries of a lock, without those of the locks that it includes."""
    text = path.read_text(encoding="utf-8")
    entries: list[Entry] = []
    for found in re.finditer(r"^([a-z0-9][\w.-]*)==(\S+)(.*)\n(?:[ ].*\n)*", text, re.MULTILINE):
        name, version, rest = found.groups()
        marker = rest.removesuffix("\\").strip().removeprefix(";").strip()
        hashes = frozenset(re.findall(r"--hash=(\S+)", found[0]))
        entries.append(Entry(name, version, marker, hashes, found[0]))
    return entries


def divide(folder: Path) -> None:
    """Divide the locks of a folder in place.

    Args:
        folder: Folder that holds the locks.

    Raises:
        ValueError: A lock pins another version than a lock that it includes.
    """
    entries = {path.stem: read_entries(path) for path in folder.glob("*.txt")}
    for name, included in INCLUDED.items():
        lower = [entry for below in _all_below(name) for entry in entries[below]]
        kept = [entry for entry in entries[name] if not _is_held(entry, lower, name)]
        path = folder / f"{name}.txt"
        header = re.match(r"(#.*\n)*", path.read_text(encoding="utf-8"))
        lines = [f"-r {below}.txt\n" for below in included]
        text = "".join([header[0] if header else "", *lines, *(entry.text for entry in kept)])
        path.write_text(text, encoding="utf-8")


def _all_below(name: str) -> list[str]:
    """List the locks that a lock includes, also by way of others."""
    included = INCLUDED.get(name, ())
    return [*included, *(lower for below in included for lower in _all_below(below))]


def _is_held(entry: Entry, lower: list[Entry], lock: str) -> bool:
    """Return whether the lower locks hold an entry of a lock."""
    same_package = [other for other in lower if other.name == entry.name]
    for other in same_package:
        if other.version != entry.version:
            raise ValueError(
                f"{lock}.txt pins {entry.name} {entry.version}, and a lock that it includes pins "
                f"{other.version}; expected one version"
            )
    return any(entry.is_in(other) for other in same_package)


if __name__ == "__main__":
    divide(Path(sys.argv[1]))
