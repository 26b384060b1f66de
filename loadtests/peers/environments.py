"""A virtual environment for each peer, made once and kept until its requirements change."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from loadtests.peers.catalog import Peer

ROOT = Path(__file__).parents[2] / ".venv-peers"
_LONGEST_INSTALL_S = 1800.0


class InstallError(RuntimeError):
    """A peer could not be installed; the message is the last line of the installation."""


def ensure_environment(peer: Peer, root: Path = ROOT) -> Path:
    """Return the peer's environment; make it where it is missing or out of date.

    Raises:
        InstallError: It could not be made.
    """
    folder = root / peer.name
    # Environments hold absolute paths, so a moved checkout makes its own.
    wanted = hashlib.sha256(f"{folder}\n{sys.version}\n".encode())
    wanted.update(peer.requirements.read_bytes())
    stamp = folder / ".ready"
    if stamp.is_file() and stamp.read_text() == wanted.hexdigest():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input"]
    options = ["--disable-pip-version-check", "--only-binary=:all:", "--progress-bar=off"]
    _run([*pip, *options, "--requirement", str(peer.requirements)])
    stamp.write_text(wanted.hexdigest())
    return folder


def _run(command: list[str]) -> None:
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=_LONGEST_INSTALL_S
        )
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"not installed within {_LONGEST_INSTALL_S:.0f} s") from error
    except subprocess.CalledProcessError as error:
        lines = str(error.stderr).strip().splitlines() or [f"exit code {error.returncode}"]
        raise InstallError(lines[-1]) from error
