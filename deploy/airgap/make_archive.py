"""Makes one archive that installs the service on a machine without network; `make airgap` runs it.

It holds the locked wheels and the project's own for this machine's Python and platform, the shipped
bundle, documentation, `deploy/`, a bill of materials, the installer, and the sha256 of every file.
Only the standard library, so that the serving environment can run it.
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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("bundles/default", "docs", "deploy", "samples")
FILES = ("README.md", "CHANGELOG.md", "LICENSE", "docker-compose.yml", "docker-compose.gpu.yml")
LOCK = ROOT / "requirements" / "base.txt"


def main(out: Path, sbom_tools: Path) -> Path:
    """Make the archive.

    Args:
        out: Folder for it.
        sbom_tools: Folder of packages with cyclonedx-bom.

    Returns:
        Its path.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    platform = sysconfig.get_platform().replace("-", "_")
    name = f"semsr-{project['version']}-python{python}-{platform}"
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder) / name
        stage.mkdir()
        _collect_wheels(stage / "wheels")
        _copy_files(stage)
        (stage / "PYTHON").write_text(f"{python}\n", encoding="utf-8")
        _write_bill(stage, Path(folder) / "trial", sbom_tools)
        _write_sums(stage)
        out.mkdir(parents=True, exist_ok=True)
        return _pack(stage, out / f"{name}.tar.gz")


def _collect_wheels(wheels: Path) -> None:
    _pip(
        "download", "--require-hashes", "--no-deps", "--only-binary=:all:",
        "--dest", wheels, "--requirement", LOCK,
    )  # fmt: skip
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, ROOT)


def _copy_files(stage: Path) -> None:
    for name in FOLDERS:
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, stage / name, ignore=unwanted)
    for name in FILES:
        shutil.copy2(ROOT / name, stage)
    shutil.copy2(LOCK, stage / "requirements.txt")
    shutil.copy2(ROOT / "deploy" / "airgap" / "install.sh", stage)


def _write_bill(stage: Path, trial: Path, sbom_tools: Path) -> None:
    """List what an installation holds, by making one from the archive's own files."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", trial], check=True)
    offline = ("--no-index", "--no-deps", "--quiet")
    target = ("--python", trial / "bin" / "python", "install", *offline)
    lock = ("--require-hashes", "--find-links", stage / "wheels", "-r", stage / "requirements.txt")
    _pip(*target, *lock)
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
    """Pack the stage; no times and no owners, so that equal content gives equal bytes."""

    def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = "root"
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        archive.add(stage, arcname=stage.name, filter=anonymous)
    return path


def _pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*command, *arguments], stdout=sys.stderr, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the archive; see the docstring.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sbom-tools", type=Path, required=True)
    options = parser.parse_args()
    sys.stdout.write(f"{main(options.out, options.sbom_tools.resolve())}\n")
