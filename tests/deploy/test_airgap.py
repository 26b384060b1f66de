"""The archive for machines without network: made, installed and served with the network off."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.deploy.dockerfile import read_stages
from tests.deploy.promql import ROOT
from tests.deploy.sandbox import run_in_sandbox, sandbox

__all__ = ["sandbox"]

INSTALLER = ROOT / "deploy" / "airgap" / "install.sh"
CHECK = Path(__file__).parent
# Asks whether the extras that the images have can be imported.
_EXTRAS = """
import importlib.util, json
names = ("pyarrow", "zarr", "psycopg", "opentelemetry.sdk")
print(json.dumps({name: importlib.util.find_spec(name) is not None for name in names}))
"""


def small_archive(folder: Path) -> Path:
    """Lay out what the installer reads first, without wheels."""
    (folder / "PYTHON").write_text("2.7\n", encoding="utf-8")
    (folder / "install.sh").write_bytes(INSTALLER.read_bytes())
    (folder / "requirements").mkdir()
    for name in ("base", "scan", "tracing"):
        (folder / "requirements" / f"{name}.txt").touch()
    sums = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("PYTHON", "install.sh")
    ]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    return folder


def install(
    folder: Path, *arguments: str, python: str = "", extras: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the installer."""
    environment = {"PATH": os.environ["PATH"], **({"PYTHON": python} if python else {})}
    if extras is not None:
        environment["EXTRAS"] = extras
    return subprocess.run(
        ["sh", folder / "install.sh", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_installer_wants_a_new_folder(tmp_path: Path) -> None:
    """What is there already is left alone."""
    result = install(small_archive(tmp_path), str(tmp_path))

    assert 1 == result.returncode
    assert "is there already" in result.stderr


def test_damage_is_found_before_anything_is_installed(tmp_path: Path) -> None:
    """A file that does not match its sha256 stops the installer, which names it."""
    archive = small_archive(tmp_path)
    (archive / "PYTHON").write_text("3.11\n", encoding="utf-8")
    result = install(archive, str(tmp_path / "new"))

    assert 0 != result.returncode
    assert "PYTHON: FAILED" in result.stdout
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("extra", ["openvino", "base", "../base"])
def test_an_extra_that_the_archive_lacks_is_refused(tmp_path: Path, extra: str) -> None:
    """The message has what the archive holds, and the command that makes one with the extra."""
    result = install(
        small_archive(tmp_path),
        str(tmp_path / "new"),
        python=sys.executable,
        extras=f"scan {extra}",
    )

    assert 1 == result.returncode
    assert f"does not hold the extra {extra}; it holds: scan tracing" in result.stderr
    assert f"make airgap EXTRAS={extra}" in result.stderr
    assert not (tmp_path / "new").exists()


def test_another_python_is_refused(tmp_path: Path) -> None:
    """The archive's wheels fit one Python; both versions are named."""
    archive = small_archive(tmp_path)
    result = install(archive, str(tmp_path / "new"), python=sys.executable)

    assert 1 == result.returncode
    assert "this archive is for 2.7" in result.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("sandbox")
def test_the_archive_installs_and_serves_without_network(tmp_path: Path) -> None:
    """`make airgap` here, then unpacked, installed and served where there is only a loopback."""
    made = subprocess.run(
        ["make", "-C", ROOT, "airgap", f"DIST={tmp_path / 'dist'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    [path] = (tmp_path / "dist").iterdir()
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    [unpacked] = (tmp_path / "unpacked").iterdir()
    (tmp_path / "opt").mkdir()
    python = f"{sys.base_prefix}/bin/python{(unpacked / 'PYTHON').read_text().strip()}"
    binds = {"/opt": tmp_path / "opt", "/archive": unpacked}
    installed = run_in_sandbox(
        ["/archive/install.sh", "/opt/semsr"],
        binds=binds,
        environment={"PATH": os.defpath, "PYTHON": python},
        folder="/",
        writable=True,
    )
    assert installed.returncode == 0, installed.stderr

    image = read_stages()["runtime"]
    commands = [["semsr", "serve"], image.command("HEALTHCHECK")]
    served = run_in_sandbox(
        [
            "/opt/semsr/bin/python", "/semsr-one-tile/one_tile.py",
            "/opt/semsr/bundles/default/golden", json.dumps(commands),
        ],
        binds={**binds, "/semsr-one-tile": CHECK},
        environment={
            "PATH": f"/opt/semsr/bin:{os.defpath}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SEMSR_PORT": "8000",
            "SEMSR_DRAIN_S": "0",
        },
        folder="/",
    )  # fmt: skip
    assert served.returncode == 0, served.stderr
    facts = json.loads(served.stdout)
    bill = json.loads((unpacked / "sbom.cdx.json").read_text(encoding="utf-8"))

    extras = json.loads(
        run_in_sandbox(
            ["/opt/semsr/bin/python", "-c", _EXTRAS],
            binds=binds,
            environment={"PATH": os.defpath},
            folder="/",
        ).stdout
    )

    assert {"pyarrow": True, "zarr": True, "psycopg": True, "opentelemetry.sdk": True} == extras
    assert (200, 0, 0) == (facts["status"], facts["health_check"], facts["exit_code"])
    assert facts["largest_error"] <= 1
    assert {"semsr", "onnxruntime"} <= {
        component["name"] for component in [bill["metadata"]["component"], *bill["components"]]
    }
    assert (unpacked / "docs" / "operations.md").is_file()
    assert 1 == len(list((unpacked / "wheels").glob("semsr_client-*.whl")))
