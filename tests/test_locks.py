"""The locks: what they pin, what they include, and how `make lock` divides them."""

import hashlib
import importlib.metadata
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from engines.installation import LOCKED_EXTRAS as LOCKED_EXTRAS_OF_HINTS
from requirements.layers import INCLUDED, divide, read_entries
from tests.locks import REQUIREMENTS, list_locks, read_lock, unmet

ROOT = REQUIREMENTS.parent
# The one file without hashes: torch's CPU build is another file than the registry's.
TORCH_LOCK = "torch"
HASHED_LOCKS = sorted({path.stem for path in REQUIREMENTS.glob("*.txt")} - {TORCH_LOCK})
# Which lock carries which extras and groups of pyproject.toml.
LOCKED_EXTRAS = {
    "base": [],
    "openvino": ["openvino"],
    "rtx": ["rtx"],
    "scan": ["scan"],
    "ray": ["scan", "ray"],
    "tracing": ["tracing"],
    "loadtest": ["loadtest"],
    "postgres": ["postgres"],
    "dev": ["openvino", "rtx", "scan", "tracing", "postgres", "train", "export", "loadtest"],
}
LOCKED_GROUPS = {
    "build": "build",
    "test": "test",
    "sbom": "sbom",
    "dev": "dev",
}


def read_project() -> dict[str, Any]:
    """Read pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def group_requirements(groups: dict[str, list[Any]], name: str) -> Iterator[Requirement]:
    """List the requirements of a dependency group and of the groups that it includes."""
    for entry in groups[name]:
        if isinstance(entry, dict):
            yield from group_requirements(groups, entry["include-group"])
        else:
            yield Requirement(entry)


def test_every_lock_is_known_here() -> None:
    """A lock that no extra or group accounts for would go unchecked."""
    assert sorted({*LOCKED_EXTRAS, *LOCKED_GROUPS}) == HASHED_LOCKS


@pytest.mark.parametrize("name", [*HASHED_LOCKS, TORCH_LOCK])
def test_a_lock_names_no_address(name: str) -> None:
    """Where packages come from is the machine's own configuration, never the lock's."""
    text = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")

    assert [] == re.findall(r"^.*://.*$", text, flags=re.MULTILINE)
    # An option, such as --index-url, --find-links or -i; only other locks may be included.
    assert [] == re.findall(r"^-(?!r [a-z]+\.txt$).*$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", HASHED_LOCKS)
def test_a_lock_pins_every_package_with_hashes(name: str) -> None:
    """Each requirement has one exact version and at least one sha256."""
    text = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")
    text = re.sub(r"\s*#.*|^-r .*", "", text, flags=re.MULTILINE)
    entries = text.replace("\\\n", " ").strip().splitlines()

    assert entries
    for entry in filter(str.strip, entries):
        assert re.match(r"[a-z0-9][\w.-]*==\S+ .*--hash=sha256:[0-9a-f]{64}", entry), entry


def test_the_torch_lock_pins_torch_alone() -> None:
    """The file without hashes holds nothing but the version that the extras name."""
    text = (REQUIREMENTS / f"{TORCH_LOCK}.txt").read_text(encoding="utf-8")
    entries = [line for line in text.splitlines() if line and not line.startswith("#")]
    extras = read_project()["project"]["optional-dependencies"]

    assert len(entries) == 1
    assert entries[0] in extras["train"]
    assert entries[0] in extras["export"]


@pytest.mark.parametrize("name", HASHED_LOCKS)
def test_no_hashed_lock_brings_torch(name: str) -> None:
    """Torch and the CUDA libraries of its default build come only with torch.txt."""
    brought = [
        package
        for package in read_lock(name)
        if package in {"torch", "triton", "pytorch-triton"} or package.startswith("nvidia-")
    ]

    assert [] == brought


def test_the_serving_lock_stays_small() -> None:
    """Serving needs nothing of training, export and development."""
    heavy = {"scipy", "onnx", "onnxscript", "safetensors", "sympy", "openvino", "pytest", "pyright"}

    assert set() == heavy & set(read_lock("base"))


@pytest.mark.parametrize("name", sorted(LOCKED_EXTRAS))
def test_a_lock_satisfies_what_it_is_made_from(name: str) -> None:
    """Base dependencies and extras are pinned to versions that pyproject.toml allows."""
    project = read_project()["project"]
    texts = [*project["dependencies"]]
    for extra in LOCKED_EXTRAS[name]:
        texts += project["optional-dependencies"][extra]
    requirements = [Requirement(text) for text in texts if not text.startswith("torch==")]

    assert [] == unmet(requirements, read_lock(name))


@pytest.mark.parametrize("name", sorted(LOCKED_GROUPS))
def test_a_lock_satisfies_its_group(name: str) -> None:
    """Dependency groups are pinned to versions that pyproject.toml allows."""
    groups = read_project()["dependency-groups"]

    assert [] == unmet([*group_requirements(groups, LOCKED_GROUPS[name])], read_lock(name))


def test_all_locks_agree_on_versions_and_hashes() -> None:
    """A package has the same files, whichever lock it is installed from."""
    pins: dict[str, set[tuple[str, frozenset[str]]]] = {}
    for name in HASHED_LOCKS:
        for entry in read_entries(REQUIREMENTS / f"{name}.txt"):
            pins.setdefault(entry.name, set()).add((entry.version, entry.hashes))

    assert {} == {package: found for package, found in pins.items() if len(found) > 1}


def test_the_locks_are_divided(tmp_path: Path) -> None:
    """No lock holds an entry of a lock that it includes; a second division changes nothing."""
    folder = shutil.copytree(REQUIREMENTS, tmp_path / "requirements")
    divide(folder)

    for name in HASHED_LOCKS:
        path = REQUIREMENTS / f"{name}.txt"
        assert path.read_text("utf-8") == (folder / path.name).read_text("utf-8")
        assert {name, *INCLUDED.get(name, ())} <= set(list_locks(name))
    assert ["ray", "scan", "base"] == list_locks("ray")
    assert {*HASHED_LOCKS} - {"ray"} == set(list_locks("dev"))


def test_an_extra_includes_the_base_alone() -> None:
    """Images and archives copy the locks of the base and of their extras, and no others."""
    assert ["base"] == list_locks("base")
    for extra in LOCKED_EXTRAS_OF_HINTS:
        assert [extra, "base"] == list_locks(extra)


def write_locks(folder: Path, **entries: str) -> None:
    """Write complete locks as uv does; an entry is `name==version`, a marker may follow."""
    for name in (
        "base",
        "ray",
        "dev",
        "build",
        "test",
        "sbom",
        *LOCKED_EXTRAS_OF_HINTS,
        "loadtest",
    ):
        lines = ["# This file was autogenerated\n"]
        for entry in entries.get(name, "").split(", "):
            if entry:
                digest = hashlib.sha256(entry.partition(" ;")[0].encode()).hexdigest()
                lines.append(f"{entry} \\\n    --hash=sha256:{digest}\n    # via semsr\n")
        (folder / f"{name}.txt").write_text("".join(lines), encoding="utf-8")


def read_pins(path: Path) -> list[str]:
    """Return the lines of a lock without comments and hashes."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.removesuffix(" \\") for line in lines if not line.startswith((" ", "#"))]


def test_division_leaves_out_what_lower_locks_hold(tmp_path: Path) -> None:
    """Also what a lock includes by way of another one; an entry keeps its hashes and comments."""
    write_locks(tmp_path, base="a==1", scan="a==1, b==2", ray="a==1, b==2, c==3", tracing="a==1")
    divide(tmp_path)

    assert ["a==1"] == read_pins(tmp_path / "base.txt")
    assert ["-r base.txt", "b==2"] == read_pins(tmp_path / "scan.txt")
    assert ["-r scan.txt", "c==3"] == read_pins(tmp_path / "ray.txt")
    assert ["-r base.txt"] == read_pins(tmp_path / "tracing.txt")
    digest = hashlib.sha256(b"b==2").hexdigest()
    expected = f"-r base.txt\nb==2 \\\n    --hash=sha256:{digest}\n    # via semsr\n"
    assert f"# This file was autogenerated\n{expected}" == (tmp_path / "scan.txt").read_text()


@pytest.mark.parametrize(
    ("lower", "upper", "kept"),
    [
        ("a==1 ; python_version < '3.13'", "a==1", ["a==1"]),
        ("a==1", "a==1 ; python_version < '3.13'", []),
        ("a==1 ; python_version < '3.13'", "a==1 ; python_version < '3.13'", []),
    ],
)
def test_division_keeps_an_entry_that_applies_to_more_environments(
    tmp_path: Path, lower: str, upper: str, kept: list[str]
) -> None:
    """The lower lock would not install the package everywhere."""
    write_locks(tmp_path, base=lower, scan=upper)
    divide(tmp_path)

    assert ["-r base.txt", *kept] == read_pins(tmp_path / "scan.txt")


def test_division_refuses_two_versions(tmp_path: Path) -> None:
    """Pip could not install both; the error names locks, package and versions."""
    write_locks(tmp_path, base="a==1", scan="a==2")

    with pytest.raises(ValueError, match=r"scan.txt pins a 2, .* pins 1; expected one version"):
        divide(tmp_path)


def test_what_torch_needs_is_locked() -> None:
    """Installing torch after the lock brings torch alone (with a CPU build)."""
    try:
        needs = importlib.metadata.requires("torch") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("torch is not installed")
    requirements = [
        requirement
        for text in needs
        if not (requirement := Requirement(text)).name.startswith(("nvidia-", "cuda-", "triton"))
        and (requirement.marker is None or requirement.marker.evaluate({"extra": ""}))
    ]

    assert requirements
    assert [] == unmet(requirements, read_lock("dev"))


def test_extras_that_make_installs_are_those_that_have_a_lock() -> None:
    """The Makefile, the hints of errors and the lock files know the same ones."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [known] = re.findall(r"^KNOWN_EXTRAS := (.*)$", makefile, flags=re.MULTILINE)
    serving = {
        extra for extras in LOCKED_EXTRAS.values() if len(extras) == 1 for extra in extras
    } - {"loadtest"}

    assert sorted(serving) == known.split() == list(LOCKED_EXTRAS_OF_HINTS)
