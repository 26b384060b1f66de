"""Reads small JSON bodies by a pydantic model; describes an invalid body in one sentence."""

import difflib
from collections.abc import Iterable, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

Order = TypeVar("Order", bound=BaseModel)

_MAX_SHOWN = 80
_MAX_FIELDS = 20


class JsonBodyError(ValueError):
    """A body that does not match its model; the message names the first field and its problem.

    Attributes:
        fields: All invalid fields, as `options.window`, and what is wrong with each.
    """

    def __init__(self, message: str, fields: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.fields = tuple(fields)


def parse_json(content: bytes, kind: type[Order]) -> Order:
    """Read a body without conversion of types: `"5"` is not a number, `1` is not true.

    Args:
        content: Bytes of the body.
        kind: Model of the body.

    Returns:
        The body.

    Raises:
        JsonBodyError: It is not JSON, or does not suit the model.
    """
    try:
        return kind.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise JsonBodyError(_explain(error, kind), _by_field(error)) from error


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of a message: the nearest known name, else all known names."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"expected {', '.join(names)}"


def _explain(error: ValidationError, kind: type[BaseModel]) -> str:
    """Describe one error of a body.

    An unknown field takes precedence over other errors. If its name is misspelt, pydantic also
    reports the correct field as missing.
    """
    found = error.errors(include_url=False)
    unknown = [one for one in found if one["type"] == "extra_forbidden"]
    if unknown:
        *parents, name = unknown[0]["loc"]
        where = "".join(f"{parent}." for parent in parents)
        hint = suggestion(str(name), _fields(kind, parents))
        return f"unknown field {f'{where}{name}'[:_MAX_SHOWN]!r}; {hint}"
    first = found[0]
    where = ".".join(str(part) for part in first["loc"]) or "the body"
    value = first["input"]
    shown = "" if isinstance(value, dict | bytes) else f" (found {value!r}"[:_MAX_SHOWN] + ")"
    return f"{where}: {first['msg']}{shown}"


def _by_field(error: ValidationError) -> list[tuple[str, str]]:
    return [
        (".".join(str(part) for part in one["loc"])[:_MAX_SHOWN], one["msg"])
        for one in error.errors(include_url=False)[:_MAX_FIELDS]
        if one["loc"]
    ]


def _fields(kind: type[BaseModel], parents: Sequence[int | str]) -> list[str]:
    """Return the names of the fields of a model, or of the nested model at a path."""
    for parent in parents:
        field = kind.model_fields.get(str(parent))
        inner = None if field is None else field.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        kind = inner
    return list(kind.model_fields)
