"""Largest resident memory of a process."""

from pathlib import Path


def peak_resident_mib(pid: int | None = None) -> float:
    """Read VmHWM of a process, this one if None, in MiB.

    Not `getrusage`: a child's figure there begins with what its parent held at the fork.
    """
    path = Path("/proc") / ("self" if pid is None else str(pid)) / "status"
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no VmHWM in {path}")
