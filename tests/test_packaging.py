"""The wheel, the client and the Makefile: what a fresh machine installs."""

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.locks import REQUIREMENTS, list_locks, read_lock, unmet

ROOT = Path(__file__).resolve().parents[1]
CLIENT = ROOT / "client"
FIND_PYTHON = REQUIREMENTS / "find-python"


def read_project(folder: Path = ROOT) -> dict[str, Any]:
    """Read pyproject.toml."""
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_fixed_packages_are_declared() -> None:
    """Every package that the product is specified to build on is named in pyproject.toml."""
    project = read_project()["project"]
    texts = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        texts += extra
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    fixed = {
        "torch", "onnx", "onnxruntime-gpu", "tensorrt", "fastapi", "uvicorn", "pydantic",
        "prometheus-client", "locust",
    }  # fmt: skip

    assert set() == fixed - declared


def build_wheel(project: Path, folder: Path) -> None:
    """Build a project's wheel without network."""
    subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
            "--disable-pip-version-check", "--no-index", "--wheel-dir", str(folder), str(project),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip


def test_the_wheel_carries_the_code_and_its_data(tmp_path: Path) -> None:
    """A wheel has every module that serves, the page, the command, the shipped bundles alone."""
    build_wheel(ROOT, tmp_path)
    packages = (
        "bundle_format",
        "engines",
        "models",
        "export",
        "service",
        "semsr",
        "loadtests",
    )
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected = {
        name for name in expected if not name.startswith(("loadtests/gpu/", "loadtests/peers/"))
    }

    for bundle in ("default", "fast"):
        folder = ROOT / "bundles" / bundle
        files = [path.relative_to(ROOT) for path in folder.rglob("*") if path.is_file()]
        expected |= {f"bundle_format/{path.as_posix()}" for path in files}

    [wheel] = tmp_path.glob("semsr-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        [entry_points] = [n for n in archive.namelist() if n.endswith("entry_points.txt")]
        commands = archive.read(entry_points).decode()

    assert expected == names
    assert "service/http/page_files/index.html" in names
    assert "semsr = semsr.cli:main" in commands


def test_the_client_brings_its_http_library_and_numpy_alone(tmp_path: Path) -> None:
    """Its wheel has no file of the service, and installs next to the service's packages."""
    build_wheel(CLIENT, tmp_path)
    [wheel] = tmp_path.glob("semsr_client-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("/LICENSE")]
    project = read_project(CLIENT)["project"]
    requirements = [Requirement(text) for text in project["dependencies"]]

    expected = {f"semsr_client/{path.name}" for path in CLIENT.glob("semsr_client/*.py")}
    assert expected | {"semsr_client/py.typed"} == names  # the marker shows callers its types
    assert 1 == len(licences)
    assert ["h11", "httpx2", "numpy"] == [requirement.name for requirement in requirements]
    assert [] == unmet(requirements, read_lock("base"))
    assert read_project()["project"]["version"] == project["version"]


def test_the_wheel_of_the_napari_plugin_holds_its_manifest(tmp_path: Path) -> None:
    """Napari finds it by the entry point."""
    build_wheel(CLIENT / "napari", tmp_path)
    [wheel] = tmp_path.glob("napari_semsr-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        [points] = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        entry_points = archive.read(points).decode()

    assert "napari_semsr/napari.yaml" in names
    assert "[napari.manifest]\nnapari-semsr = napari_semsr:napari.yaml" in entry_points


def test_the_archive_holds_the_extras_of_the_images() -> None:
    """Nothing can be installed later in either, so they hold the same."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [archive] = re.findall(r"^IMAGE_EXTRAS := (.*)$", makefile, flags=re.MULTILINE)
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    [image] = re.findall(r'^ARG SEMSR_EXTRAS="(.*)"$', dockerfile, flags=re.MULTILINE)

    assert image.split() == archive.split()


@pytest.mark.parametrize("target", ["install", "airgap"])
def test_an_unknown_extra_is_refused_before_anything_is_installed(target: str) -> None:
    """The message has the name, the known ones, and where others come from."""
    result = subprocess.run(
        ["make", target, "EXTRAS=scan,opnvino"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert 2 == result.returncode
    assert "unknown extra in EXTRAS: opnvino; the known ones are openvino" in result.stderr
    assert "" == result.stdout


def make_plan(folder: Path, *arguments: str) -> str:
    """Print what make would do in a checkout whose environments stand."""
    return subprocess.run(
        ["make", "-C", folder, "-n", *arguments], capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the Makefile, its locks and a `.venv` that stands, as its stamps say."""
    for name in ("Makefile", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    shutil.copytree(REQUIREMENTS, tmp_path / "requirements")
    (tmp_path / ".venv").mkdir()
    stamp_environment(tmp_path)
    return tmp_path


def stamp_environment(checkout: Path, *extras: str, folder: str = ".venv") -> None:
    """Write the stamps as make would, in its order."""
    sum_of_path = subprocess.run(
        ["cksum"], input=str(checkout), capture_output=True, text=True, check=True
    )
    here = sum_of_path.stdout.split()[0]
    for name in ("packages", *(f"extra-{extra}" for extra in extras), "ready"):
        (checkout / folder / f".{name}-{here}").touch()


def test_an_extra_is_added_to_the_environment_and_stays(checkout: Path) -> None:
    """It is installed once, by its lock; serving leaves it alone, another one is added to it."""
    plan = make_plan(checkout, "install", "EXTRAS=scan")
    assert "--require-hashes" in plan
    assert "-r requirements/scan.txt" in plan
    assert "rm -rf" not in plan

    stamp_environment(checkout, "scan")
    assert "requirements/" not in make_plan(checkout, "serve")
    assert "requirements/" not in make_plan(checkout, "install", "EXTRAS=scan")
    more = make_plan(checkout, "install", "EXTRAS=openvino")
    assert "-r requirements/openvino.txt" in more
    assert "-r requirements/scan.txt" not in more


def test_an_extra_comes_back_when_a_lock_changes(checkout: Path) -> None:
    """An environment that is made again, by whichever target, has the extras that it had."""
    stamp_environment(checkout, "scan")
    newer = time.time() + 10
    os.utime(checkout / "requirements" / "base.txt", (newer, newer))

    plan = make_plan(checkout, "serve")
    assert plan.index("rm -rf .venv") < plan.index("-r requirements/scan.txt")


@pytest.mark.parametrize(
    ("target", "folder", "locks"),
    [
        ("install", ".venv", ["base", "build"]),
        ("install-dev", ".venv-dev", ["dev", "torch"]),
        ("install-ray", ".venv-ray", ["ray", "build", "test"]),
    ],
)
def test_a_change_of_any_lock_makes_its_environment_again(
    checkout: Path, target: str, folder: str, locks: list[str]
) -> None:
    """A lock that another one includes counts too; other locks do not."""
    shutil.rmtree(checkout / ".venv")
    (checkout / folder).mkdir()
    stamp_environment(checkout, folder=folder)
    included = {other for lock in locks for other in list_locks(lock)}
    making = f"Making {folder} with"
    older = time.time() - 10

    assert making not in make_plan(checkout, target)
    for path in (checkout / "requirements").glob("*.txt"):
        path.touch()
        assert (path.stem in included) == (making in make_plan(checkout, target)), path.name
        os.utime(path, (older, older))


# In place of Python: `-m venv` makes a folder with a copy of itself, and `-m pip` notes when it
# starts and ends, or fails while a file `broken` is there.
FAKE_PYTHON = """#!/bin/sh
case "$2" in
venv) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
pip) for last in "$@"; do :; done
    echo "start $last" >> pip.log
    test ! -e broken || exit 1
    sleep 0.1
    echo "end $last" >> pip.log ;;
esac
"""


@pytest.fixture
def fake_checkout(checkout: Path) -> Path:
    """A checkout whose environments are made by `FAKE_PYTHON`, and none of which stands."""
    shutil.rmtree(checkout / ".venv")
    python = checkout / "python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    (checkout / "requirements" / "find-python").write_text(f"#!/bin/sh\necho {python}\n")
    return checkout


def make(folder: Path, *arguments: str) -> tuple[int, list[str]]:
    """Run make; returns its exit code and what the fake pip noted."""
    log = folder / "pip.log"
    log.unlink(missing_ok=True)
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        ["make", "-C", folder, *arguments], capture_output=True, check=False, env=environment
    )
    return done.returncode, log.read_text().splitlines() if log.exists() else []


def test_extras_are_installed_one_after_another(fake_checkout: Path) -> None:
    """Two pips at a time in one environment spoil it: also `make -j` starts the next at the end."""
    code, noted = make(fake_checkout, "-j", "4", "install", "EXTRAS=tracing,scan,openvino")

    locks = [f"requirements/{name}.txt" for name in ("build", "openvino", "scan", "tracing")]
    expected = [f"{what} {lock}" for lock in [*locks, "."] for what in ("start", "end")]
    assert (0, expected) == (code, noted)
    assert "openvino\nscan\ntracing\n" == (fake_checkout / ".venv-extras").read_text()


@pytest.mark.parametrize("is_known_by_stamps_alone", [False, True])
def test_a_failed_rebuild_keeps_the_list_of_extras(
    fake_checkout: Path, is_known_by_stamps_alone: bool
) -> None:
    """A lock changes, pip fails: the next make still installs them; distclean forgets them."""
    make(fake_checkout, "install", "EXTRAS=scan,tracing")
    if is_known_by_stamps_alone:  # an environment of before the list was kept
        (fake_checkout / ".venv-extras").unlink()
    newer = time.time() + 10
    os.utime(fake_checkout / "requirements" / "base.txt", (newer, newer))
    (fake_checkout / "broken").touch()

    assert (2, ["start requirements/build.txt"]) == make(fake_checkout, "install")
    (fake_checkout / "broken").unlink()
    code, noted = make(fake_checkout, "install", "EXTRAS=openvino")

    assert 0 == code
    for extra in ("openvino", "scan", "tracing"):
        assert f"end requirements/{extra}.txt" in noted
    make(fake_checkout, "distclean")
    assert not (fake_checkout / ".venv-extras").exists()


def test_the_archive_does_not_change_this_machine(checkout: Path) -> None:
    """Extras that it is asked for go into it, and not into .venv."""
    plan = make_plan(checkout, "airgap", "EXTRAS=openvino,scan")
    assert "-r requirements/scan.txt" not in plan
    assert "--extras openvino scan\n" in plan
    assert "--extras scan postgres tracing\n" in make_plan(checkout, "airgap")
    assert plan.replace("openvino scan", "") == make_plan(checkout, "airgap", "EXTRAS=none")


def test_no_text_installs_semsr_by_its_bare_name() -> None:
    """The name is not ours on a package index: another project could register it."""
    listed = subprocess.run(
        [
            "git",
            "ls-files",
            "-z",
            "*.py",
            "*.md",
            "*.sh",
            "*.toml",
            "*.yml",
            "Makefile",
            "Dockerfile",
        ],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    asks = re.compile(r"install[^\n]{0,20}[ '\"]semsr(\[|['\"`]|==|$)", flags=re.MULTILINE)
    files = [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]

    assert len(files) > 300
    assert ["install 'semsr["] == [found[0] for found in asks.finditer("pip install 'semsr[scan]'")]
    assert [] == [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in files
        if not path.is_relative_to(ROOT / "tests")
        for found in asks.finditer(path.read_text(encoding="utf-8"))
    ]


def test_make_help_lists_the_documented_targets() -> None:
    """`make` alone lists the targets that the README and CONTRIBUTING name."""
    listed = subprocess.run(["make", "-C", ROOT], capture_output=True, text=True, check=True).stdout

    for target in (
        "demo", "serve", "bench", "wheel", "airgap", "test", "test-slow", "lint", "types", "format",
        "install", "install-dev", "install-ray", "deploy-files", "lock", "clean",
    ):  # fmt: skip
        assert re.search(rf"^  make {target}\s", listed, flags=re.MULTILINE), target


def find_python(python: str) -> subprocess.CompletedProcess[str]:
    """Run requirements/find-python with PYTHON set."""
    return subprocess.run(
        [FIND_PYTHON],
        env={"PYTHON": python, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def fake_python(path: Path, script: str) -> str:
    """Write a program that stands in for a Python."""
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_a_python_that_serves_is_found() -> None:
    """The Python that runs the tests can make environments, and its own path is printed."""
    result = find_python(sys.executable)

    assert 0 == result.returncode
    assert Path(sys.executable).samefile(result.stdout.strip())


def test_no_python_says_what_to_install() -> None:
    """Without a Python the message names the packages and the way to point to another one."""
    result = find_python("no-such-python")

    assert 1 == result.returncode
    assert "no Python 3.11 or newer found" in result.stderr
    assert "apt-get install python3 python3-venv" in result.stderr
    assert "PYTHON=/path/to/python3" in result.stderr


def test_an_old_python_is_named(tmp_path: Path) -> None:
    """A Python that is too old is shown with its version."""
    python = fake_python(
        tmp_path / "python3", 'case "$2" in *print*) echo 3.9 ;; *) exit 1 ;; esac'
    )

    result = find_python(python)

    assert 1 == result.returncode
    assert f"too old: {python} (3.9)" in result.stderr


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without_venv_says_which_part_is_missing(tmp_path: Path, module: str) -> None:
    """Debian's Python without its venv package is recognised, and the package named."""
    hide = (
        "import importlib.util as u, sys; found = u.find_spec; "
        f"u.find_spec = lambda name: None if name == '{module}' else found(name); "
        "exec(sys.argv[1])"
    )
    python = fake_python(tmp_path / "python3", f'exec {sys.executable} -c "{hide}" "$2"')
    version = f"{sys.version_info.major}.{sys.version_info.minor}"

    result = find_python(python)

    assert 1 == result.returncode
    assert f"lacks {module}: apt-get install python{version}-venv" in result.stderr
