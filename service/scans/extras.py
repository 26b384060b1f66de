"""Packages that only some scans need, imported when one does."""

import importlib
from types import ModuleType

from service.installation import install_hint
from service.scans.errors import MissingExtraError


def load_extra(module: str, *, purpose: str, extra: str = "scan") -> ModuleType:
    """Import a module of an extra.

    Args:
        module: Its name.
        purpose: What needs it, for the message.
        extra: The extra that has it.

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
