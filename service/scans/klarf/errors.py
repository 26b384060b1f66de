"""The error of a malformed KLARF file."""

from service.scans.errors import ScanError


class KlarfError(ScanError):
    """A KLARF file is malformed or exceeds a limit.

    Attributes:
        line: Number of the line, from 1.
        found: The malformed part, or its description.
        expected: Description of a valid part.
    """

    def __init__(self, *, line: int, found: str, expected: str) -> None:
        super().__init__(f"line {line}: found {found}; expected {expected}")
        self.line = line
        self.found = found
        self.expected = expected
