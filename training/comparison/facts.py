"""Facts of the compared systems that no measurement shows: training, needs, ways of use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training.comparison.plan import PlannedRun
from training.comparison.systems import System
from training.config.recipe import ConfigError
from training.data.picture_folder import read_facts
from training.run.trained import facts_of_training, trained_on


@dataclass(frozen=True, kw_only=True)
class SystemFacts:
    """Facts of one system.

    Attributes:
        name: Name of the system.
        kind: Kind of the system, see `systems.Kind`.
        trained_on: Images that it was trained on, in words; empty where unknown.
        offline: Reason why it can be neither exported nor served; empty where it can.
        summary: Further facts in words; may be empty.
        plan: Training of this comparison; None for finished models and pictures.
        is_short: Whether it was trained less than its recipe says, or as another network.
    """

    name: str
    kind: str
    trained_on: str = ""
    offline: str = ""
    summary: str = ""
    plan: PlannedRun | None = None
    is_short: bool = False


def facts_of(
    systems: Sequence[System], plan: Sequence[PlannedRun], *, left_out: Mapping[str, str]
) -> list[SystemFacts]:
    """Collect the facts of all systems.

    Args:
        systems: Systems.
        plan: Planned runs of the recipes.
        left_out: Reasons of systems that cannot be judged on LR tiles alone.

    Raises:
        PicturesError: The facts of a folder of pictures are malformed or of an unknown version.
        ConfigError: A checkpoint cannot be read.
    """
    planned = {entry.name: entry for entry in plan}
    return [_facts(s, planned.get(s.name), offline=left_out.get(s.name, "")) for s in systems]


def _facts(system: System, planned: PlannedRun | None, *, offline: str) -> SystemFacts:
    if system.kind == "pictures" and (found := read_facts(system.path)) is not None:
        return SystemFacts(name=system.name, kind=system.kind, **found.model_dump())
    if system.kind == "checkpoint":
        return _of_checkpoint(system)
    if system.kind != "recipe":
        return SystemFacts(name=system.name, kind=system.kind)
    return SystemFacts(
        name=system.name,
        kind=system.kind,
        trained_on=trained_on(system.recipe()),
        offline=offline,
        plan=planned,
        is_short=planned is None or planned.is_short,
    )


def _of_checkpoint(system: System) -> SystemFacts:
    # Torch, which only a comparison with checkpoints needs while arguments are checked.
    from models import CheckpointError, read_info

    try:
        training = read_info(system.path).training
    except CheckpointError as error:
        raise ConfigError(f"{system.name}: {error}") from error
    found = facts_of_training(training, summary=str(training.get("name", "")), offline="")
    return SystemFacts(name=system.name, kind=system.kind, **found.model_dump())
