"""Super-resolution of SEM tiles: `semsr.Upscaler` in Python, and the command line.

Importing this package loads nothing else; `Upscaler` and each subcommand load what they need.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semsr.upscaler import Upscaler

__all__ = ["Upscaler"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a module's attributes have any type)
    if name == "Upscaler":
        from semsr.upscaler import Upscaler

        return Upscaler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
