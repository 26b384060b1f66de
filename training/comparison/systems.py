"""Systems of a comparison: recipes to train, and finished models or pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.config.recipe import ConfigError, Recipe, find_recipe, load_recipe

Kind = Literal["recipe", "checkpoint", "bundle", "pictures"]

TAKEN = ("bicubic", "bicubic + histogram match", "true HR")
"""Names of the evaluation's own rows; here as well, since systems are read before torch is."""


@dataclass(frozen=True, kw_only=True)
class System:
    """One row of the comparison.

    Attributes:
        name: Name in the report; unique.
        kind: Kind of the path.
        path: Recipe (TOML), checkpoint, folder of a bundle, or folder of finished pictures.
        overrides: Changes to the recipe, `section.key=value`.
    """

    name: str
    kind: Kind
    path: Path
    overrides: tuple[str, ...] = ()

    def recipe(self, *, overrides: Sequence[str] = ()) -> Recipe:
        """Load the recipe with its overrides, and with further ones."""
        return load_recipe(self.path, overrides=[*self.overrides, *overrides])

    def published(self) -> Recipe:
        """Load the recipe as it is in its file."""
        return load_recipe(self.path)


def parse_system(
    text: str, *, for_all: Sequence[str], by_name: Sequence[tuple[str, str]]
) -> System:
    """Read `RECIPE`, `NAME=RECIPE`, `NAME=CHECKPOINT`, `NAME=BUNDLE` or `NAME=PICTURES`.

    Args:
        text: Argument.
        for_all: Overrides of every recipe.
        by_name: Names of systems and overrides of theirs.

    Raises:
        ConfigError: The text names nothing, or a finished model without a name.
        FileNotFoundError: No such file, folder or recipe.
    """
    name, given, value = text.partition("=")
    if not given:
        name, value = Path(text).stem, text
    if not (name and value):
        raise ConfigError(f"{text!r} names no system; expected RECIPE or NAME=PATH")
    if Path(name).name != name or name in TAKEN:  # it names folders and rows
        raise ConfigError(
            f"{text!r} has the name {name!r}; expected a name without slashes, other than "
            + ", ".join(TAKEN)
        )
    path = Path(value)
    if path.is_dir():
        kind: Kind = "bundle" if (path / "manifest.json").is_file() else "pictures"
    elif path.suffix == ".safetensors":
        kind = "checkpoint"
    else:
        kind, path = "recipe", find_recipe(value)
    if kind == "checkpoint" and not path.is_file():
        raise FileNotFoundError(f"{name}: no checkpoint at {path}")
    if kind != "recipe" and not given:
        raise ConfigError(f"{text!r} has no name; expected NAME={text}")
    own = tuple(override for of, override in by_name if of == name)
    if own and kind != "recipe":
        raise ConfigError(f"{name} is not a recipe, so that {own[0]!r} cannot change it")
    return System(
        name=name,
        kind=kind,
        path=path,
        overrides=(*for_all, *own) if kind == "recipe" else (),
    )


def parse_systems(texts: Sequence[str], overrides: Sequence[str]) -> list[System]:
    """Read the systems of a comparison, and the overrides of some or all recipes.

    Args:
        texts: Arguments, see `parse_system`.
        overrides: `section.key=value` for every recipe, or `NAME:section.key=value` for one.

    Raises:
        ConfigError: A text names nothing, two systems have one name, or an override names none.
        FileNotFoundError: No such file, folder or recipe.
    """
    for_all, by_name = [], []
    for override in overrides:
        name, given, rest = override.partition(":")
        if given and "=" not in name:
            by_name.append((name, rest))
        else:
            for_all.append(override)
    systems = [parse_system(text, for_all=for_all, by_name=by_name) for text in texts]
    names = [system.name for system in systems]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two systems are called {name!r}: give one another name (NAME=PATH)")
    for name, override in by_name:
        if name not in names:
            raise ConfigError(
                f"the override {name}:{override} names no system; there are {', '.join(names)}"
            )
    return systems


def changed_network(system: System) -> list[str]:
    """List the overrides that change a recipe's network, such as its width."""
    return [text for text in system.overrides if text.startswith("generator.")]
