"""The folder of one run: resolved recipe, statistics, checkpoint, and the state to resume from.

- `config.json`: the resolved recipe.
- `stats.jsonl`: one JSON object a line: step, every loss term, `loss` (the generator's sum),
  `rate_share` (of the learning rates' peaks), seconds since the start or the last resume, and now
  and then figures on held-out tiles. `curves.png`: the same, drawn.
- `samples/`: pictures of fixed crops on the way.
- `degradation.json`, `degradation-TOOL.json`: the estimated ranges of the first and of further
  tools, where the recipe asks for an estimate.
- `checkpoint.safetensors`: averaged weights of the last save; usable while the run goes on.
- `state.pt`: everything to resume: weights, average, optimiser, step; see `training.run_state`.

Every file is written whole or not at all, but for the lines that are appended to `stats.jsonl`.
No torch here, so that a command can refuse a folder before it loads anything.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.config import ConfigError, Recipe
from training.whole_file import write_whole_text


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

    def check(self, recipe: Recipe, *, resume: bool, overwrite: bool = False) -> None:
        """Check that a run can be started or resumed here, and change nothing.

        Args:
            recipe: Recipe of the run.
            resume: Whether the run goes on where the one in the folder stopped.
            overwrite: Whether a run that is there may be replaced.

        Raises:
            RunDirError: A new run would overwrite one, there is no run to resume, or the path is
                not a folder.
            ConfigError: The resumed run was started with another recipe.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunDirError(f"{self.path} is a file, expected a folder for the run")
        if not resume:
            if self.config.exists() and not overwrite:
                raise RunDirError(
                    f"{self.path} already holds a run; go on with --resume, replace it with "
                    "--overwrite or choose another folder"
                )
            return
        if not self.config.is_file():
            raise RunDirError(f"{self.path} holds no run to resume")
        expected = json.loads(recipe.model_dump_json())
        if json.loads(self.config.read_text(encoding="utf-8")) != expected:
            raise ConfigError(f"the recipe differs from the one {self.path} was started with")

    def start(self, recipe: Recipe, *, resume: bool, overwrite: bool = False) -> None:
        """Create the folder and write the recipe, or check that a run can be resumed here.

        Args:
            recipe: As for `check`.
            resume: As for `check`.
            overwrite: Remove what an earlier run wrote here; other files stay.

        Raises:
            RunDirError: As `check`.
            ConfigError: As `check`.
        """
        self.check(recipe, resume=resume, overwrite=overwrite)
        if resume:
            return
        if self.config.exists():
            self._remove()
        write_whole_text(self.config, recipe.model_dump_json(indent=2) + "\n")

    def append_stats(self, record: Mapping[str, Any]) -> None:
        """Append one line to the statistics."""
        with self.stats.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(record)) + "\n")

    def read_stats(self) -> list[dict[str, Any]]:
        """Read the statistics so far, without a last line that a kill cut off."""
        if not self.stats.is_file():
            return []
        lines = self.stats.read_text(encoding="utf-8").split("\n")
        # What follows the last newline is empty, or the beginning of a line.
        return [json.loads(line) for line in lines[:-1]]

    def drop_stats_after(self, step: int) -> None:
        """Forget statistics of steps that a resumed run will do again."""
        kept = [record for record in self.read_stats() if record["step"] <= step]
        lines = [json.dumps(record) + "\n" for record in kept]
        if self.stats.is_file():
            write_whole_text(self.stats, "".join(lines))

    def _remove(self) -> None:
        """Remove a run; its recipe goes last, so that a folder without one holds no run."""
        shutil.rmtree(self.path / "samples", ignore_errors=True)
        files = [self.state, self.checkpoint, self.stats, self.curves]
        files += self.path.glob("degradation*.json")
        files += self.path.glob("events.out.tfevents.*")
        for file in [*files, self.config]:
            file.unlink(missing_ok=True)
