"""Training recipes: TOML files read into frozen pydantic models; the first step of every run.

Paths in a recipe are relative to a data root that the caller passes; nothing here reads the
environment. Precedence: overrides (`section.key=value`) over the file over the defaults.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast

from pydantic import Field, ValidationError, field_validator, model_validator

from training.config.degradation import DegradationConfig
from training.config.method import MethodConfig, SupervisedConfig
from training.config.pairs import PairsConfig
from training.config.problems import did_you_mean, problems
from training.config.section import Section

RECIPES = Path(__file__).parents[1] / "recipes"
GENERATOR_NAMES = ("grain_sr", "grain_unet", "lir", "rep_sr", "resnet9", "unet")
"""Keys of `models.GENERATORS`; here as well, since a recipe is checked before torch is loaded."""

REFERENCE_NETWORK_NAMES: tuple[str, ...] = ("lir_style", "masa")
"""Keys of `models.REFERENCE_NETWORKS`."""


class ConfigError(ValueError):
    """A recipe or override that cannot be read, with the field and what was expected."""


class GeneratorConfig(Section):
    """Which network is trained."""

    name: str = Field(default="rep_sr", description="registry name")
    hyper_parameters: dict[str, Any] = Field(default_factory=dict, description="its arguments")

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        names = (*GENERATOR_NAMES, *REFERENCE_NETWORK_NAMES)
        if name not in names:
            hint, known = did_you_mean(name, names), ", ".join(names)
            raise ValueError(f"unknown generator {name!r}{hint}; there are {known}")
        return name


class DataConfig(Section):
    """Which images are read, and which sources are kept out of training."""

    hr: list[str] = Field(
        default_factory=list,
        description="globs or folders of HR images, relative to the root; absent: those of pairs",
    )
    lr: list[str] = Field(
        default_factory=list,
        description="globs or folders of LR images, not aligned with the HR ones; absent: those of "
        "pairs",
    )
    pairs: list[PairsConfig] = Field(
        default_factory=list[PairsConfig], description="LR and HR images of the same places"
    )
    held_out_pairs: list[PairsConfig] = Field(
        default_factory=list[PairsConfig], description="pairs that are only evaluated"
    )
    index: str | None = Field(
        default=None, description="CSV naming each tile's source image: columns folder, file, src"
    )
    held_out_tiles: list[str] = Field(
        default_factory=list, description="globs; those whose source is held out are evaluated"
    )
    held_out_sources: list[str] = Field(
        default_factory=list, description="source images kept out of training with all their tiles"
    )
    excluded_sources: list[str] = Field(
        default_factory=list, description="source images neither trained nor evaluated on"
    )
    window: tuple[int, int] = Field(
        default=(0, 65535), description="16-bit grey levels that become 0 and 255"
    )
    max_rows_px: int | None = Field(
        default=None, ge=1, description="rows used from the top; below lies the data bar"
    )
    statement: str = Field(default="", description="what the data are, for the model card")
    credits: str = Field(default="", description="owner and licence, for the model card")
    licence: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9.+-]{0,64}$",
        description="SPDX id of the model's own licence, for the model card; empty for none",
    )


class ToolConfig(Section):
    """A further pair of folders: another tool or mode, degraded by ranges of its own."""

    name: str = Field(pattern=r"^[a-z0-9_-]{1,32}$", description="for files and descriptions")
    hr: list[str] = Field(min_length=1, description="as data.hr")
    lr: list[str] = Field(default_factory=list, description="as data.lr")
    degradation: DegradationConfig | Literal["estimate"] = Field(
        default="estimate", description="as the recipe's, for this tool's pseudo-pairs"
    )
    share: float = Field(
        gt=0, lt=1, description="of the pseudo-pairs; what all tools leave is the first's, of data"
    )


class OptimizationConfig(Section):
    """The loop: length, batch, optimiser, averaging."""

    steps: int = Field(default=6000, ge=1, description="optimiser steps")
    batch_size: int = Field(default=16, ge=1, description="crops a step")
    crop_px: int = Field(default=48, ge=8, description="side of a crop on the LR grid")
    crop_candidates: int = Field(
        default=1, ge=1, description="crops drawn for each one used: the one of most contrast"
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="peak of the cosine")
    final_learning_rate: float = Field(default=1e-5, gt=0, description="end of the cosine")
    schedule: Literal["cosine", "constant_then_linear", "halved_by_thirds"] = Field(
        default="cosine",
        description="after the warm-up; the second is constant for half the steps, the third is "
        "halved after each third of them",
    )
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="of Adam")
    warm_up_steps: int = Field(default=100, ge=0, description="linear rise from zero")
    gradient_clip: float = Field(default=0.5, ge=0, description="largest gradient norm; 0: none")
    ema_decay: float = Field(default=0.999, ge=0, lt=1, description="weight averaging a step")
    seed: int = Field(default=0, ge=0, description="weights, crops and degradations")
    threads: int = Field(default=2, ge=1, description="torch threads on the CPU")
    loader_workers: int = Field(
        default=0,
        ge=0,
        description="processes that make batches ahead, to the same bits in the same order; 0: the "
        "training process makes each batch when it needs it",
    )
    degrade_on_device: bool = Field(
        default=False,
        description="degrade HR crops where the network runs, with the same noise",
    )
    bank_images: int = Field(
        default=300, ge=1, description="HR images of a bank (--bank), about 1.8 MB each"
    )
    bank_seed: int = Field(
        default=0, ge=0, description="seed of a bank's content; runs of several seeds may share it"
    )
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="where the network runs")
    precision: Literal["fp32", "bf16", "auto"] = Field(
        default="fp32",
        description="bf16: mixed precision; weights and losses stay fp32. auto: bf16 on a "
        "processor or GPU that computes in it (where it was emulated, steps took 7 times as long)",
    )


class RunConfig(Section):
    """How often the run reports and saves."""

    log_every_steps: int = Field(default=25, ge=1, description="one line of stats.jsonl")
    checkpoint_every_steps: int = Field(default=250, ge=1, description="checkpoint and state")
    validate_every_steps: int = Field(
        default=500, ge=1, description="figures on held-out tiles, where there are any"
    )
    picture_every_steps: int = Field(
        default=500, ge=1, description="sample pictures and the curves so far"
    )
    tensorboard: bool = Field(default=False, description="also write events for TensorBoard")


class Recipe(Section):
    """One training run, complete: enough to repeat it on the same data."""

    name: str = Field(min_length=1, description="name of the model, shown in cards and answers")
    generator: GeneratorConfig = Field(default_factory=GeneratorConfig)
    data: DataConfig
    method: MethodConfig = Field(default_factory=SupervisedConfig)
    degradation: DegradationConfig | Literal["estimate"] = Field(
        default_factory=DegradationConfig,
        description='ranges, or "estimate": found from the LR and HR images when the run starts',
    )
    tools: list[ToolConfig] = Field(
        default_factory=list[ToolConfig],
        description="more tools than the one whose images are in `data`",
    )
    optimization: OptimizationConfig = Field(default_factory=OptimizationConfig)
    run: RunConfig = Field(default_factory=RunConfig)

    @property
    def scale(self) -> int:
        """Enlargement of the generator."""
        return int(self.generator.hyper_parameters.get("scale", 4))

    @model_validator(mode="after")
    def _sources_are_disjoint(self) -> Self:
        both = set(self.data.held_out_sources) & set(self.data.excluded_sources)
        if both:
            raise ValueError(f"sources both held out and excluded: {sorted(both)}")
        return self

    @model_validator(mode="after")
    def _data_suit_the_method(self) -> Self:
        data, needs = self.data, self.method.needs
        if "pairs" in needs and not data.pairs:
            raise ValueError("data.pairs is empty, but method needs pairs of LR and HR images")
        if not (data.hr or data.pairs):
            raise ValueError("data.hr is empty, but every method needs HR images (or data.pairs)")
        if not (data.lr or data.pairs) and ("lr" in needs or self.degradation == "estimate"):
            wanted = "method" if "lr" in needs else "degradation"
            raise ValueError(f"data.lr is empty, but {wanted} needs LR images")
        return self

    @model_validator(mode="after")
    def _tools_are_well_formed(self) -> Self:
        names = [tool.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise ValueError(f"tools of the same name: {names}")
        if sum(tool.share for tool in self.tools) >= 1:
            raise ValueError("the shares of the tools leave nothing to the images of data")
        blind = [t.name for t in self.tools if t.degradation == "estimate" and not t.lr]
        if blind:
            raise ValueError(
                f"tools without LR images, whose degradation is to be estimated: {blind}"
            )
        return self


def find_recipe(name: str) -> Path:
    """Return the path of a recipe: a file as named, else one of `training/recipes`.

    Args:
        name: A path, or the name of a shipped recipe such as `supervised`, with or without `.toml`
            and a leading `recipes/`.

    Raises:
        FileNotFoundError: Neither exists; the message lists the shipped ones.
    """
    shipped = RECIPES / Path(name).name
    for path in (Path(name), shipped, shipped.with_name(f"{shipped.name}.toml")):
        if path.is_file():
            return path
    known = sorted(path.stem for path in RECIPES.glob("*.toml"))
    hint = did_you_mean(Path(name).name.removesuffix(".toml"), known)
    raise FileNotFoundError(f"no recipe {name!r}{hint}; shipped ones are: {', '.join(known)}")


def load_recipe(path: Path, *, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        path: TOML file.
        overrides: `section.key=value`; the value is read as TOML, and as plain text where it is
            not valid TOML.

    Raises:
        FileNotFoundError: The file does not exist.
        ConfigError: Not TOML, an unknown field, a value out of bounds, or a malformed override.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no recipe at {path}")
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    for override in overrides:
        _apply_override(document, override)
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(problems(error, Recipe))) from error


def _apply_override(document: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"an override is section.key=value, got {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table: dict[str, Any] = document
    for part in parts[:-1]:
        section: Any = table.setdefault(part, {})
        if not isinstance(section, dict):
            raise ConfigError(f"override {override!r}: {part!r} is a value, not a section")
        table = cast("dict[str, Any]", section)
    table[parts[-1]] = value
