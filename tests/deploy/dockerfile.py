"""The Dockerfile as the tests read it, and the commands of its build stage run without Docker."""

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.deploy.promql import ROOT
from tests.deploy.sandbox import run_in_sandbox

_PASSED_ON = (
    "PIP_CONFIG_FILE",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_CERT",
    "SSL_CERT_FILE",
)


@dataclass
class Stage:
    """One stage.

    Attributes:
        base: Base of the stage: an image or another stage.
        name: Its own name.
        steps: Its instructions and their arguments, in order.
    """

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def value(self, instruction: str) -> str:
        """Return the argument of the last such instruction."""
        return [text for name, text in self.steps if name == instruction][-1]

    def command(self, instruction: str) -> list[str]:
        """Return the words of the last such instruction in its JSON form."""
        _, bracket, rest = self.value(instruction).partition("[")
        return json.loads(bracket + rest)

    def variables(self) -> dict[str, str]:
        """Return what its ENV instructions set."""
        text = " ".join(text for name, text in self.steps if name == "ENV")
        return dict(re.findall(r"(\w+)=(\S+)", text))

    def arguments(self) -> dict[str, str]:
        """Return the defaults of its ARG instructions."""
        words = [shlex.split(text)[0] for name, text in self.steps if name == "ARG"]
        return {name: value for name, _, value in (word.partition("=") for word in words) if value}


def read_stages() -> dict[str, Stage]:
    """Read the stages of the Dockerfile by name, in order."""
    stages: dict[str, Stage] = {}
    for instruction, text in _instructions():
        if instruction == "FROM":
            base, _, name = text.partition(" AS ")
            stages[name] = Stage(base, name)
        elif stages:
            [*_, current] = stages.values()
            current.steps.append((instruction, text))
    return stages


def default_base() -> str:
    """Return the image that the stages are made from unless told otherwise."""
    [base] = [text for name, text in _instructions() if text.startswith("PYTHON_IMAGE=")]
    return base.partition("=")[2]


def context_files() -> list[Path]:
    """List what .dockerignore lets into the build, relative to the repository."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    wanted = [ROOT / line[1:] for line in lines if line.startswith("!")]
    files = [
        path
        for entry in wanted
        for path in ([entry] if entry.is_file() else sorted(entry.rglob("*")))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    return [path.relative_to(ROOT) for path in files]


def build(stage: Stage, folder: Path) -> Path:
    """Run the commands of the build stage in a sandbox whose /opt, /src and /wheels are new.

    Args:
        stage: The stage.
        folder: An empty folder.

    Returns:
        What the image has as /opt.
    """
    binds = {f"/{name}": folder / name for name in ("opt", "src", "wheels")}
    for path in binds.values():
        path.mkdir()
    for path in context_files():
        target = folder / "src" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target)
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= (
        stage.arguments() | stage.variables() | {"PATH": f"{sys.base_prefix}/bin:{os.defpath}"}
    )
    for name, text in stage.steps:
        if name == "RUN":
            result = run_in_sandbox(
                ["sh", "-euc", text], binds=binds, environment=environment,
                folder=stage.value("WORKDIR"), writable=True, network=True, uid=0,
            )  # fmt: skip
            assert result.returncode == 0, f"{text}\n{result.stdout}\n{result.stderr}"
    return folder / "opt"


def _instructions() -> Iterator[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for line in lines.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name, rest.strip()
