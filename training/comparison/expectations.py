"""The thesis's verdicts on its systems, as claims on figures that a comparison can check.

Source: Chakraborty 2022; the claims are read from its text, which has no numbers, so that each
names the figure that stands for its words.
"""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from training.comparison.verdicts import advantage_of
from training.config.section import Section
from training.evaluation.compared.methods import TRUE_HR
from training.evaluation.figures import BY_KEY
from training.evaluation.judging.bootstrap import Interval
from training.evaluation.judging.summary import MethodSummary

FILE = Path(__file__).with_name("expectations.toml")
Status = Literal["confirmed", "refuted", "not decided"]


class Claim(Section):
    """One figure of a system against the same of another."""

    figure: str = Field(description="key of the figure")
    than: str = Field(description="name of the other system or of a built-in method")
    is_: Literal["better", "worse", "near"] = Field(alias="is")
    within: float = Field(default=0.0, ge=0, description="for near: the largest difference")

    @model_validator(mode="after")
    def _near_has_a_direction(self) -> Self:
        # The advantage is the difference itself only where more, or less, is better.
        if self.is_ == "near" and BY_KEY[self.figure].better not in {"high", "low"}:
            raise ValueError(f"'near' is of figures that should be high or low, not {self.figure}")
        return self


class Expectation(Section):
    """One verdict of the thesis."""

    system: str = Field(description="name of the system")
    thesis: str = Field(description="verdict in words")
    claims: Annotated[list[Claim], Field(min_length=1)]


class Expectations(Section):
    """All verdicts."""

    format_version: Literal[1]
    expectations: list[Expectation]


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Outcome of one claim.

    Attributes:
        system: Name of the system.
        thesis: Verdict of the thesis in words.
        claim: Claim in words.
        figure: Key of its figure.
        value: The system's figure.
        other: The other system's figure.
        difference: Advantage of the system over the other, with its 95 % interval.
        status: Outcome.
        is_short: Whether one of the two was trained less than its recipe says.
    """

    system: str
    thesis: str
    claim: str
    figure: str
    value: float
    other: float
    difference: Interval
    status: Status
    is_short: bool


def load_expectations(path: Path = FILE) -> list[Expectation]:
    """Read the verdicts.

    Raises:
        ValidationError: The file is malformed.
    """
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return Expectations.model_validate(document).expectations


def check(
    expectations: Sequence[Expectation],
    summaries: Mapping[str, MethodSummary],
    *,
    rows: Mapping[str, str],
    short: Collection[str],
) -> list[Checked]:
    """Check the claims whose systems and figures are in a comparison.

    Args:
        expectations: Verdicts.
        summaries: Name of a row to its figures.
        rows: System or built-in method to its row; of several trainings, that of the first.
        short: Names of rows whose training was short.
    """
    return [
        checked
        for expectation in expectations
        for claim in expectation.claims
        if expectation.system in rows and claim.than in rows
        if (checked := _check(expectation, claim, summaries, rows, short)) is not None
    ]


def _check(
    expectation: Expectation,
    claim: Claim,
    summaries: Mapping[str, MethodSummary],
    rows: Mapping[str, str],
    short: Collection[str],
) -> Checked | None:
    system, than = rows[expectation.system], rows[claim.than]
    ours, theirs = (summaries[name].figures.get(claim.figure) for name in (system, than))
    if ours is None or theirs is None:
        return None
    truth = summaries[TRUE_HR].figures.get(claim.figure)
    difference = advantage_of(claim.figure, ours, theirs, truth)
    return Checked(
        system=expectation.system,
        thesis=expectation.thesis,
        claim=f"{claim.figure} {claim.is_} {'to' if claim.is_ == 'near' else 'than'} {claim.than}",
        figure=claim.figure,
        value=ours.value,
        other=theirs.value,
        difference=difference,
        status=_status(claim, difference),
        is_short=system in short or than in short,
    )


def _status(claim: Claim, difference: Interval) -> Status:
    low, high = difference.low, difference.high
    if claim.is_ == "near":
        if -claim.within <= low and high <= claim.within:
            return "confirmed"
        return "refuted" if low > claim.within or high < -claim.within else "not decided"
    if claim.is_ == "worse":
        low, high = -high, -low
    if low > 0:
        return "confirmed"
    return "refuted" if high < 0 else "not decided"
