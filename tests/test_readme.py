"""The README's command blocks: each runs as it stands in a fresh clone, or says what it needs."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
SERVE = "make serve\n"
SERVICE = "the service"
# What a block may ask for beyond a fresh clone; those but the service are not run here.
NEEDS = {
    SERVICE,
    "docker",
    "five minutes",
    "a quarter of an hour on two cores and 3 GB: torch and all tools",
}
PATIENCE_S = 600.0


def needs(block: str) -> str | None:
    """Return what the first line of a block says that it needs, or None."""
    found = re.match(r"# needs (.*)\n", block)
    return found[1] if found else None


def test_blocks_say_what_they_need() -> None:
    """Nothing is left out of the slow test unseen: every need is one that is known here."""
    assert {need for block in BLOCKS if (need := needs(block))} == NEEDS
    assert SERVE in BLOCKS
    assert BLOCKS.index(SERVE) < min(i for i, b in enumerate(BLOCKS) if needs(b) == SERVICE)


def test_every_target_of_make_exists() -> None:
    """`make -n` knows what the blocks, those that are not run too, ask it for."""
    targets = set(re.findall(r"^make ([a-z-]+)", "\n".join(BLOCKS), flags=re.MULTILINE))

    assert {"demo", "install", "serve", "airgap", "test"} <= targets
    for target in targets:
        subprocess.run(["make", "-C", ROOT, "-n", target], check=True, capture_output=True)


def fresh_clone(folder: Path) -> Path:
    """Copy what git would commit of the working tree: no environment, nothing built."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def run_block(block: str, clone: Path, environment: dict[str, str]) -> None:
    """Run a block by bash, which stops at its first failure; ends with 0 or fails the test."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=clone,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert 0 == done.returncode, f"{block}\n{done.stdout}\n{done.stderr}"


@contextmanager
def served(clone: Path, environment: dict[str, str], url: str) -> Iterator[None]:
    """Run the block that serves until the end; SIGTERM then ends it with 0."""
    process = subprocess.Popen(
        ["bash", "-c", SERVE], cwd=clone, env=environment, stdin=subprocess.DEVNULL
    )
    try:
        end_s = time.monotonic() + PATIENCE_S
        while not is_ready(url):
            assert process.poll() is None
            assert time.monotonic() < end_s
            time.sleep(0.1)
        yield
        [service] = children(process.pid)
        os.kill(service, signal.SIGTERM)
        assert 0 == process.wait(PATIENCE_S)
    finally:
        for pid in [*children(process.pid), process.pid]:
            if process.poll() is None:
                os.kill(pid, signal.SIGKILL)
        process.wait()


def children(pid: int) -> list[int]:
    """List the last descendants of a process: what make started, not make."""
    try:
        own = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return []
    found: list[int] = []
    for child in map(int, own):
        command = Path(f"/proc/{child}/cmdline").read_bytes()
        found += [child] if b"semsr" in command else children(child)
    return found


def is_ready(url: str) -> bool:
    """Ask whether the service serves."""
    try:
        return httpx2.get(f"{url}/readyz", trust_env=False, timeout=5.0).status_code == 200
    except httpx2.TransportError:
        return False


@pytest.mark.slow
def test_every_block_runs_as_it_stands(tmp_path: Path) -> None:
    """In order, in a fresh clone without extras; only the port differs, so that any is free."""
    clone = fresh_clone(tmp_path / "clone")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SEMSR_", "PYTEST_", "MAKE", "MFLAGS", "VIRTUAL_ENV"))
    }
    environment |= {"SEMSR_PORT": str(port), "SEMSR_DRAIN_S": "0"}
    for block in BLOCKS:
        if block == SERVE:
            with served(clone, environment, url):
                for client in BLOCKS:
                    if needs(client) == SERVICE:
                        assert "127.0.0.1:8000/" in client
                        run_block(
                            client.replace("127.0.0.1:8000", f"127.0.0.1:{port}"),
                            clone,
                            environment,
                        )
        elif needs(block) is None:
            run_block(block, clone, environment)

    samples = sorted(path.stem for path in (clone / "samples").glob("*.png"))
    assert samples == sorted(path.stem for path in (clone / "out" / "batch").glob("*.png"))
    for name in ("0001_iso_lines_compare.png", "files/0001_iso_lines_x4.png", "sr.png"):
        assert (clone / "out" / name).is_file()
    assert 8 == len(list((clone / "out" / "lot").glob("*_x4.*")))
