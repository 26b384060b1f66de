"""The image without Docker: its commands in a sandbox, and the service as the container runs it."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.dockerfile import build, context_files, default_base, read_stages
from tests.deploy.promql import ROOT
from tests.deploy.sandbox import run_in_sandbox, sandbox
from tests.locks import read_lock

__all__ = ["sandbox"]

ONE_TILE = Path(__file__).parent / "one_tile.py"
# The name is one that no checkout lies below: a bind hides what the host has under its name.
BINDS = {"/semsr-one-tile": ONE_TILE.parent}


def serve_one_tile(
    python: str, *, binds: dict[str, Path], variables: dict[str, str], bundle: str, folder: str
) -> dict[str, Any]:
    """Serve a golden tile by the container's command, with nothing to write to."""
    image = read_stages()["runtime"]
    command = [*image.command("ENTRYPOINT"), *image.command("CMD")]
    golden = f"{bundle}/golden"
    result = run_in_sandbox(
        [
            python,
            "/semsr-one-tile/one_tile.py",
            golden,
            json.dumps([command, image.command("HEALTHCHECK")]),
        ],
        binds=BINDS | binds,
        environment=variables,
        folder=folder,
    )

    assert 0 == result.returncode, result.stderr
    return json.loads(result.stdout)


SERVED = {
    "uid": 10001,
    "writable": [],
    "status": 200,
    "health_check": 0,
    "exit_code": 0,
    "health_check_after": 1,
}


def test_hadolint_finds_nothing() -> None:
    """The linter of Dockerfiles agrees."""
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("hadolint is not installed")
    result = subprocess.run(
        [program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )

    assert (0, "") == (result.returncode, result.stdout)


def test_the_image_is_small_fixed_and_not_roots() -> None:
    """Base pinned to a patch release, a user by number, a health check; the CPU image last."""
    stages = read_stages()

    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", default_base())
    assert "cpu" == list(stages)[-1]
    assert {"runtime"} == {stages["cpu"].base, stages["gpu"].base}
    assert "10001:10001" == stages["runtime"].value("USER")
    assert ["python", "-m", "service.health_check"] == stages["runtime"].command("HEALTHCHECK")
    assert [("COPY", "--from=build /opt/semsr /opt/semsr")] == stages["cpu"].steps


def test_the_context_holds_what_is_copied() -> None:
    """.dockerignore lets in what the build needs, and nothing of tests and caches."""
    files = {path.as_posix() for path in context_files()}
    copied = [text.split()[:-1] for name, text in read_stages()["build"].steps if name == "COPY"]

    assert set() == {name for names in copied for name in names if name != "."} - files
    assert {"bundles/default/manifest.json", "service/http/app.py", "pyproject.toml"} <= files
    assert [] == [name for name in files if name.startswith(("tests/", ".venv", "docs/"))]


def test_the_extras_of_the_image_are_those_that_serve() -> None:
    """All extras that the service itself can use, without runtimes: each in its lock, base too."""
    extras = read_stages()["build"].arguments()["SEMSR_EXTRAS"].split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = read_lock("base")

    assert {"scan", "postgres", "tracing"} == set(extras)
    assert set(extras) <= set(project["optional-dependencies"])
    for extra in extras:
        # Installed one after the other: none may change what another one has brought.
        assert base.items() <= read_lock(extra).items()
        assert [] == [
            (name, version) for name, version in read_lock(extra).items()
            for other in extras if read_lock(other).get(name, version) != version
        ]  # fmt: skip


@pytest.mark.usefixtures("sandbox")
def test_serves_without_root_network_and_anything_to_write_to() -> None:
    """The working tree, as the container runs it: a tile goes through, SIGTERM ends it with 0."""
    bundle = str(ROOT / "tests" / "data" / "tiny_bundle")
    bin_folder = Path(sys.executable).parent
    variables = {
        **read_stages()["runtime"].variables(),
        "PATH": f"{bin_folder}:{os.defpath}",
        "SEMSR_BUNDLE": bundle,
        "SEMSR_ENGINE": "onnx",
        "SEMSR_DRAIN_S": "0",
    }
    served = serve_one_tile(
        sys.executable, binds={}, variables=variables, bundle=bundle, folder=str(ROOT)
    )

    assert served.pop("largest_error") <= 1
    assert SERVED == served


@pytest.mark.slow
@pytest.mark.usefixtures("sandbox")
def test_the_build_commands_make_an_environment_that_serves(tmp_path: Path) -> None:
    """The Dockerfile's own commands, run in a sandbox with network, then served in one without."""
    opt = build(read_stages()["build"], tmp_path)
    semsr = opt / "semsr"
    bill = json.loads((semsr / "sbom.cdx.json").read_text(encoding="utf-8"))
    names = {component["name"] for component in bill["components"]}
    unreadable = [
        path for path in semsr.rglob("*")
        if not path.is_symlink() and not path.stat().st_mode & stat.S_IROTH
    ]  # fmt: skip
    variables = read_stages()["runtime"].variables()
    variables["PATH"] = f"/opt/semsr/bin:{os.defpath}"
    served = serve_one_tile(
        "/opt/semsr/bin/python",
        binds={"/opt": opt},
        variables=variables | {"SEMSR_DRAIN_S": "0"},
        bundle="/opt/semsr/bundles/default",
        folder="/opt/semsr",
    )

    assert "CycloneDX" == bill["bomFormat"]
    assert "semsr" == bill["metadata"]["component"]["name"]
    assert {"fastapi", "onnxruntime", "numpy"} <= names
    assert {"s3fs", "h5py", "zarr", "pyarrow", "psycopg", "opentelemetry-sdk"} <= names
    assert set() == names & {"torch", "pip", "cyclonedx-bom", "hatchling"}
    assert [] == unreadable
    assert served.pop("largest_error") <= 1
    assert SERVED == served
