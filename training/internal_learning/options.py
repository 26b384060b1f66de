"""Options of internal learning, and their presets; no torch, so that a command can check them.

The published run is 3,000 steps of one 128 px crop. Everything below that, or with fewer views of
the tile at the end, is *short*: the output folder and the reports that read it say so.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from training.config.section import Section

PUBLISHED_STEPS = 3000
PUBLISHED_CROP_PX = 128
PUBLISHED_VIEWS = {"ideal": 8, "measured": 4}
MIN_SIDE_PX = 32
"""Least side of a tile: the kernel that shrinks it by four spans 17 pixels."""

SCALES = {"2": (2,), "4": (4,), "2,4": (2, 4)}
"""Values of `--scales`."""


class OptionsError(ValueError):
    """An option is out of its range, or two options contradict each other."""


class Options(Section):
    """Everything but its tile that a picture depends on."""

    configuration: Literal["measured", "ideal"] = Field(
        default="measured",
        description="name of the preset that the other fields started from, for the record",
    )
    scales: tuple[int, ...] = Field(
        default=(4,), description="enlargements in turn; each starts from the result of the last"
    )
    steps: int = Field(
        default=PUBLISHED_STEPS,
        ge=1,
        description="greatest number of steps of each enlargement; of fewer than published, the "
        "last have lower learning rates",
    )
    crop_px: int = Field(
        default=PUBLISHED_CROP_PX,
        ge=MIN_SIDE_PX,
        description="side of the crop of a step, in pixels",
    )
    layers: int = Field(
        default=8,
        ge=3,
        description="convolutions: 8 in the published code, 10 if the thesis's 8 are hidden ones",
    )
    width: int = Field(default=64, ge=1, description="channels of the hidden layers")
    draw: Literal["size", "scale"] = Field(
        default="size",
        description="choice among several fathers: by their area (paper, thesis) or by a scale "
        "drawn evenly (published code)",
    )
    start_rate: float = Field(default=1e-3, gt=0, description="learning rate of the first step")
    stop: float = Field(
        default=9e-6,
        gt=0,
        description="learning rate below which an enlargement ends: 9e-6 in the published code, "
        "1e-6 in the thesis",
    )
    noise: Literal["none", "measured"] = Field(
        default="measured",
        description="noise of the sons: none, or the noise that shrinking took from the father",
    )
    min_scale: float = Field(
        default=1.0, gt=0.25, le=1, description="least scale of a drawn father; 1: never shrunk"
    )
    turns: bool = Field(default=False, description="whether fathers and views are rotated")
    shape_sigma: float = Field(
        default=0.0, ge=0, description="deviation of the log ratio of a father's two scales"
    )
    shear_sigma: float = Field(default=0.0, ge=0, description="deviation of a father's shear")
    views: Literal[1, 4, 8] = Field(
        default=4,
        description="versions of the tile whose results' median is taken: the tile itself, its "
        "mirror images, or also the rotated ones",
    )
    back_projections: int = Field(
        default=0, ge=0, description="corrections of a result by the tile, for each view and last"
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32",
        description="type that the convolutions compute in; weights and their changes are FP32",
    )
    seed: Annotated[int, Field(ge=0)] = Field(
        default=0, description="start of all random numbers, with the tile's own pixels"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.scales not in SCALES.values():
            raise ValueError(f"scales are {self.scales}, expected one of {list(SCALES.values())}")
        if self.stop >= self.start_rate:
            raise ValueError(
                f"stop is {self.stop}, expected less than the start rate {self.start_rate}"
            )
        if self.views == 8 and not self.turns:
            raise ValueError("8 views rotate the tile, which needs turns in training")
        return self

    @property
    def factors(self) -> tuple[int, ...]:
        """Enlargement of each stage relative to the stage before it."""
        before = (1, *self.scales[:-1])
        return tuple(now // last for now, last in zip(self.scales, before, strict=True))

    @property
    def scale(self) -> int:
        """Enlargement of the final picture."""
        return self.scales[-1]

    @property
    def is_short(self) -> bool:
        """Whether less is computed than published."""
        return (
            self.steps < PUBLISHED_STEPS
            or self.crop_px < PUBLISHED_CROP_PX
            or self.views < PUBLISHED_VIEWS[self.configuration]
        )

    @property
    def summary(self) -> str:
        """Words for a report: the method, and by how much a short run is short."""
        scales = " then ".join(f"x{scale}" for scale in self.scales)
        text = f"ZSSR {scales}, {self.configuration} configuration"
        if not self.is_short:
            return text
        share = self.steps / PUBLISHED_STEPS * (self.crop_px / PUBLISHED_CROP_PX) ** 2
        percent = 100 * min(share, 1.0)
        training = f"{percent:.0f}" if percent >= 1 else f"{percent:.1g}"
        return (
            f"{text}; short: {training} % of the published training, {self.views} of "
            f"{PUBLISHED_VIEWS[self.configuration]} views"
        )


MEASURED: dict[str, Any] = {}
"""Noisy tiles, as the published code's settings for real images: the defaults of `Options`."""

IDEAL: dict[str, Any] = {
    "noise": "none",
    "min_scale": 0.5,
    "turns": True,
    "shape_sigma": 0.25,
    "shear_sigma": 0.1,
    "views": 8,
    "back_projections": 10,
}
"""Noise-free tiles that were shrunk by the cubic: the paper's settings, which the thesis used."""

SHORT: dict[str, Any] = {"steps": 600, "crop_px": 64, "views": 1}
"""For processors: a twentieth of the training, one view."""

CONFIGURATIONS = {"measured": MEASURED, "ideal": IDEAL}


def make_options(configuration: str, *, is_short: bool = False, **changes: Any) -> Options:
    """Return a preset with changes; a change of None keeps the preset's value.

    Raises:
        OptionsError: A value is out of its range, or two contradict each other.
    """
    values = {
        "configuration": configuration,
        **CONFIGURATIONS[configuration],
        **(SHORT if is_short else {}),
        **{name: value for name, value in changes.items() if value is not None},
    }
    try:
        return Options(**values)
    except ValidationError as error:
        lines = [
            ": ".join([*map(str, item["loc"]), item["msg"].removeprefix("Value error, ")])
            for item in error.errors()
        ]
        raise OptionsError("; ".join(lines)) from error
