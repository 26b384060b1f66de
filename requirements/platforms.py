"""Leaves out of the locks the hashes of files that no supported machine installs.

    python3 requirements/platforms.py FILES.toml requirements

Supported are CPython from 3.11 on and Linux with glibc on x86-64 and ARM64. `FILES.toml` is a lock
in the form of PEP 751, which names the file of each hash. A hash that it does not know stays, and
so does every hash of a package that has no file for such a machine, as those for Windows alone.
The script needs the standard library only (tomllib: Python 3.11).
"""

import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_WHEEL = re.compile(r"-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl$")
_PLATFORM = re.compile(r"any|(many)?linux\w*_(x86_64|aarch64)")
_OLDEST = 11
_HASH = re.compile(r" \\\n +--hash=sha256:([0-9a-f]{64})")


def is_supported(file_name: str) -> bool:
    """Whether a supported machine may install a file: a source archive, or a wheel for it."""
    wheel = _WHEEL.search(file_name)
    if wheel is None:
        return True
    pythons = wheel["python"].split(".")
    is_python = any(
        python == "py3"
        or (
            (version := re.fullmatch(r"cp3(\d*)", python)) is not None
            and (wheel["abi"] == "abi3" or int(version[1] or 0) >= _OLDEST)
        )
        for python in pythons
    )
    platforms = wheel["platform"].split(".")
    return is_python and any(_PLATFORM.fullmatch(platform) for platform in platforms)


def unsupported_hashes(lock: Mapping[str, Any]) -> set[str]:
    """Return the hashes to leave out.

    Args:
        lock: Content of the lock with file names.
    """
    left_out: set[str] = set()
    for package in lock["packages"]:
        files = [*package.get("wheels", ()), *filter(None, [package.get("sdist")])]
        named = {file["hashes"]["sha256"]: file.get("name") or _last(file["url"]) for file in files}
        supported = {digest for digest, name in named.items() if is_supported(name)}
        if supported:
            left_out |= named.keys() - supported
    return left_out


def _last(url: str) -> str:
    return url.rsplit("/", 1)[-1]


def main(lock: Path, folder: Path) -> None:
    """Rewrite the locks of a folder."""
    left_out = unsupported_hashes(tomllib.loads(lock.read_text(encoding="utf-8")))
    for path in sorted(folder.glob("*.txt")):
        text = path.read_text(encoding="utf-8")
        kept = _HASH.sub(lambda found: "" if found[1] in left_out else found[0], text)
        path.write_text(kept, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
