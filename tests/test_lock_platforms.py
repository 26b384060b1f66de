"""Hashes of files that no supported machine installs are left out of the locks."""

from pathlib import Path

import pytest

from requirements.platforms import is_supported, main


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a-1.0.tar.gz", True),
        ("a-1.0-py3-none-any.whl", True),
        ("a-1.0-py2.py3-none-any.whl", True),
        ("a-1.0-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("a-1.0-cp39-abi3-manylinux_2_28_aarch64.whl", True),
        ("a-1.0-cp310-cp310-manylinux_2_28_x86_64.whl", False),
        ("a-1.0-cp312-cp312-musllinux_1_2_x86_64.whl", False),
        ("a-1.0-cp312-cp312-macosx_11_0_arm64.whl", False),
        ("a-1.0-cp312-cp312-win_amd64.whl", False),
        ("a-1.0-cp312-cp312-manylinux_2_17_s390x.whl", False),
        ("a-1.0-pp311-pypy311_pp73-manylinux_2_17_x86_64.whl", False),
    ],
)
def test_files_of_supported_machines(name: str, expected: bool) -> None:
    """CPython from 3.11 on, Linux with glibc, x86-64 and ARM64."""
    assert expected == is_supported(name)


def test_a_lock_keeps_what_linux_needs_and_what_is_unknown(tmp_path: Path) -> None:
    """Hashes of a package without files for Linux stay, too."""
    linux, mac, windows, unknown = (letter * 64 for letter in "abcd")
    files = {
        "both-1-cp311-cp311-manylinux_2_17_x86_64.whl": linux,
        "both-1-py3-none-macosx_11_0_arm64.whl": mac,
    }
    wheels = ", ".join(
        f'{{url = "https://host/{name}", hashes = {{sha256 = "{digest}"}}}}'
        for name, digest in files.items()
    )
    only = f'{{url = "https://host/w-1-py3-none-win32.whl", hashes = {{sha256 = "{windows}"}}}}'
    lock = tmp_path / "pylock.toml"
    lock.write_text(
        f"[[packages]]\nname = 'both'\nwheels = [{wheels}]\n"
        f"[[packages]]\nname = 'w'\nwheels = [{only}]\n"
    )
    entry = "x==1"
    for digest in (linux, mac, windows, unknown):
        entry += f" \\\n    --hash=sha256:{digest}"
    (tmp_path / "base.txt").write_text(entry + "\n")
    main(lock, tmp_path)
    text = (tmp_path / "base.txt").read_text()
    assert [True, False, True, True] == [
        digest in text for digest in (linux, mac, windows, unknown)
    ]
