"""Packages that only some scans need, imported on demand."""

import importlib
import importlib.util
from types import ModuleType

from engines.installation import install_hint
from service.scans.errors import MissingExtraError


def is_installed(module: str) -> bool:
    """Whether a module of an extra can be found; it is not imported."""
    return importlib.util.find_spec(module) is not None


def load_extra(module: str, *, purpose: str, extra: str = "scan") -> ModuleType:
    """Import a module of an extra.

    Args:
        module: Name of the module.
        purpose: Purpose, for the message.
        extra: Extra that installs it.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f"{purpose} needs the package {package} ({error}); {install_hint(extra)}"
        ) from error
