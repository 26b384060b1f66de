"""Packages that only some scans need, imported when one does."""

import importlib
from types import ModuleType

from service.scans.errors import MissingExtraError


def load_extra(module: str, *, purpose: str) -> ModuleType:
    """Import a module of the extra `scan`.

    Args:
        module: Its name.
        purpose: What needs it, for the message.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f"{purpose} needs the package {package} ({error}); install the extra: "
            "pip install 'semsr[scan]'"
        ) from error
