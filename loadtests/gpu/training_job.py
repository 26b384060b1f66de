"""A training run that is measured, as options of `loadtests.gpu.training_run`; no torch here."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

STEPS = 1_000_000
"""Steps of the recipe: more than are ever run, so that schedules stay at their beginning."""

_QUIET = ("log", "checkpoint", "validate", "picture")


@dataclass(frozen=True)
class TrainingJob:
    """One run.

    Attributes:
        recipe: Name of a shipped recipe, or a TOML file.
        data: Data folder.
        vgg16: File of VGG16's weights; empty asks torchvision.
        device: `cuda` or `cpu`.
        precision: `fp32`, `bf16`, or `auto`.
        workers: Processes that make batches.
        degrade_on_device: Whether the device of the network degrades the crops.
        seconds: Time to measure for; 0 takes the first step only.
        overrides: Further overrides of the recipe.
    """

    recipe: str
    data: str
    vgg16: str
    device: str
    precision: str
    workers: int
    degrade_on_device: bool
    seconds: float
    overrides: Sequence[str] = ()

    def all_overrides(self) -> list[str]:
        """Return the overrides of the recipe: its own data, every term from the first step on."""
        found = [
            f"optimization.steps={STEPS}",
            f"optimization.device={self.device}",
            f"optimization.precision={self.precision}",
            f"optimization.loader_workers={self.workers}",
            f"optimization.degrade_on_device={str(self.degrade_on_device).lower()}",
            *(f"run.{name}_every_steps={STEPS}" for name in _QUIET),
        ]
        name = self.recipe.rpartition("/")[2].removesuffix(".toml")
        if name.startswith("f_lsesim"):
            found += [
                "method.adversarial.start_share=0.0",
                "method.adversarial.ramp_share=0.0",
                "method.statistics.start_share=0.0",
            ]
        if name == "supervised":
            found.append('data={hr=["train_hr"], statement="simulated images"}')
        return [*found, *self.overrides]

    def as_json(self) -> str:
        """Return the options of the process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "TrainingJob":
        """Read `as_json`."""
        return cls(**json.loads(text))
