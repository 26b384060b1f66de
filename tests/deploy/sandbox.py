"""What a container gives, by bubblewrap: another root and user, no network, nothing to write to."""

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.deploy.promql import ROOT

# Folders of the host's root that a sandbox has its own of.
_OWN = frozenset({"dev", "lost+found", "proc", "sys", "tmp"})


def run_in_sandbox(
    command: Sequence[str | Path],
    *,
    binds: Mapping[str, Path],
    environment: Mapping[str, str],
    folder: str | Path,
    writable: bool = False,
    network: bool = False,
    uid: int = 10001,
) -> subprocess.CompletedProcess[str]:
    """Run a command where the host's files can be read and nothing of them written.

    Args:
        command: Program and arguments.
        binds: Folders of the host by the path that they have inside; each hides the host's own.
        environment: All variables that it sees.
        folder: Working directory, a path inside.
        writable: Whether `binds` and /tmp can be written to; else nothing can, not
            even /tmp; /dev/shm can, as in a container.
        network: Whether it sees the host's network, or has a loopback of its own.
        uid: The user and group that it takes itself for.
    """
    arguments = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--die-with-parent"]
    arguments += ["--uid", str(uid), "--gid", str(uid), "--clearenv", "--tmpfs", "/"]
    arguments += [] if network else ["--unshare-net"]
    for name, value in environment.items():
        arguments += ["--setenv", name, value]
    own = _OWN | {Path(path).parts[1] for path in binds}
    for entry in sorted(Path("/").iterdir()):
        if entry.is_symlink():
            arguments += ["--symlink", str(entry.readlink()), str(entry)]
        elif entry.is_dir() and entry.name not in own:
            arguments += ["--ro-bind", str(entry), str(entry)]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    arguments += ["--tmpfs", "/tmp"] if writable else []  # noqa: S108
    if ROOT.parts[1] in own:
        # A checkout below a folder that the sandbox has its own of.
        arguments += ["--ro-bind", str(ROOT), str(ROOT)]
    for inside, outside in binds.items():
        arguments += ["--bind" if writable else "--ro-bind", str(outside), inside]
    arguments += ["--remount-ro", "/", "--chdir", str(folder), "--"]
    return subprocess.run(
        [*arguments, *map(str, command)], capture_output=True, text=True, check=False
    )


@functools.cache
def missing() -> str | None:
    """Say why there is no sandbox here, or None where there is."""
    if shutil.which("bwrap") is None:
        return "bwrap is not installed"
    result = run_in_sandbox(["true"], binds={}, environment={"PATH": os.defpath}, folder="/")
    return None if result.returncode == 0 else f"bwrap may not work here: {result.stderr.strip()}"


@pytest.fixture(scope="session")
def sandbox() -> None:
    """Skip a test where there is no sandbox."""
    reason = missing()
    if reason:
        pytest.skip(reason)
