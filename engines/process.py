"""Start and end of a process: signals before it serves, and an end that no thread can abort.

ONNX Runtime and OpenVINO run C++ in the thread that loads a model. If the interpreter shuts down
meanwhile, it ends that thread by unwinding its C++ frames, which aborts the process ("terminate
called without an active exception"). A process of the service therefore never shuts its interpreter
down: when its work is finished, or has failed, it leaves by `end_process`.

This module imports almost nothing, because a process uses it in its first statement.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_EXIT_OK, _EXIT_FAULT = 0, 1  # as in `service.ground.exit_codes`
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_on_signals() -> None:
    """Exit with code 0 at the first SIGINT or SIGTERM, until the server sets its own handlers.

    Until then, no request, child process or file needs an orderly end.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, _end)


def run_and_end(main: Callable[[], int]) -> NoReturn:
    """Do a process's work, then end the process, also after an error.

    Args:
        main: Work of the process; returns the exit code. If it raises, its trace is written and the
            code is 1.
    """
    code = _EXIT_FAULT
    try:
        code = main()
    except Exception:
        # Not among the imports above, which must take no time.
        import traceback

        traceback.print_exc()
    end_process(code)


def end_process(code: int) -> NoReturn:
    """End this process now; threads that still compute are dropped, not unwound.

    Args:
        code: Exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def signal_at_parents_end(number: signal.Signals, *, parent: int | None = None) -> None:
    """Make the kernel signal this process when the thread that started it ends, for any reason.

    Args:
        number: Signal.
        parent: Process id of the parent, if this process must end at once when the parent has
            ended already.
    """
    # Not among the imports above: it takes longer than all of them.
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(_EXIT_OK)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(_EXIT_OK)
