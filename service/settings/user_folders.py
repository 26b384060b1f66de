"""The user's folders for the defaults of settings; None if the user has no home folder."""

import os
from pathlib import Path


def user_cache_dir(*parts: str) -> Path | None:
    """Return semsr's cache folder, or a folder in it."""
    return _user_dir("XDG_CACHE_HOME", ".cache", *parts)


def user_state_dir(*parts: str) -> Path | None:
    """Return the folder of semsr's persistent state, or a folder in it."""
    return _user_dir("XDG_STATE_HOME", ".local/state", *parts)


def _user_dir(variable: str, default: str, *parts: str) -> Path | None:
    base = os.environ.get(variable)
    try:
        return (Path(base) if base else Path.home() / default).joinpath("semsr", *parts)
    except RuntimeError:
        return None
