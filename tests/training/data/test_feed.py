"""Batches from worker processes: the bits and the order of a run without them."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import load_generator
from tests.training.makers import Noise, NoiseSampler
from training import trainer
from training.data.feed import Feed
from training.data.prefetch import WorkerError
from training.trainer import train

RECIPE = """
name = "tiny-fed"
[generator]
name = "grain_sr"
hyper_parameters = { channels = 8, num_blocks = 1, scale = 4 }
[data]
lr = ["lr"]
hr = ["hr"]
[method]
name = "f_lsesim"
self_similarity = { weight = 0.0 }
adversarial = { weight = 0.0 }
paired = { share = 0.5, planted = [1, 1], patch_share = 0.5 }
statistics = { histogram_weight = 1.0 }
[degradation]
[optimization]
steps = 6
batch_size = 4
crop_px = 16
threads = 1
[run]
log_every_steps = 1
checkpoint_every_steps = 3
picture_every_steps = 2
"""


def _stats(run: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if k not in {"elapsed_s", "data_share"}} for r in records]


@pytest.mark.slow
def test_a_run_is_the_same_with_any_number_of_workers_and_a_stop_between(
    unpaired_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pseudo-pairs, LR crops and HR crops: all come from 3 workers, then from 1, to equal bits."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(recipe, data_root=unpaired_root, run_dir=whole)
    save = trainer.Trainer.save

    def stopping(self: trainer.Trainer) -> None:
        save(self)
        raise InterruptedError

    monkeypatch.setattr(trainer.Trainer, "save", stopping)
    with pytest.raises(InterruptedError):
        train(
            recipe,
            data_root=unpaired_root,
            run_dir=parts,
            overrides=["optimization.loader_workers=3"],
        )
    monkeypatch.setattr(trainer.Trainer, "save", save)

    train(
        recipe,
        data_root=unpaired_root,
        run_dir=parts,
        overrides=["optimization.loader_workers=1"],
        resume=True,
    )

    expected, actual = (load_generator(run / "checkpoint.safetensors")[0] for run in (whole, parts))
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, actual.state_dict()[name]), name
    assert _stats(whole) == _stats(parts)


def test_batches_of_the_current_step_come_from_workers_and_others_are_made_here() -> None:
    """A picture of step 0 in the middle of a run disturbs nothing."""
    noise, feed = Noise(seed=3), Feed(workers=1)
    fed = feed.add("noise", NoiseSampler(noise=noise))
    feed.add("empty", NoiseSampler(noise=Noise(fails_at=0), batch_size=0))

    with feed.running(2, 6):
        processes = []
        for step in range(2, 6):
            feed.begin(step)
            drawn = [fed.batch(step), fed.batch(0), fed.batch(step)]
            feed.end()
            for number, (values, _) in zip((step, 0, step), drawn, strict=True):
                assert np.array_equal(noise(number), values)
            processes.append([process == os.getpid() for _, process in drawn])
    assert [[False, True, True]] * 4 == processes
    assert feed.seconds > 0
    assert os.getpid() == fed.batch(3)[1]


def test_a_fault_of_a_worker_names_the_step_and_is_raised_in_the_trainer() -> None:
    """Steps are counted from 1 in what people read."""
    feed = Feed(workers=1)
    fed = feed.add("noise", NoiseSampler(noise=Noise(fails_at=1)))

    with feed.running(0, 4):
        feed.begin(0)
        fed.batch(0)
        feed.begin(1)
        with pytest.raises(
            WorkerError, match=r"^the batch of step 2 failed .*: ValueError: no noise at 1"
        ):
            fed.batch(1)


def test_two_samplers_of_one_name_are_refused() -> None:
    """Each would get the batches of the other."""
    feed = Feed()
    feed.add("pairs", NoiseSampler(noise=Noise()))

    with pytest.raises(ValueError, match="two samplers of the name 'pairs'"):
        feed.add("pairs", NoiseSampler(noise=Noise()))
