"""The bundle that is used when none is named, and errors that say which ones exist."""

from pathlib import Path

import pytest

from bundle_format import shipped
from bundle_format.bundle import BundleError, load_bundle
from bundle_format.shipped import default_bundle, shipped_bundles

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with two bundles, in whose place of work nothing lies."""
    package = tmp_path / "site-packages" / "bundle_format" / "bundles"
    for name in ("fast", "default"):
        (package / name).mkdir(parents=True)
        (package / name / "manifest.json").write_text("{}")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(shipped, "PACKAGED", package)
    monkeypatch.setattr(shipped, "CHECKED_OUT", package.parents[1] / "bundles")
    return package


def test_the_bundle_of_the_working_directory_precedes_the_shipped_one(installed: Path) -> None:
    """`./bundles/default` where it exists, also where it is broken, or else the wheel's."""
    assert installed / "default" == default_bundle()
    Path("bundles/default").mkdir(parents=True)
    assert Path("bundles/default") == default_bundle()


def test_a_wheel_without_bundles_says_how_to_name_one(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is taken from a folder of another project that lies next to the package."""
    monkeypatch.setattr(shipped, "PACKAGED", installed.parent / "nothing")
    stranger = shipped.CHECKED_OUT / "default"
    stranger.mkdir(parents=True)
    (stranger / "manifest.json").write_text("{}")

    assert {} == shipped_bundles()
    assert Path("bundles/default") == default_bundle()
    with pytest.raises(BundleError, match=r"holds no bundle: name one by --bundle or SEMSR_BUNDLE"):
        load_bundle(default_bundle())


def test_a_missing_bundle_names_those_of_the_installation(installed: Path) -> None:
    """A path that was given is taken as given; the message has what could be meant."""
    with pytest.raises(BundleError) as caught:
        load_bundle(Path("bundles/fast"))

    assert str(caught.value).startswith("bundles/fast is not a bundle: cannot read manifest.json")
    assert f"this installation holds {installed}/default, {installed}/fast" in str(caught.value)


def test_a_checkout_holds_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the command is run from another folder."""
    monkeypatch.chdir(tmp_path)

    assert {"default", "fast"} <= shipped_bundles().keys()
    assert ROOT / "bundles" / "default" == default_bundle()
