"""The bundles that come with an installation, and the bundle that is used when none is named.

A wheel holds them as data of this package; a checkout has them in its folder `bundles`.
"""

from pathlib import Path

NEARBY_DEFAULT = Path("bundles/default")
"""Bundle of the working directory, which precedes the shipped one."""

PACKAGED = Path(__file__).resolve().parent / "bundles"
"""Folder of the shipped bundles in a wheel."""

CHECKED_OUT = Path(__file__).resolve().parents[1] / "bundles"
"""Folder of the shipped bundles in a checkout."""


def shipped_bundles() -> dict[str, Path]:
    """Return the folders of the shipped bundles by name, in the order of their names.

    Empty where the installation holds none, such as a wheel that was built without them.
    """
    # In site-packages, a folder next to this package could be another project's.
    is_checkout = (CHECKED_OUT.parent / "pyproject.toml").is_file()
    for folder in (PACKAGED, *([CHECKED_OUT] if is_checkout else [])):
        found = sorted(path.parent for path in folder.glob("*/manifest.json"))
        if found:
            return {path.name: path for path in found}
    return {}


def default_bundle() -> Path:
    """Return the bundle that is used when neither an option nor a setting names one.

    Returns:
        `bundles/default` of the working directory if it exists, or else the shipped `default`. If
        neither exists, the path of the first, which `load_bundle` refuses with a hint.
    """
    if NEARBY_DEFAULT.exists():
        return NEARBY_DEFAULT
    return shipped_bundles().get("default", NEARBY_DEFAULT)


def bundle_hint() -> str:
    """Return the end of an error about a missing bundle: which exist, or how to name one."""
    shipped = ", ".join(str(path) for path in shipped_bundles().values())
    if shipped:
        return f"this installation holds {shipped}"
    return "this installation holds no bundle: name one by --bundle or SEMSR_BUNDLE"
