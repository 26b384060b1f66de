"""The folder of one run: resolved recipe, statistics, checkpoint, and the state to resume from.

- `config.json`: the resolved recipe.
- `stats.jsonl`: one JSON object a line: step, every loss term, `loss` (the generator's sum),
  `rate_share` (of the learning rates' peaks), seconds since the start or the last resume,
  `data_share` (of the time: steps that waited for their batches), and now and then figures on
  held-out tiles. `curves.png`: the same, drawn.
- `samples/`: pictures of fixed crops on the way.
- `degradation.json`, `degradation-TOOL.json`: the estimated ranges of the first and of further
  tools, where the recipe asks for an estimate.
- `checkpoint.safetensors`: averaged weights of the last save; usable while the run goes on.
- `start.safetensors`, `start.json`: a copy of the checkpoint that `--from` named, so that the run
  can be resumed without it; its name and digest.
- `bank.json`: folder and digest of the bank (`--bank`) that the run draws from.
- `state.pt`: everything to resume: weights, average, optimiser, step; see `training.run.state`.
- `.replaced/`: the run that `--overwrite` replaces, until the new run's first save.

Every file is written whole or not at all, but for the lines that are appended to `stats.jsonl`.
No torch here, so that a command can refuse a folder before it loads anything.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.config.recipe import ConfigError, Recipe
from training.ground.whole_file import whole_file, write_whole_text


class RunDirError(RuntimeError):
    """The run folder already holds a run, or holds no run to resume."""


class RunDir:
    """Paths of a run and their atomic writing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.stats = path / "stats.jsonl"
        self.checkpoint = path / "checkpoint.safetensors"
        self.state = path / "state.pt"
        self.curves = path / "curves.png"
        self.start_weights = path / "start.safetensors"
        self.start_facts = path / "start.json"
        self.bank_facts = path / "bank.json"
        self.replaced = path / ".replaced"
        self._has_set_aside = False

    def sample(self, step: int) -> Path:
        """Path of the sample picture of a step."""
        return self.path / "samples" / f"step_{step:06d}.png"

    def degradation_of(self, tool: str) -> Path:
        """Path of a tool's estimated ranges; the first tool has no name."""
        return self.path / (f"degradation-{tool}.json" if tool else "degradation.json")

    def check(
        self,
        recipe: Recipe,
        *,
        resume: bool,
        overwrite: bool = False,
        start_from: Path | None = None,
        bank: Path | None = None,
    ) -> None:
        """Check that a run can be started or resumed here, and change nothing.

        Args:
            recipe: Recipe of the run.
            resume: Whether the run goes on where the one in the folder stopped.
            overwrite: Whether a run that is there may be replaced.
            start_from: Checkpoint that the run starts from. A resumed run keeps its own; given
                again, it must be the same file.
            bank: Folder of the bank that the run draws from. A resumed run keeps its own; given
                again, it must hold the same bank (`keep_bank`).

        Raises:
            RunDirError: A new run would overwrite one, there is no run to resume, or the path is
                not a folder.
            ConfigError: The resumed run was started with another recipe or from other weights.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunDirError(f"{self.path} is a file, expected a folder for the run")
        if not resume:
            if (self.config.exists() or self.replaced.exists()) and not overwrite:
                raise RunDirError(
                    f"{self.path} already holds a run; go on with --resume, replace it with "
                    "--overwrite or choose another folder"
                )
            return
        if not self.config.is_file():
            raise RunDirError(f"{self.path} holds no run to resume")
        found = json.loads(self.config.read_text(encoding="utf-8"))
        if _what_of(found) != _what_of(json.loads(recipe.model_dump_json())):
            raise ConfigError(f"the recipe differs from the one {self.path} was started with")
        if start_from is not None:
            self._check_start(start_from)
        if bank is not None and self.read_bank() is None:
            raise ConfigError(
                f"{self.path} was started without a bank, not with {bank}; resume it without --bank"
            )

    def _check_start(self, start_from: Path) -> None:
        """Reject resuming a run with start weights other than its own."""
        facts, sha256 = self.read_start(), _sha256(start_from.read_bytes())
        if facts is None:
            raise ConfigError(
                f"{self.path} was started without weights, not from {start_from}; resume it "
                "without --from"
            )
        if facts["sha256"] != sha256:
            raise ConfigError(
                f"{self.path} was started from {facts['file']} (sha256 {facts['sha256']}), not "
                f"from {start_from} (sha256 {sha256}); --resume needs no --from"
            )

    def read_start(self) -> dict[str, str] | None:
        """Read what the run started from: `file` and `sha256`; None where from fresh weights."""
        if not self.start_facts.is_file():
            return None
        return json.loads(self.start_facts.read_text(encoding="utf-8"))

    def read_bank(self) -> dict[str, str] | None:
        """Read what bank the run draws from: `folder`, and `sha256` once known; None for none."""
        if not self.bank_facts.is_file():
            return None
        return json.loads(self.bank_facts.read_text(encoding="utf-8"))

    def keep_bank(self, folder: Path, sha256: str) -> None:
        """Write down which bank the run draws from, or check that it is still that one.

        Args:
            folder: Folder of the bank, wherever it lies now.
            sha256: Digest of the bank.

        Raises:
            ConfigError: The run was started with another bank.
        """
        known = (self.read_bank() or {}).get("sha256", sha256)
        if known != sha256:
            raise ConfigError(
                f"{self.path} was started with a bank of sha256 {known}, but {folder} holds "
                f"{sha256}; a resumed run needs the same one"
            )
        facts = {"folder": str(folder.resolve()), "sha256": sha256}
        write_whole_text(self.bank_facts, json.dumps(facts, indent=2) + "\n")

    def start(
        self,
        recipe: Recipe,
        *,
        resume: bool,
        overwrite: bool = False,
        start_from: Path | None = None,
        bank: Path | None = None,
    ) -> None:
        """Create the folder and write the recipe, or check that a run can be resumed here.

        Args:
            recipe: Recipe of the run.
            resume: Whether the run goes on, see `check`.
            overwrite: Set aside what an earlier run wrote here, until `drop_replaced` or
                `put_back`; other files stay.
            start_from: Checkpoint to start from; it is copied into the folder.
            bank: Folder of the bank to draw from.

        Raises:
            FileNotFoundError: The checkpoint does not exist.
            RunDirError: The folder cannot be used, see `check`.
            ConfigError: The run was started otherwise, see `check`.
        """
        self.check(recipe, resume=resume, overwrite=overwrite, start_from=start_from, bank=bank)
        self._finish_interrupted(resume=resume)
        if resume:
            return
        # Read first: it may be the checkpoint of the very run that is set aside.
        weights = None if start_from is None else start_from.read_bytes()
        if self.config.exists():
            self._set_aside()
        for left_over in (self.start_facts, self.start_weights, self.bank_facts):
            left_over.unlink(missing_ok=True)  # of a start that was killed
        if bank is not None:
            facts = {"folder": str(bank.resolve())}
            write_whole_text(self.bank_facts, json.dumps(facts, indent=2) + "\n")
        if start_from is not None and weights is not None:
            with whole_file(self.start_weights, is_durable=True) as part:
                part.write_bytes(weights)
            facts = {"file": start_from.name, "sha256": _sha256(weights)}
            write_whole_text(self.start_facts, json.dumps(facts, indent=2) + "\n")
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
        """Remove the statistics of steps that a resumed run repeats."""
        kept = [record for record in self.read_stats() if record["step"] <= step]
        lines = [json.dumps(record) + "\n" for record in kept]
        if self.stats.is_file():
            write_whole_text(self.stats, "".join(lines))

    def drop_replaced(self) -> None:
        """Remove the run that this one replaces: after the first save, which can be resumed."""
        self._has_set_aside = False
        if self.replaced.exists():
            # Renamed first: a removal that a kill cuts short must not look like a run to put back.
            dropped = self.replaced.with_name(".dropped")
            shutil.rmtree(dropped, ignore_errors=True)
            self.replaced.replace(dropped)
            shutil.rmtree(dropped, ignore_errors=True)

    def put_back(self) -> None:
        """Put the replaced run back in the place of this one, which failed before its first save.

        Without effect where this object's `start` replaced none, or after `drop_replaced`.
        """
        if self._has_set_aside:
            self._put_back()
            self._has_set_aside = False

    def _finish_interrupted(self, *, resume: bool) -> None:
        """Put back or remove what a killed run left in `.replaced`."""
        shutil.rmtree(self.replaced.with_name(".dropped"), ignore_errors=True)
        if not self.replaced.exists():
            return
        is_whole = (self.replaced / self.config.name).exists()
        if is_whole and self.state.exists():
            self.drop_replaced()
        elif not (is_whole and resume):
            self._put_back()

    def _set_aside(self) -> None:
        """Move a run into `.replaced`; its recipe goes last, so that one there means all of it."""
        self._has_set_aside = True
        self.replaced.mkdir(exist_ok=True)
        for file in self._written():
            file.replace(self.replaced / file.name)

    def _put_back(self) -> None:
        """Move a run back from `.replaced`, first removing the one in its place.

        The recipe goes first: without it, `.replaced` is a part of the run that lies here.
        """
        config = self.replaced / self.config.name
        if config.exists():
            for file in self._written():
                if file.is_dir():
                    shutil.rmtree(file)
                else:
                    file.unlink()
            config.replace(self.config)
        for file in list(self.replaced.iterdir()):
            file.replace(self.path / file.name)
        self.replaced.rmdir()

    def _written(self) -> list[Path]:
        """Return what a run wrote here and is there, its recipe last."""
        files = [self.path / "samples", self.state, self.checkpoint, self.stats, self.curves]
        files += [self.start_facts, self.start_weights, self.bank_facts]
        files += self.path.glob("degradation*.json")
        files += self.path.glob("events.out.tfevents.*")
        return [file for file in [*files, self.config] if file.exists()]


def _what_of(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's JSON without what changes how fast a run goes, but no bit of it."""
    options = {**recipe.get("optimization", {})}
    options.pop("loader_workers", None)
    return {**recipe, "optimization": options}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
