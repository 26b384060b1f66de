"""The state that a run is resumed from: tensors and plain values in `state.pt`, nothing else.

Apart from `training.run.folder`, so that a run's folder can be checked before torch is loaded.
"""

from collections.abc import Mapping
from typing import Any

import torch

from training.ground.whole_file import whole_file
from training.run.folder import RunDir


def save_state(run_dir: RunDir, state: Mapping[str, Any]) -> None:
    """Write the resume state in one step, so that a crash leaves the old one or the new one."""
    with whole_file(run_dir.state, is_durable=True) as part:
        torch.save(dict(state), part)


def load_state(run_dir: RunDir) -> dict[str, Any]:
    """Read the resume state; tensors and plain values only, nothing is executed."""
    return torch.load(run_dir.state, map_location="cpu", weights_only=True)
