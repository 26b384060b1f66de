"""Problems of a recipe in words for people: pydantic's findings, the nearest known keys."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint at the nearest known word, to be added to an error; empty if none is near."""
    nearest = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def problems(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """Describe each finding of pydantic: the key as the file has it, and what was expected.

    Args:
        error: Findings.
        root: Model of the whole file.
    """
    found = [_Finding(item, root) for item in error.errors()]
    # Of a choice between a section and a word, a section that was given is not a wrong word.
    in_sections = {item.name.split(".")[0] for item in found if "." in item.name}
    return [str(item) for item in found if not (item.is_word and item.name in in_sections)]


class _Finding:
    """One of pydantic's findings.

    Attributes:
        name: Key as the file has it, such as `optimization.steps`; `recipe` for the whole.
        is_word: Whether one fixed word was expected.
    """

    def __init__(self, item: Any, root: type[BaseModel]) -> None:  # noqa: ANN401 - pydantic's TypedDict is not importable at run time
        self._item, self._root = item, root
        self._sections: list[type[BaseModel]] = [root]
        parts = self._follow(item["loc"])
        self.name = ".".join(parts) or "recipe"
        self.is_word = item["type"] == "literal_error"

    def __str__(self) -> str:
        context = self._item.get("ctx", {})
        match self._item["type"]:
            case "extra_forbidden":
                return f"unknown key {self.name}{self._nearest_key()}"
            case "union_tag_invalid":
                names = [name.strip("'") for name in context["expected_tags"].split(", ")]
                hint = did_you_mean(str(context["tag"]), names)
                return (
                    f"{self.name}.name: unknown {self.name} {context['tag']!r}{hint}; there are "
                    f"{', '.join(names)}"
                )
            case "union_tag_not_found":
                return f"{self.name}.name is missing: it says which {self.name} the keys are of"
            case _:
                return f"{self.name}: {self._item['msg'].removeprefix('Value error, ')}"

    def _follow(self, location: Sequence[int | str]) -> list[str]:
        """Walk down a path of pydantic's; returns it without what only pydantic adds.

        Where there is a choice of kinds, pydantic names the one that it tried: by its class, by the
        `name` that picks it, or as `literal[…]`. No file says that.
        """
        parts: list[str] = []
        for place, part in enumerate(location):
            kinds = [kind for kind in self._sections if part in _names(kind)]
            if isinstance(part, str) and (kinds or part.startswith("literal[")):
                self._sections = kinds
                continue
            parts.append(str(part))
            if isinstance(part, int) or place == len(location) - 1:
                continue
            self._sections = [
                inner
                for section in self._sections
                if part in section.model_fields
                for inner in _sections_in(section.model_fields[part].annotation)
            ]
        return parts

    def _nearest_key(self) -> str:
        key = self.name.split(".")[-1]
        known = [name for section in self._sections[:1] for name in section.model_fields]
        if hint := did_you_mean(key, known):
            return hint
        # A key of another section, such as `steps` at the top.
        for place in _all_keys(self._root):
            if place.split(".")[-1] == key and place != self.name:
                return f"; did you mean {place}?"
        return f"; there are {', '.join(known)}" if known else ""


def _names(section: type[BaseModel]) -> set[Any]:
    """Return what pydantic may call a kind: its class's name, and the `name` that picks it."""
    name = section.model_fields.get("name")
    return {section.__name__, *get_args(None if name is None else name.annotation)}


def _sections_in(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401 - any annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections_in(part)]


def _all_keys(section: type[BaseModel]) -> Iterator[str]:
    """Yield the full name of every key below a section; not those of lists of sections."""
    for name, field in section.model_fields.items():
        yield name
        if get_origin(field.annotation) is not list:
            for part in _sections_in(field.annotation):
                yield from (f"{name}.{key}" for key in _all_keys(part))
