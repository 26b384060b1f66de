"""The wheel in an environment of its own, far from the checkout: it serves what it holds."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import httpx2
import numpy as np
import pytest

from bundle_format.bundle import load_bundle
from semsr.server_process import running_server
from tests.deploy.promql import ROOT

pytestmark = pytest.mark.slow


def run_pip(*arguments: str | Path) -> None:
    """Run pip without network."""
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel; its dependencies are those of the tests' environment.

    The checkout is not on its path: a `.pth` file adds a folder, and none of that folder's own.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = ("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    run_pip(*build, ROOT)
    environment = folder / "environment"
    venv.create(environment)
    python = environment / "bin" / "python"
    [wheel] = folder.glob("semsr-*.whl")
    run_pip("--python", python, "install", "--no-index", "--no-deps", wheel)
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return environment


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder, without settings of the caller."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("SEMSR_", "PYTHON"))]:
        monkeypatch.delenv(name)


def test_the_wheel_serves_the_shipped_model_without_a_setting(installed: Path) -> None:
    """`semsr serve` in an empty folder answers the golden tile of the default bundle."""
    golden = load_bundle(ROOT / "bundles" / "default").golden()
    height, width = golden.lr.shape[2:]
    headers = {
        "content-type": "application/octet-stream",
        "accept": "application/octet-stream",
        "x-tile-shape": f"{height},{width}",
    }
    settings = {"SEMSR_ENGINE": "onnx", "SEMSR_MAX_BATCH_SIZE": "1"}
    command = (str(installed / "bin" / "semsr"), "serve")
    python = str(installed / "bin" / "python")
    with running_server(settings, python=python, command=command) as server:
        answer = httpx2.post(
            f"{server.url}/superresolve",
            content=golden.lr[0, 0].tobytes(),
            headers=headers,
            timeout=60.0,
            trust_env=False,
        )
        log = server.log.read_text()

    sr = np.frombuffer(answer.content, np.uint8).reshape(golden.sr.shape[2:]).astype(int)
    assert np.abs(sr - golden.sr[0, 0]).max() <= 1
    assert f'"bundle":"{installed}/lib/' in log


def test_upscale_and_bundle_find_it_too(installed: Path) -> None:
    """One image, then the path of the other model; a path that does not exist names both."""
    semsr = installed / "bin" / "semsr"
    sample = ROOT / "samples" / "0004_blank_film.png"
    for command in (
        [semsr, "upscale", sample, "--out", "out", "--engine", "onnx"],
        [semsr, "bundle"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
    assert Path("out/0004_blank_film_x4.png").is_file()
    assert "default" in done.stdout

    missing = subprocess.run(
        [semsr, "bundle", "bundles/fast"], capture_output=True, text=True, check=False
    )
    assert 1 == missing.returncode
    assert f"this installation holds {installed}/lib/" in missing.stderr
    assert "/bundle_format/bundles/fast" in missing.stderr
