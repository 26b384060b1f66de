"""The facts of an image from the defects that name it in a KLARF file."""

from collections.abc import Sequence

from service.scans.facts import Facts
from service.scans.klarf.defects import Defect

MOST_DEFECTS = 100
"""Number of defects whose facts an image gets; an image of a whole die may have thousands."""


def image_facts(defects: Sequence[Defect], num_defects: int) -> Facts:
    """Return the facts of an image.

    Args:
        defects: First defects that name it; wafer and die are those of the first one.
        num_defects: Number of all defects that name it.
    """
    first, wafer = defects[0], defects[0].wafer
    facts: Facts = {
        "lot": wafer.lot,
        "wafer": wafer.wafer,
        "die": first.die,
        "tool": wafer.tool,
        "slot": wafer.slot,
        "device": wafer.device,
        "step": wafer.step,
        "recipe": wafer.recipe,
        "defects": [_defect_facts(defect) for defect in defects],
        "num_defects": num_defects if num_defects > 1 else None,
    }
    return _known(facts)


def _defect_facts(defect: Defect) -> Facts:
    facts: Facts = {
        "id": defect.id,
        "row": defect.row,
        "class": defect.class_number if defect.class_name is None else defect.class_name,
        "x_rel_nm": defect.x_rel_nm,
        "y_rel_nm": defect.y_rel_nm,
        "size_nm": defect.size_nm,
    }
    return _known(facts)


def _known(facts: Facts) -> Facts:
    return {name: value for name, value in facts.items() if value is not None}
