"""The evaluation's tiny benchmark, and a recipe that trains on it in a second."""

from pathlib import Path

import pytest

from tests.training.evaluation.conftest import benchmark_dir

__all__ = ["benchmark_dir"]

RECIPE = """
name = "{name}"
[generator]
name = "rep_sr"
hyper_parameters = {{ channels = 4, num_blocks = 1, scale = 4 }}
[data]
hr = ["train_hr"]
[optimization]
steps = {steps}
batch_size = 2
crop_px = 16
warm_up_steps = 0
threads = 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of 40 steps of 2 crops."""
    path = tmp_path / "small.toml"
    path.write_text(RECIPE.format(name="small", steps=40))
    return path
