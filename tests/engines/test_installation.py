"""The hints that errors give for a missing package: commands that exist, here and elsewhere."""

import subprocess
import sys
from pathlib import Path

import pytest

from engines.installation import CHECKOUT, LOCKED_EXTRAS, install_hint


@pytest.mark.parametrize("extra", LOCKED_EXTRAS)
def test_a_checkout_names_its_make_target(extra: str):
    """Every extra that is named has its lock, which the target installs."""
    assert f"install the extra {extra}: make install EXTRAS={extra}" == install_hint(extra)
    assert (CHECKOUT / "requirements" / f"{extra}.txt").is_file()


@pytest.mark.parametrize(
    ("extra", "target"),
    [("ray", "install-ray"), ("train", "install-dev"), ("export", "install-dev")],
)
def test_extras_with_an_environment_of_their_own_name_its_target(extra: str, target: str):
    """`make -n` knows the target."""
    assert f"make {target}, then .venv-" in install_hint(extra)
    subprocess.run(["make", "-C", CHECKOUT, "-n", target], check=True, capture_output=True)


@pytest.mark.parametrize("extra", ["scan", "ray", "export"])
def test_a_wheel_installation_names_no_make(tmp_path: Path, extra: str):
    """Without a checkout the command is pip's, run in one, with the Python that lacks the extra."""
    hint = install_hint(extra, checkout=tmp_path)

    assert "make install" not in hint
    assert f"in a checkout of semsr: {sys.executable} -m pip install '.[{extra}]'" in hint


def test_training_needs_a_checkout(tmp_path: Path):
    """The wheel has no folder `training`, so that its extra alone would not help."""
    hint = install_hint("train", checkout=tmp_path)

    assert "in a checkout of semsr, make install-dev" in hint
    assert "pip" not in hint


@pytest.mark.parametrize("extra", ["base", "gpu", "scan"])
def test_no_hint_asks_an_index_for_our_name(tmp_path: Path, extra: str):
    """The name `semsr` is not ours on a package index: another project could register it."""
    for hint in (install_hint(extra), install_hint(extra, checkout=tmp_path)):
        assert "install semsr" not in hint
        assert "semsr[" not in hint
