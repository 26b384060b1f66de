"""Describes problems of the settings for the operator, each in one line."""

import difflib
from collections.abc import Mapping
from typing import Any, cast

from pydantic import ValidationError

from service.settings import OTHER_VARIABLES, Settings, unknown_variables

PREFIX = "SEMSR_"
# Settings whose values must not be seen: a URL may hold a password.
_SECRETS = frozenset({"SEMSR_SCAN_DATABASE"})


def value_problems(error: ValidationError) -> list[str]:
    """Describe values that are out of bounds or cannot be read.

    Args:
        error: Error of `Settings()`.

    Returns:
        One line each: variable, problem, value, and the nearest valid value.
    """
    return [_value_problem(cast("dict[str, Any]", problem)) for problem in error.errors()]


def unknown_settings(environment: Mapping[str, str]) -> list[str]:
    """Describe unknown `SEMSR_…` variables.

    Args:
        environment: Variables and values, such as `os.environ`.

    Returns:
        One line each: variable, and the most similar known one.
    """
    known = sorted({f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | OTHER_VARIABLES)
    lines: list[str] = []
    for name in unknown_variables(environment):
        # Compared without the prefix, which makes all of them alike.
        short = [other.removeprefix(PREFIX) for other in known]
        nearest = difflib.get_close_matches(name.upper().removeprefix(PREFIX), short, n=1)
        hint = (
            f"did you mean {PREFIX}{nearest[0]}?"
            if nearest
            else "docs/configuration.md lists all settings"
        )
        lines.append(f"{name}: unknown setting; {hint}")
    return lines


def _value_problem(problem: dict[str, Any]) -> str:
    if not problem["loc"]:
        # Of several settings together; the text names them.
        return str(problem["msg"]).removeprefix("Value error, ")
    field = str(problem["loc"][0])
    name = PREFIX + field.upper()
    text = str(problem["msg"]).removeprefix("Value error, ")
    if name in _SECRETS:
        return f"{name}: {text}"
    found = problem["input"]
    hint = ""
    if problem["type"] == "literal_error" and isinstance(found, str):
        choices = str(problem["ctx"]["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        nearest = difflib.get_close_matches(found.lower(), choices, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"{name}: {text} (found {found!r}){hint}"
