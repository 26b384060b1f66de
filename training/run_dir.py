"""The folder of one run: resolved recipe, statistics, checkpoint, and the state to resume from.

- `config.json`: the resolved recipe.
- `stats.jsonl`: one JSON object a line: step, every loss term, `loss` (the generator's sum),
  `rate_share` (of the learning rates' peaks), seconds since the start or the last resume, and now
  and then figures on held-out tiles. `curves.png`: the same, drawn.
- `samples/`: pictures of fixed crops on the way.
- `degradation.json`, `degradation-TOOL.json`: the estimated ranges of the first and of further
  tools, where the recipe asks for an estimate.
- `checkpoint.safetensors`: averaged weights of the last save; usable while the run goes on.
- `state.pt`: everything to resume: weights, average, optimiser, step.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from training.config import ConfigError, Recipe


class RunDirError(RuntimeError):
    """A run folder that cannot be used as asked: already taken, or nothing to resume."""


class RunDir:
    """Paths of a run and their atomic writing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.stats = path / "stats.jsonl"
        self.checkpoint = path / "checkpoint.safetensors"
        self.state = path / "state.pt"
        self.curves = path / "curves.png"

    def sample(self, step: int) -> Path:
        """Path of the sample picture of a step."""
        return self.path / "samples" / f"step_{step:06d}.png"

    def degradation_of(self, tool: str) -> Path:
        """Path of a tool's estimated ranges; the first tool has no name."""
        return self.path / (f"degradation-{tool}.json" if tool else "degradation.json")

    def start(self, recipe: Recipe, *, resume: bool) -> None:
        """Create the folder and write the recipe, or check that a run can be resumed here.

        Raises:
            RunDirError: A new run would overwrite one, or there is no state to resume.
            ConfigError: The resumed run was started with another recipe.
        """
        text = recipe.model_dump_json(indent=2)
        if not resume:
            if self.config.exists():
                raise RunDirError(f"{self.path} already holds a run; resume it or choose another")
            self.path.mkdir(parents=True, exist_ok=True)
            self.config.write_text(text + "\n", encoding="utf-8")
            return
        if not (self.config.is_file() and self.state.is_file()):
            raise RunDirError(f"{self.path} holds no run to resume")
        if json.loads(self.config.read_text(encoding="utf-8")) != json.loads(text):
            raise ConfigError(f"the recipe differs from the one {self.path} was started with")

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write the resume state in one step, so that a crash leaves the old one or the new one."""
        with tempfile.TemporaryDirectory(dir=self.path, prefix=".state.") as folder:
            temporary = Path(folder) / self.state.name
            torch.save(dict(state), temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(self.state)

    def load_state(self) -> dict[str, Any]:
        """Read the resume state; tensors and plain values only, nothing is executed."""
        return torch.load(self.state, map_location="cpu", weights_only=True)

    def append_stats(self, record: Mapping[str, Any]) -> None:
        """Append one line to the statistics."""
        with self.stats.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(record)) + "\n")

    def read_stats(self) -> list[dict[str, Any]]:
        """Read the statistics so far."""
        if not self.stats.is_file():
            return []
        lines = self.stats.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def drop_stats_after(self, step: int) -> None:
        """Forget statistics of steps that a resumed run will do again."""
        kept = [record for record in self.read_stats() if record["step"] <= step]
        lines = [json.dumps(record) + "\n" for record in kept]
        if self.stats.is_file():
            self.stats.write_text("".join(lines), encoding="utf-8")
