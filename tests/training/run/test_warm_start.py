"""Runs that start from the weights of a checkpoint."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from models import CheckpointError, Generator, build_generator, load_generator, save_network
from training import trainer
from training.config.recipe import ConfigError, GeneratorConfig
from training.run.warm_start import MAX_EARLIER, MAX_IMAGES, load_warm_start
from training.trainer import train

HYPER_PARAMETERS = {"channels": 8, "num_blocks": 2, "scale": 4}
TINY = GeneratorConfig(name="rep_sr", hyper_parameters=HYPER_PARAMETERS)
ONE_STEP = ["optimization.steps=1"]


def _generator(seed: int = 5, **changes: int) -> Generator:
    torch.manual_seed(seed)
    return build_generator("rep_sr", {**HYPER_PARAMETERS, **changes})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write a checkpoint of the tiny recipe's generator."""
    path = tmp_path / "source.safetensors"
    training = {"name": "before", "steps_done": 7, "data": {"credits": "us", "images": ["a.png"]}}
    save_network(path, _generator(), training={**training, "recipe": {"long": "story"}})
    return path


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return load_generator(path)[0].state_dict()


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_a_run_begins_with_the_weights_of_the_checkpoint_and_says_so(
    source: Path, tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """A step at almost no rate changes almost nothing; the new checkpoint names its origin."""
    overrides = [*ONE_STEP, "optimization.learning_rate=1e-12", "optimization.ema_decay=0.0"]

    path = train(
        tiny_recipe,
        data_root=data_root,
        run_dir=tmp_path / "run",
        overrides=overrides,
        start_from=source,
    )

    expected, actual = _weights(source), _weights(path)
    for name, tensor in expected.items():
        assert torch.allclose(tensor, actual[name], atol=1e-9, rtol=0), name
    origin = load_generator(path)[1].training["started_from"]
    assert {
        "file": "source.safetensors",
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "training": {
            "name": "before",
            "steps_done": 7,
            "data": {"credits": "us", "images": ["a.png"]},
        },
        "earlier": [],
    } == origin


@pytest.mark.parametrize("stop_before_save", [True, False])
def test_a_resumed_run_keeps_its_start_without_the_file(
    source: Path,
    tiny_recipe: Path,
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    stop_before_save: bool,
) -> None:
    """The checkpoint may be gone when a run goes on, even one that has not saved anything yet."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    overrides = ["run.checkpoint_every_steps=1", "optimization.steps=3"]
    train(tiny_recipe, data_root=data_root, run_dir=whole, overrides=overrides, start_from=source)
    save = trainer.Trainer.save

    def stopped_save(self: trainer.Trainer) -> None:
        if not stop_before_save:
            save(self)
        raise InterruptedError

    monkeypatch.setattr(trainer.Trainer, "save", stopped_save)
    with pytest.raises(InterruptedError):
        train(
            tiny_recipe, data_root=data_root, run_dir=parts, overrides=overrides, start_from=source
        )
    monkeypatch.setattr(trainer.Trainer, "save", save)
    source.unlink()

    train(tiny_recipe, data_root=data_root, run_dir=parts, overrides=overrides, resume=True)

    ends = [load_generator(run / "checkpoint.safetensors") for run in (whole, parts)]
    assert _same(ends[0][0].state_dict(), ends[1][0].state_dict())
    assert ends[0][1] == ends[1][1]


def test_resume_takes_the_same_weights_again_and_no_others(
    source: Path, tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """Half a run from one start and half from another would be described by neither."""
    run = tmp_path / "run"
    train(tiny_recipe, data_root=data_root, run_dir=run, overrides=ONE_STEP, start_from=source)
    copied, other = tmp_path / "copied.safetensors", tmp_path / "other.safetensors"
    shutil.copy(source, copied)
    save_network(other, _generator(seed=6), training={})

    def resume(start_from: Path) -> None:
        train(
            tiny_recipe,
            data_root=data_root,
            run_dir=run,
            overrides=ONE_STEP,
            resume=True,
            start_from=start_from,
        )

    resume(copied)
    with pytest.raises(ConfigError, match=r"was started from source\.safetensors .*, not from .*o"):
        resume(other)


def test_resume_of_a_run_from_fresh_weights_refuses_a_start(
    source: Path, tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """The weights would have no effect, which must not go unsaid."""
    run = tmp_path / "run"
    train(tiny_recipe, data_root=data_root, run_dir=run, overrides=ONE_STEP)

    with pytest.raises(ConfigError, match=r"was started without weights, not from .*source"):
        train(
            tiny_recipe,
            data_root=data_root,
            run_dir=run,
            overrides=ONE_STEP,
            resume=True,
            start_from=source,
        )


def test_a_run_is_replaced_by_one_from_its_own_checkpoint(
    tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """The file is read before it is set aside; a later run from fresh weights forgets the start."""
    run = tmp_path / "run"
    old = train(tiny_recipe, data_root=data_root, run_dir=run, overrides=ONE_STEP)
    digest = hashlib.sha256(old.read_bytes()).hexdigest()

    train(
        tiny_recipe,
        data_root=data_root,
        run_dir=run,
        overrides=ONE_STEP,
        overwrite=True,
        start_from=old,
    )

    assert digest == load_generator(old)[1].training["started_from"]["sha256"]
    assert digest == json.loads((run / "start.json").read_text())["sha256"]
    train(tiny_recipe, data_root=data_root, run_dir=run, overrides=ONE_STEP, overwrite=True)
    assert "started_from" not in load_generator(old)[1].training
    assert not (run / "start.json").exists()
    assert not (run / "start.safetensors").exists()


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        (_generator(channels=4), r"rep_sr \{'channels': 4.*the recipe's is rep_sr \{'channels': 8"),
        (
            build_generator("grain_sr", HYPER_PARAMETERS),
            r"its generator is grain_sr .*, the recipe's is rep_sr",
        ),
    ],
)
def test_another_generator_is_refused_before_anything_is_read(
    tiny_recipe: Path, tmp_path: Path, generator: Generator, message: str
) -> None:
    """Both are named, with their hyper-parameters; the data folder does not even exist."""
    path = tmp_path / "other.safetensors"
    save_network(path, generator, training={})

    with pytest.raises(ConfigError, match=message):
        train(tiny_recipe, data_root=tmp_path / "none", run_dir=tmp_path / "run", start_from=path)
    assert not (tmp_path / "run").exists()


def test_a_file_of_another_format_is_refused(tiny_recipe: Path, tmp_path: Path) -> None:
    """A pickle is neither executed nor taken for a checkpoint."""
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.zeros(1)}, path)

    with pytest.raises(CheckpointError, match=r"weights\.pt is not a safetensors file"):
        train(tiny_recipe, data_root=tmp_path / "none", run_dir=tmp_path / "run", start_from=path)


def test_the_description_of_a_chain_of_runs_stays_bounded(tmp_path: Path) -> None:
    """A hundred runs, each from the one before, leave a few kilobytes in the last checkpoint."""
    path, source = tmp_path / "next.safetensors", None
    images = [f"image_{number}.png" for number in range(MAX_IMAGES + 1)]
    data = {"statement": "many", "image_count": len(images), "images": images, "credits": "us"}
    for number in range(MAX_EARLIER + 3):
        training = {"name": f"run {number}", "data": data}
        origin = {} if source is None else {"started_from": source}
        save_network(path, _generator(), training={**training, **origin})
        source = load_warm_start(path, generator=TINY).source

    assert source is not None
    assert "run 10" == source["training"]["name"]
    assert {"statement": "many", "image_count": 201, "credits": "us"} == source["training"]["data"]
    assert MAX_EARLIER == len(source["earlier"])
    assert ["run 9", "run 8"] == [run["name"] for run in source["earlier"][:2]]
    assert {"us"} == {run["credits"] for run in source["earlier"]}
