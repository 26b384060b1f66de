"""Hints how to install a missing package, adapted to this installation.

In a checkout, the Makefile installs extras from their locks. Elsewhere (an image, the archive for
machines without network, a wheel) extras come from the same place as the installation. The project
publishes `semsr` on no package index, so no hint asks pip for that name alone.
"""

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
"""Folder that this package lies in; a checkout has the Makefile there."""

LOCKED_EXTRAS = ("openvino", "postgres", "rtx", "scan", "tracing")
"""Extras that `make install EXTRAS=…` installs into the serving environment."""


def install_hint(extra: str, *, checkout: Path = CHECKOUT) -> str:
    """Return a hint how to install an extra.

    Args:
        extra: Name of an extra of pyproject.toml, or `base` for what serving itself needs.
        checkout: Folder to look for a checkout in.

    Returns:
        A clause such as `install the extra scan: make install EXTRAS=scan`.
    """
    if extra == "base":
        return "it is a base dependency, so this installation is damaged: install again"
    if extra == "gpu":
        return (
            "the extra gpu comes from its vendors' channels: docker build --target gpu, or "
            "docs/engines.md"
        )
    if not (checkout / "Makefile").is_file():
        if extra == "train":
            return "the wheel holds what serves: in a checkout of semsr, make install-dev"
        return (
            f"this installation lacks the extra {extra}; in a checkout of semsr: "
            f"{sys.executable} -m pip install '.[{extra}]', or make the image or the archive with "
            "it (docs/operations.md)"
        )
    if extra in LOCKED_EXTRAS:
        return f"install the extra {extra}: make install EXTRAS={extra}"
    if extra == "ray":
        return "its environment has it: make install-ray, then .venv-ray/bin/semsr"
    return "the development environment has it: make install-dev, then .venv-dev/bin/semsr"
