"""The facts of an image from the defects that name it in a KLARF file."""

from service.scans.facts import Facts
from service.scans.klarf.defects import Defect

# Defects of an image whose facts are kept; an image of a whole die may have thousands.
_MOST_DEFECTS = 100


def add_facts(facts: Facts, defect: Defect) -> None:
    """Add the facts of a defect to those of an image.

    Args:
        facts: Facts of the image; wafer and die are those of its first defect.
        defect: A defect that names it.
    """
    defects: list[Facts] = facts.setdefault("defects", [])
    if len(defects) < _MOST_DEFECTS:
        own = {
            "id": defect.id,
            "row": defect.row,
            "class": defect.class_name or defect.class_number,
            "x_rel_nm": defect.x_rel_nm,
            "y_rel_nm": defect.y_rel_nm,
            "size_nm": defect.size_nm,
        }
        defects.append({name: value for name, value in own.items() if value is not None})
    if len(defects) > 1:
        facts["num_defects"] = facts.get("num_defects", 1) + 1
        return
    wafer = defect.wafer
    known = {
        "lot": wafer.lot,
        "wafer": wafer.wafer,
        "die": defect.die,
        "tool": wafer.tool,
        "slot": wafer.slot,
        "device": wafer.device,
        "step": wafer.step,
        "recipe": wafer.recipe,
    }
    facts |= {name: value for name, value in known.items() if value is not None}
