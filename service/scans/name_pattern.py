"""Facts of a tile from its name: lot, wafer, die and tool, by a pattern: `{lot}_W{wafer}_*`."""

import re

from service.ground.errors import BadRequest
from service.scans.facts import Facts

FIELDS = ("lot", "wafer", "die", "die_x", "die_y", "tool")
_WILDCARD = re.compile(r"\{([^{}]*)\}|\*")


class NamePattern:
    """A pattern of names.

    It is compared with the end of a tile's name without its suffix, from a folder on: as many
    folders as the pattern has. A field, or `*`, ends where the text after it first occurs, so that
    no name takes long to compare.
    """

    def __init__(self, pattern: str) -> None:
        """Read a pattern.

        Args:
            pattern: Text with `FIELDS` in braces, each at most once, and `*` for any text.

        Raises:
            BadRequest: It has no field, an unknown one, or two without a text between them.
        """
        self.pattern = pattern
        self._fields: list[str | None] = []
        # Text before the first field, and after each.
        self._texts: list[str] = []
        end = 0
        for found in _WILDCARD.finditer(pattern):
            self._texts.append(pattern[end : found.start()])
            self._fields.append(found.group(1))
            end = found.end()
        self._texts.append(pattern[end:])
        named = [field for field in self._fields if field is not None]
        shown = f"the name pattern {pattern!r}"
        if not named:
            raise BadRequest(f"{shown} has no field; expected one of {_names(FIELDS)}")
        if unknown := [field for field in named if field not in FIELDS]:
            raise BadRequest(f"{shown} has {_names(unknown)}; expected {_names(FIELDS)}")
        if len(set(named)) < len(named):
            raise BadRequest(f"{shown} has a field twice; expected each once")
        if any(text == "" for text in self._texts[1:-1]):
            raise BadRequest(f"{shown} has two fields side by side; expected a text between them")
        if ("die_x" in named) != ("die_y" in named) or {"die", "die_x"} <= set(named):
            raise BadRequest(f"{shown}; expected {{die}}, or {{die_x}} and {{die_y}}")

    def facts(self, stem: str) -> Facts | None:
        """Return the facts in a name, or None if it does not match.

        Args:
            stem: Name of a tile without its suffix.
        """
        parts = stem.split("/")
        num_parts = 1 + self.pattern.count("/")
        if len(parts) < num_parts:
            return None
        rest = "/".join(parts[-num_parts:])
        if not rest.startswith(self._texts[0]):
            return None
        rest = rest[len(self._texts[0]) :]
        facts: Facts = {}
        last = len(self._fields) - 1
        for index, (field, text) in enumerate(zip(self._fields, self._texts[1:], strict=True)):
            least = 0 if field is None else 1
            if index == last:
                end = len(rest) - len(text)
                if end < least or not rest.endswith(text):
                    return None
            else:
                end = rest.find(text, least)
                if end < 0:
                    return None
            if "/" in rest[:end]:
                return None
            if field is not None:
                facts[field] = rest[:end]
            rest = rest[end + len(text) :]
        if "die_x" in facts:
            facts["die"] = f"{facts.pop('die_x')},{facts.pop('die_y')}"
        return facts


def _names(fields: "tuple[str, ...] | list[str]") -> str:
    return ", ".join(f"{{{field}}}" for field in fields)
