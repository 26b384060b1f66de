"""The tool that made an image, as a label of metrics: checked, and bounded in number."""

import re

UNKNOWN = "unknown"
"""Label of images whose tool is not stated."""
OTHER = "other"
"""Label of the tools beyond the limit."""
MAX_CHARACTERS = 64
PATTERN = rf"[A-Za-z0-9][A-Za-z0-9 ._:/+-]{{0,{MAX_CHARACTERS - 1}}}"
"""Names of tools that a client may state."""

_OTHERS = re.compile(r"[^A-Za-z0-9 ._:/+-]")


def tool_of(fact: object) -> str | None:
    """Return the tool in a fact of a tile as a label; None where none is stated.

    Facts come from files of other programs, and a tile must not fail because of them: other
    characters become `_`, and the text is cut.
    """
    if fact is None:
        return None
    text = _OTHERS.sub("_", str(fact).strip())[:MAX_CHARACTERS].strip()
    return text or None


class ToolLabels:
    """Gives the first tools labels of their own; used on the event loop.

    Each label of a model adds about 70 series, so their number is limited over all models of the
    process.
    """

    def __init__(self, limit: int) -> None:
        """Begin without tools.

        Args:
            limit: Maximum number of tools with a label of their own, counted for each model.
        """
        self._limit = limit
        self._known: set[tuple[str, str]] = set()

    def label(self, model: str, tool: str | None) -> str:
        """Return the label of a tool's images of a model."""
        if tool is None:
            return UNKNOWN
        pair = model, tool
        if pair not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known.add(pair)
        return tool
