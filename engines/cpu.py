"""CPU cores that this process may use: affinity and cgroup quota, not the host's count.

In a container with a quota, thread pools sized by the host's cores can more than halve the
throughput. Pools of the service are therefore sized by `available_cpus`.
"""

import math
import os
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")


def available_cpus(cgroup_root: Path = _CGROUP_ROOT) -> int:
    """Count the cores that the scheduler and the cgroup quota leave to this process, at least 1."""
    affinity = len(os.sched_getaffinity(0))
    quota = _quota(cgroup_root)
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def share_cpus(index: int, count: int) -> list[int]:
    """Return the share of this process's cores for process `index` of `count`, at least one."""
    cpus = sorted(os.sched_getaffinity(0))
    share = [cpu for place, cpu in enumerate(cpus) if place * count // len(cpus) == index]
    return share or [cpus[index % len(cpus)]]


def _quota(root: Path) -> float | None:
    """Cores granted by cgroup v2 `cpu.max` or v1 `cpu.cfs_*`; None where there is no limit."""
    try:
        limit, period = (root / "cpu.max").read_text(encoding="ascii").split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit_us = int((root / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period_us = int((root / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return limit_us / period_us if limit_us > 0 and period_us > 0 else None


def cpu_model() -> str:
    """Name of the processor, as the kernel gives it; part of the key of remembered choices."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return os.uname().machine
