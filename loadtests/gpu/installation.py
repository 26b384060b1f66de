"""What the service needs in order to run from a copy of the tree, without an installation.

The service and the command line read their version, and the command line its subcommands, from the
metadata of the installed distribution `semsr`. Where it is not installed, `installed` writes such
metadata to a temporary folder and puts it on the path of this process and of its children.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_NAME = "semsr"


class MissingPackagesError(RuntimeError):
    """Packages cannot be imported; the message names them all, and how to bring them."""


def require(modules: Sequence[str]) -> None:
    """Check that modules can be imported.

    Raises:
        MissingPackagesError: Some cannot.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackagesError(
            f"missing packages: {', '.join(missing)}; bring wheels of requirements/base.txt and "
            "install them into a folder on PYTHONPATH (docs/gpu-runs.md, Preparation)"
        )


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Provide the metadata of `semsr`, and the tree on the path of child processes."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(ROOT)]
        if not _is_installed():
            write_metadata(Path(folder))
            paths.append(folder)
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *([before] if before else [])])
        sys.path.append(folder)
        try:
            yield
        finally:
            sys.path.remove(folder)
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before


def _is_installed() -> bool:
    try:
        importlib.metadata.version(_NAME)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def write_metadata(folder: Path) -> None:
    """Write the metadata of `semsr`, as in `pyproject.toml`, into a folder of the path."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / f"{_NAME}-{project['version']}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {_NAME}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    groups = {"console_scripts": project["scripts"], **project["entry-points"]}
    lines: list[str] = []
    for group, entries in groups.items():
        lines.append(f"[{group}]")
        lines += [f"{name} = {target}" for name, target in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
