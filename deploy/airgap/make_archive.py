"""Makes one archive that installs the service on a machine without network; `make airgap` runs it.

The archive holds wheels for this machine's Python and platform: the locked ones, those of some
extras, the project's with the shipped bundles, and its client's. It also holds documentation,
`deploy/`, a bill of materials, the installer, and the sha256 of every file. It gets its name only
when it is complete. This script imports only the standard library, so that the serving environment
can run it.
"""

import argparse
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("docs", "deploy", "samples")
FILES = ("README.md", "CHANGELOG.md", "LICENSE", "docker-compose.yml", "docker-compose.gpu.yml")
LOCKS = ROOT / "requirements"


def main(out: Path, sbom_tools: Path, extras: Sequence[str]) -> Path:
    """Make the archive.

    Args:
        out: Folder for the archive.
        sbom_tools: Folder of packages with cyclonedx-bom.
        extras: Names of extras that have a lock.

    Returns:
        Path of the archive.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    platform = sysconfig.get_platform().replace("-", "_")
    name = f"semsr-{project['version']}-python{python}-{platform}"
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder) / name
        stage.mkdir()
        locks = [LOCKS / f"{name}.txt" for name in ("base", *extras)]
        _collect_wheels(stage / "wheels", locks)
        _copy_files(stage, locks)
        (stage / "PYTHON").write_text(f"{python}\n", encoding="utf-8")
        _write_bill(stage, Path(folder) / "trial", sbom_tools)
        _write_sums(stage)
        out.mkdir(parents=True, exist_ok=True)
        return _pack(stage, out / f"{name}.tar.gz")


def _collect_wheels(wheels: Path, locks: Sequence[Path]) -> None:
    for lock in locks:
        _pip(
            "download", "--require-hashes", "--no-deps", "--only-binary=:all:",
            "--dest", wheels, "--requirement", lock,
        )  # fmt: skip
    # The client is for the environments of pipelines; the installer leaves it where it is.
    for project in (ROOT, ROOT / "client"):
        _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, project)


def _copy_files(stage: Path, locks: Sequence[Path]) -> None:
    for name in FOLDERS:
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, stage / name, ignore=unwanted)
    for name in FILES:
        shutil.copy2(ROOT / name, stage)
    (stage / "requirements").mkdir()
    for lock in locks:
        shutil.copy2(lock, stage / "requirements")
    shutil.copy2(ROOT / "deploy" / "airgap" / "install.sh", stage)


def _write_bill(stage: Path, trial: Path, sbom_tools: Path) -> None:
    """Write the bill of materials of a trial installation from the archive's own files."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", trial], check=True)
    offline = ("--no-index", "--no-deps", "--quiet")
    target = ("--python", trial / "bin" / "python", "install", *offline)
    hashed = ("--require-hashes", "--find-links", stage / "wheels")
    for lock in sorted((stage / "requirements").iterdir()):
        _pip(*target, *hashed, "-r", lock)
    _pip(*target, *(stage / "wheels").glob("semsr-*.whl"))
    subprocess.run(
        [
            sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible",
            "--pyproject", ROOT / "pyproject.toml", "--output-file", stage / "sbom.cdx.json",
            trial / "bin" / "python",
        ],
        env={**os.environ, "PYTHONPATH": str(sbom_tools)},
        check=True,
    )  # fmt: skip


def _write_sums(stage: Path) -> None:
    files = sorted(path for path in stage.rglob("*") if path.is_file())
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(stage)}\n"
        for path in files
    ]
    (stage / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def _pack(stage: Path, path: Path) -> Path:
    """Pack the staging folder without times and owners, so that equal content gives equal bytes."""

    def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = "root"
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    part = path.with_name(f".{path.name}.part")
    try:
        with (
            part.open("wb") as file,
            gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(stage, arcname=stage.name, filter=anonymous)
        return part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*command, *arguments], stdout=sys.stderr, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the archive; see the docstring.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sbom-tools", type=Path, required=True)
    parser.add_argument("--extras", nargs="*", default=[])
    options = parser.parse_args()
    archive = main(options.out, options.sbom_tools.resolve(), options.extras)
    sys.stdout.write(f"{archive}\n")
