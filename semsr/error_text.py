"""Error messages for people: the thing, the value and the expectation, without class or errno."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

# Packages of the extras train and export; all others are installed with the service.
_DEVELOPMENT = {
    "jinja2",
    "matplotlib",
    "onnx",
    "onnxscript",
    "safetensors",
    "scipy",
    "skimage",
    "tifffile",
    "torch",
}


def error_text(error: BaseException, *, about: Path | None = None) -> str:
    """Write an error's message.

    Args:
        error: The error.
        about: File that the caller already names, so that an OSError need not repeat it.

    Returns:
        One text, never empty; `OSError`s as `PATH: No such file or directory`.
    """
    if isinstance(error, OSError) and error.strerror:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        if names and (about is None or names != [str(about)]):
            return f"{' -> '.join(names)}: {error.strerror}"
        return error.strerror
    return str(error) or type(error).__name__


@contextlib.contextmanager
def last_words() -> Iterator[None]:
    """On an error, write its message as the last line of stderr, and exit the child process."""
    try:
        yield
    except Exception as error:
        sys.stderr.write(f"{' '.join(error_text(error).splitlines())}\n")
        sys.exit(1)


def printable(name: object) -> str:
    r"""Escape a path or text for UTF-8: invalid bytes of a file name become `\xff`."""
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def missing_package(error: ImportError) -> str:
    """Name the missing package and how to install it."""
    from engines.installation import install_hint

    package = (error.name or "").partition(".")[0]
    if package in _DEVELOPMENT:
        return f"this needs the package {package}, which is not installed; {install_hint('train')}"
    return f"{error}; {install_hint('base')}"
