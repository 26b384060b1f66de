"""Training that starts from the weights of a checkpoint: `semsr train … --from CHECKPOINT`.

The generator of the recipe must be the checkpoint's own: same registry name, same hyper-parameters.
The new checkpoint says what it started from, in a bounded form, so that a chain of runs does not
carry every recipe before it, but its data, credits and held-out sources stay on record.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models import CheckpointInfo, Network, build_network, load_network
from training.config.recipe import ConfigError, GeneratorConfig

KEPT = ("name", "method", "degradation", "steps", "steps_done", "seed", "precision", "lr_domain")
KEPT_OF_DATA = (
    "statement",
    "credits",
    "image_count",
    "source_count",
    "held_out_sources",
    "excluded_sources",
)
MAX_IMAGES = 200
"""Names of training images that are kept; beyond it their number alone."""

MAX_EARLIER = 8
"""Runs before the source that are kept, by file, digest, name, length and credits."""


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Weights to start from, and where they come from.

    Attributes:
        weights: State dict of the recipe's generator, float32 on the CPU.
        source: JSON-compatible description for the new checkpoint; see `load_warm_start`.
    """

    weights: Mapping[str, torch.Tensor]
    source: Mapping[str, Any]

    def apply_to(self, generator: Network) -> None:
        """Copy the weights into a generator of the same kind, on its own device."""
        generator.load_state_dict(self.weights)


def load_warm_start(
    path: Path, *, generator: GeneratorConfig, file_name: str | None = None
) -> WarmStart:
    """Load the weights of a checkpoint for a recipe's generator.

    Args:
        path: Checkpoint of `models.save_network`.
        generator: Generator section of the recipe.
        file_name: Name to describe the checkpoint by; None for the path's own.

    Returns:
        The weights, and a description with `file`, `sha256`, `training` (name, method, data,
        steps, … of the source, without its recipe) and `earlier` (what the source itself started
        from, the nearest run first).

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file is not a semsr checkpoint, or is damaged.
        UnknownGeneratorError: A generator or its hyper-parameters are unknown.
        ConfigError: The checkpoint's generator is another one than the recipe's.
    """
    found, info = load_network(path)
    wanted = build_network(generator.name, generator.hyper_parameters)
    kinds = [
        f"{name} {of.hyper_parameters}"
        for name, of in ((info.generator, found), (generator.name, wanted))
    ]
    if kinds[0] != kinds[1]:
        raise ConfigError(
            f"training cannot start from {path}: its generator is {kinds[0]}, the recipe's is "
            f"{kinds[1]}; expected the same"
        )
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return WarmStart(
        weights=found.state_dict(),
        source=_describe(info, file_name=file_name or path.name, sha256=sha256),
    )


def _describe(info: CheckpointInfo, *, file_name: str, sha256: str) -> dict[str, Any]:
    training = info.training
    kept = {key: training[key] for key in KEPT if key in training}
    data = training.get("data")
    if isinstance(data, Mapping):
        kept["data"] = {key: data[key] for key in KEPT_OF_DATA if key in data}
        images = data.get("images", [])
        if len(images) <= MAX_IMAGES:
            kept["data"]["images"] = images
    return {
        "file": file_name,
        "sha256": sha256,
        "training": kept,
        "earlier": _earlier(training.get("started_from"))[:MAX_EARLIER],
    }


def _earlier(source: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - JSON
    """List the runs before a source, the nearest first, each in one line of facts."""
    if not isinstance(source, Mapping):
        return []
    training = source.get("training", {})
    facts = {key: source[key] for key in ("file", "sha256") if key in source}
    facts |= {key: training[key] for key in ("name", "steps_done") if key in training}
    if credit := training.get("data", {}).get("credits"):
        facts["credits"] = credit
    return [facts, *source.get("earlier", [])]
