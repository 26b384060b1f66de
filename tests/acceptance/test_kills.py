"""`semsr accept` killed ten times ends with the same bits as one that was never stopped."""

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.own_folders import write_folders

ROOT = Path(__file__).resolve().parents[2]
TINY_BUNDLE = ROOT / "tests" / "data" / "tiny_bundle"
NOT_ACCEPTED = 3

MARKS = (
    "reading LR",
    "comparing HR images",
    "writing training HR",
    "loading PyTorch",
    "preparing the method",
    "training: 60 steps",
    "measuring the limits",
    "making the graphs",
    "judging pairs",
    "drawing pictures",
)
"""Lines of progress after which the command is killed, at a random moment within a second."""


def start(lr: Path, hr: Path, out: Path) -> "subprocess.Popen[str]":
    """Start the command on one thread; a model of 60 steps is made in seconds."""
    command = [sys.executable, "-m", "semsr", "accept", str(lr), str(hr), "--out", str(out)]
    command += ["--recipe", "tiny", "--steps", "60", "--tile", "64,64", "--precision", "fp32"]
    command += ["--baseline", str(TINY_BUNDLE), "--threads", "1", "--name", "own"]
    variables = {name: of for name, of in os.environ.items() if not name.startswith("SEMSR_")}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**variables, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> str:
    """Wait for the end of a command; return what it said."""
    _, said = process.communicate()

    assert NOT_ACCEPTED == process.returncode, said[-2000:]
    return said


def kill_after(process: "subprocess.Popen[str]", mark: str, delay_s: float) -> bool:
    """Kill a command after a line of progress; returns False where it ended before."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(mark):
            break
    else:
        process.wait()
        return False
    try:
        process.wait(timeout=delay_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    process.stderr.close()
    return True


def digests(out: Path) -> dict[str, str]:
    """Return the digests of the bundle and of the report without its times."""
    files = sorted(path for path in (out / "bundle").rglob("*") if path.is_file())
    found = {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in [*files, out / "report.json", out / "run" / "checkpoint.safetensors"]
    }
    page = (out / "report.html").read_text(encoding="utf-8")
    untimed = re.sub(r"<!-- times -->.*<!-- end of times -->", "", page, flags=re.DOTALL)
    return {**found, "report.html": hashlib.sha256(untimed.encode()).hexdigest()}


@pytest.mark.slow
def test_ten_kills_change_no_bit(tmp_path: Path) -> None:
    """Every stage is killed once; the repeated command goes on with what is finished."""
    lr, hr = write_folders(tmp_path)
    finish(start(lr, hr, tmp_path / "whole"))
    moments = random.Random(7)
    kills = 0
    for mark in MARKS:
        process = start(lr, hr, tmp_path / "killed")
        kills += kill_after(process, mark, moments.uniform(0.0, 1.0))

    said = finish(start(lr, hr, tmp_path / "killed"))

    assert len(MARKS) == kills
    assert "train: done before" in said
    assert digests(tmp_path / "whole") == digests(tmp_path / "killed")
    left_over = [path.name for path in (tmp_path / "killed").rglob(".*")]
    assert [".lock"] == left_over
