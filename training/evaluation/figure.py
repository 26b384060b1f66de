"""Types that describe the report's figures and its sections."""

from dataclasses import KW_ONLY, dataclass


@dataclass(frozen=True)
class Figure:
    """One column of a table.

    Attributes:
        key: Key in the JSON.
        label: Title for people.
        meaning: One line of explanation.
        unit: Unit; empty for shares and ratios.
        digits: Digits behind the point.
        better: "high", "low", or the value to come close to.
    """

    key: str
    label: str
    meaning: str
    _: KW_ONLY
    unit: str = ""
    digits: int = 3
    better: str = "high"


@dataclass(frozen=True, kw_only=True)
class Section:
    """One table of the report.

    Attributes:
        key: Name, which pictures of the report refer to.
        title: Question that the table answers.
        about: Explanation of what was measured, in a sentence or two.
        figures: Columns of the table.
    """

    key: str
    title: str
    about: str
    figures: tuple[Figure, ...]
