"""Number of front ends by machine."""

import re
from pathlib import Path
from typing import Any

import pytest

from service.hosting.front_ends import num_front_ends
from service.settings import Settings

TWO_MODELS = {"a": Path("bundles/a"), "b": Path("bundles/b")}


@pytest.mark.parametrize(
    ("machine", "cores", "settings", "expected"),
    [
        ("2-core PC", 2, {}, 1),
        ("PC with 8 cores", 8, {}, 2),
        ("64 cores without a GPU", 64, {}, 4),
        ("2 cores, 1 GPU", 2, {"device": "cuda"}, 1),
        ("8 cores, 1 GPU", 8, {"device": "cuda"}, 6),
        ("16 cores, 1 GPU", 16, {"device": "cuda"}, 8),
        ("16 cores, 1 GPU, 2 models", 16, {"device": "cuda", "bundles": TWO_MODELS}, 12),
        ("16 cores, 1 GPU shared by 2", 16, {"device": "cuda:0", "engine_processes": 2}, 12),
        ("64 cores, 4 GPUs", 64, {"device": "cuda", "engine_processes": 4}, 32),
        ("256 cores, 16 GPUs", 256, {"device": "cuda", "engine_processes": 16}, 64),
        ("the setting overrides", 16, {"device": "cuda", "front_ends": 3}, 3),
        ("a single process", 16, {"mode": "single", "front_ends": 3}, 1),
    ],
)
def test_front_ends_follow_cores_and_gpus(
    machine: str, cores: int, settings: dict[str, Any], expected: int
) -> None:
    """As the table in the documentation, which has the same machines."""
    assert expected == num_front_ends(Settings(**{"mode": "pool", **settings}), cores), machine


def test_page_for_operators_has_the_same_numbers() -> None:
    """Each row of its table of machines."""
    text = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"\| (\d+)(?:-core PC| cores).* \| `(\w+)` \| (\d+) \| (\d+) \|", text)
    assert len(rows) == 6
    for cores, device, engines, expected in rows:
        settings = Settings(mode="pool", device=device, engine_processes=int(engines))
        assert int(expected) == num_front_ends(settings, int(cores))
