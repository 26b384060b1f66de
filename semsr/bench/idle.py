"""Whether a process and all that it started rest, by the processor time that Linux counts for them.

Where two take turns, the one must be done before the other begins: a service still runs the batch
that was under way when its clients hung up.
"""

import time

from semsr.bench.family import family_core_s

_LOOK_S = 0.1
# Of one core. An idle service wakes up for its timers; a batch under way takes what it gets.
_IDLE_SHARE = 0.15
_TIMEOUT_S = 60.0


class BusyError(RuntimeError):
    """A process that nobody asks for anything goes on using the processor."""


def wait_until_idle(pid: int, *, timeout_s: float = _TIMEOUT_S) -> None:
    """Wait until a process and all that it started use next to no processor time.

    Args:
        pid: The process.
        timeout_s: Longest wait.

    Raises:
        BusyError: They did not rest in that time.
    """
    end_s = time.monotonic() + timeout_s
    used_s = family_core_s(pid)
    while True:
        time.sleep(_LOOK_S)
        before_s, used_s = used_s, family_core_s(pid)
        if used_s - before_s <= _IDLE_SHARE * _LOOK_S:
            return
        if time.monotonic() > end_s:
            raise BusyError(
                f"process {pid} used {used_s - before_s:.2f} s of the processor within the last "
                f"{_LOOK_S} s; expected it to rest {timeout_s:g} s after the load ended"
            )
