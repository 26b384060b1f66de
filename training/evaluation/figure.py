"""What a figure of the report is, and the sections that figures stand in."""

from dataclasses import dataclass
from typing import Literal

Section = Literal["detection", "defects", "background", "edges", "gradients", "consistency", "cost"]

SECTIONS: dict[Section, tuple[str, str]] = {
    "detection": (
        "Are defects found, and is nothing else?",
        "A detector trained on simulated true HR alone looks at every picture, at a threshold "
        "fixed on true HR. Its score on true HR is the ceiling; bicubic shows the floor.",
    ),
    "defects": (
        "Is a defect still the same thing?",
        "Every planted defect against the true HR of the same scene.",
    ),
    "background": (
        "Is the background natural?",
        "Defect-free tiles against real HR of other scenes, scene kind by scene kind. The floor is "
        "what two halves of the reference differ by.",
    ),
    "edges": (
        "Are edges where they belong?",
        "Line scenes; edges against the noise-free truth, profiles averaged over 8 rows.",
    ),
    "gradients": (
        "What do the gradient maps say?",
        "Magnitude of central differences on grey 0 to 1; aim at the values of true HR.",
    ),
    "consistency": (
        "Does the picture still show the LR tile?",
        "The picture averaged to LR pixels against the LR tile, where that has structure. True HR "
        "itself does not reach 1: the LR tile has noise, lag and jitter.",
    ),
    "cost": ("What does a tile cost?", "One tile at batch 1."),
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One column of a table.

    Attributes:
        key: In the JSON.
        label: For people.
        section: The table.
        unit: Empty for shares and ratios.
        digits: Behind the point.
        better: high, low, or the value to come close to.
        meaning: One line.
    """

    key: str
    label: str
    section: Section
    unit: str = ""
    digits: int = 3
    better: str = "high"
    meaning: str = ""
