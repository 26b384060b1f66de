"""Begin and end of a process of the service."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PATIENCE_S = 60.0


def run(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Run Python code in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
    )


def test_a_process_ends_with_its_code_whatever_its_threads_do() -> None:
    """What was written before is flushed."""
    code = (
        "import sys, threading\n"
        "from engines.process import end_process\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "sys.stdout.write('last words')\n"
        "end_process(3)\n"
    )
    with run(code) as process:
        said, _ = process.communicate(timeout=PATIENCE_S)
    assert ("last words", 3) == (said, process.returncode)


def test_work_that_raises_ends_with_1_and_its_trace() -> None:
    """Also while a thread goes on, which the interpreter would wait for."""
    code = (
        "import sys, threading\n"
        "from engines.process import run_and_end\n"
        "sys.stderr = sys.stdout\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "run_and_end(lambda: int('a fault'))\n"
    )
    with run(code) as process:
        said, _ = process.communicate(timeout=PATIENCE_S)
    assert 1 == process.returncode
    assert "ValueError: invalid literal for int() with base 10: 'a fault'" in said


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_there_is_a_server_is_a_clean_stop(stop: signal.Signals) -> None:
    """Nothing is there yet that would have to be finished."""
    code = (
        "import threading\n"
        "from engines.process import end_on_signals\n"
        "end_on_signals()\n"
        "print('ready', flush=True)\n"
        "threading.Event().wait()\n"
    )
    with run(code) as process:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        process.send_signal(stop)
        assert 0 == process.wait(PATIENCE_S)


def test_a_child_ends_with_its_parent_whatever_that_dies_of() -> None:
    """No measurement of an engine goes on after the service."""
    child = (
        "import os, signal, sys, threading\n"
        "from engines.process import signal_at_parents_end\n"
        "signal_at_parents_end(signal.SIGKILL, parent=int(sys.argv[1]))\n"
        "print(os.getpid(), flush=True)\n"
        "threading.Event().wait()\n"
    )
    parent = (
        "import os, subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {child!r}, str(os.getpid())])\n"
    )
    with run(parent) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    deadline_s = time.monotonic() + PATIENCE_S
    while is_running(pid):
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    """It may die between the start of the child and the child's first statement."""
    code = (
        "import signal\n"
        "from engines.process import signal_at_parents_end\n"
        f"signal_at_parents_end(signal.SIGKILL, parent={os.getpid() + 1})\n"
        "raise SystemExit(9)\n"
    )
    with run(code) as process:
        assert 0 == process.wait(PATIENCE_S)


def is_running(pid: int) -> bool:
    """Whether a process runs, and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
