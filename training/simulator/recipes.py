"""Content of a tile: a kind of scene and kinds of defects, given by name or drawn at random."""

from dataclasses import dataclass

import numpy as np

from training.simulator.defects.registry import DEFECTS, GROUPS, Group, fitting_kinds
from training.simulator.scenes.registry import SCENES


@dataclass(frozen=True)
class TileRecipe:
    """Content of one tile.

    Attributes:
        scene: Key of `SCENES`.
        defects: Keys of `DEFECTS`, in the order in which they are planted.
        can_substitute: Whether a kind that finds no place in the scene as drawn may give way to
            another that fits the scene, of the same group if there is one.
    """

    scene: str
    defects: tuple[str, ...] = ()
    can_substitute: bool = False

    @property
    def label(self) -> str:
        """Name for files: the scene and each kind of defect once."""
        return "_".join((self.scene, *dict.fromkeys(self.defects)))


RECIPES = (
    TileRecipe("dense_lines"),
    TileRecipe("iso_lines"),
    TileRecipe("dense_holes"),
    TileRecipe("sparse_holes", ("missing_hole",)),
    TileRecipe("blank_film"),
    TileRecipe("dense_lines", ("bridge",)),
    TileRecipe("iso_lines", ("break",)),
    TileRecipe("dense_lines", ("particle",)),
)
"""The order in which loose tiles are made; it starts again after the last."""


def draw_recipe(
    rng: np.random.Generator,
    *,
    defects: tuple[int, int] = (3, 6),
    scene: str | None = None,
    groups: tuple[Group, ...] = GROUPS,
) -> TileRecipe:
    """Draw a scene and defects that fit it.

    Args:
        rng: Source of the draw.
        defects: Least and greatest number of defects, both included.
        scene: Key of `SCENES`; None draws one.
        groups: Groups of kinds to draw from.

    Returns:
        A recipe whose kinds may be replaced by others. Groups have equal chances; within a group,
        fitting kinds are more likely the fewer scenes take them.

    Raises:
        ValueError: The numbers of defects are not in order.
    """
    least, most = defects
    if not 0 <= least <= most:
        raise ValueError(f"expected 0 <= least <= most number of defects, got {defects}")
    if scene is None:
        names = tuple(SCENES)
        scene = names[int(rng.integers(len(names)))]
    count = int(rng.integers(least, most + 1))
    kinds = []
    for _ in range(count):
        fitting = fitting_kinds(scene, groups[int(rng.integers(len(groups)))])
        # Kinds that few scenes take become as frequent overall as kinds that every scene takes.
        weights = np.array([1 / len(DEFECTS[kind].scenes) for kind in fitting])
        kinds.append(str(rng.choice(fitting, p=weights / weights.sum())))
    return TileRecipe(scene, tuple(kinds), can_substitute=True)


def substitutes(scene: str, kind: str) -> tuple[str, ...]:
    """Return what may stand in for a kind: others that fit the scene, of its group first.

    Unknown kinds stand in for each other only.
    """
    group = DEFECTS[kind].group
    alike = [other for other in fitting_kinds(scene, group) if other != kind]
    if group not in GROUPS:
        return tuple(alike)
    rest = [other for other in fitting_kinds(scene) if other != kind and other not in alike]
    return (*alike, *rest)
