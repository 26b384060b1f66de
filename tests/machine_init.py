"""First process of a machine of `tests.machines`, inside its namespaces.

python machine_init.py NAME STAGE HOSTS KEPT…

It hides the host's temporary files and shared memory behind empty folders, except for the folders
KEPT, takes HOSTS as its `/etc/hosts`, then waits for the end of its input. All processes of the
machine end with it, since it is the first in their namespace.
"""

import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_HIDDEN = (Path("/tmp"), Path("/dev/shm"))  # noqa: S108 (the folders themselves)


def _run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True)


def _hide(folder: Path, kept: Sequence[Path], stage: Path) -> None:
    """Mount an empty file system over a folder, and the kept folders into it.

    Args:
        folder: Folder to hide.
        kept: Folders that stay visible, where they are below `folder`.
        stage: Empty folder, used for the time of the call.
    """
    _run("mount", "-t", "tmpfs", "tmpfs", stage)
    for path in kept:
        if path.is_relative_to(folder):
            inside = stage / path.relative_to(folder)
            inside.mkdir(parents=True, exist_ok=True)
            _run("mount", "--bind", path, inside)
    _run("mount", "--rbind", stage, folder)
    if not stage.is_relative_to(folder):
        _run("umount", "--recursive", stage)


def main(name: str, stage: Path, hosts: Path, kept: Sequence[Path]) -> None:
    """Prepare the machine, report it with a line, and wait."""
    # Orphans of the machine become its children; nothing waits for them.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    socket.sethostname(name)
    _run("ip", "link", "set", "lo", "up")
    _run("mount", "--bind", hosts, "/etc/hosts")
    # Without a name server, an unknown name is an error at once instead of after a time limit.
    _run("mount", "--bind", "/dev/null", Path("/etc/resolv.conf").resolve())
    # `/dev/shm` first: the stage may be in `/tmp`.
    for folder in reversed(_HIDDEN):
        _hide(folder, kept, stage)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    name, stage, hosts, *kept = sys.argv[1:]
    main(name, Path(stage), Path(hosts), [Path(path) for path in kept])
