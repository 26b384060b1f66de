"""Super-resolution of SEM tiles: `semsr.Upscaler` in Python, and the command line.

Importing this package loads nothing else; `Upscaler` and each subcommand load what they need.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semsr.upscaler import SrImage, Upscaler

__all__ = ["SrImage", "Upscaler"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a module's attributes have any type)
    if name in __all__:
        from semsr import upscaler

        return getattr(upscaler, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
