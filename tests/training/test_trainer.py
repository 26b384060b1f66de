"""The loop: it learns, resumes exactly, and stops when it must."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from models import UnknownGeneratorError, load_generator
from training.config.method import SupervisedConfig
from training.config.recipe import ConfigError, Recipe, load_recipe
from training.data.datasets import KnownTool, load_training_images
from training.data.images import ImageFileError
from training.data.pair_samplers import PairBatch
from training.losses.features import FeatureWeightsError
from training.methods.inputs import Inputs
from training.methods.supervised import Supervised
from training.run.folder import RunDir, RunDirError
from training.run.preparation import DeviceError
from training.trainer import NonFiniteLossError, Trainer, train


def _stats(run_dir: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]


def test_training_lowers_the_loss_and_describes_itself(
    tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """A short run beats its own start, and its checkpoint says what it was trained on."""
    overrides = ["optimization.steps=60", 'data.held_out_sources=["hr/hr_3.png"]']

    path = train(tiny_recipe, data_root=data_root, run_dir=tmp_path / "run", overrides=overrides)

    stats = _stats(tmp_path / "run")
    assert [5 * n for n in range(1, 13)] == [record["step"] for record in stats]
    assert stats[-1]["loss"] < 0.8 * stats[0]["loss"]
    assert stats[-1]["held_out_psnr_db"] > stats[1]["held_out_psnr_db"]
    assert tmp_path / "run" / "checkpoint.safetensors" == path
    generator, info = load_generator(path)
    assert (8, 2, 4) == (generator.hyper_parameters["channels"], 2, generator.scale)
    training = info.training
    assert (60, 60, 0) == (training["steps"], training["steps_done"], training["seed"])
    assert ["hr/hr_0.png", "hr/hr_1.png", "hr/hr_2.png"] == training["data"]["images"]
    assert ["hr/hr_3.png"] == training["data"]["held_out_sources"]
    assert ["hr/hr_3.png"] == training["data"]["held_out_tiles"]
    assert {"mean", "std", "noise_sigma"} == set(training["lr_domain"])
    assert 40 < training["lr_domain"]["mean"] < 120
    assert 4 < training["lr_domain"]["noise_sigma"] < 9
    assert [8.6, 8.6] == training["degradation"]["noise_var_base"]
    recipe = load_recipe(tiny_recipe, overrides=overrides)
    assert recipe.model_dump(mode="json") == training["recipe"]
    assert training["recipe"] == json.loads((tmp_path / "run" / "config.json").read_text())


def test_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(
    tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """A run that was stopped after a save and resumed gives the same weights and statistics."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(tiny_recipe, data_root=data_root, run_dir=whole)
    _run_until(15, tiny_recipe, data_root=data_root, run_dir=parts)

    train(tiny_recipe, data_root=data_root, run_dir=parts, resume=True)

    expected, _ = load_generator(whole / "checkpoint.safetensors")
    actual, _ = load_generator(parts / "checkpoint.safetensors")
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, actual.state_dict()[name]), name
    wanted = ("step", "loss", "rate_share")
    assert [{k: r[k] for k in wanted} for r in _stats(whole)] == [
        {k: r[k] for k in wanted} for r in _stats(parts)
    ]


def _supervised(recipe: Recipe, *, data_root: Path) -> Supervised:
    """Build the method as the trainer does."""
    assert recipe.degradation != "estimate"
    assert isinstance(recipe.method, SupervisedConfig)
    torch.manual_seed(recipe.optimization.seed)
    images = load_training_images(recipe.data, [recipe.data.hr], data_root=data_root)[0]
    inputs = Inputs(
        recipe=recipe,
        tools=[KnownTool(name="", hr=images, lr=(), degradation=recipe.degradation, share=1.0)],
        held_out=(),
        data_root=data_root,
        vgg16=None,
        device=torch.device("cpu"),
    )
    return Supervised(inputs, recipe.method)


def _run_until(last_step: int, recipe_path: Path, *, data_root: Path, run_dir: Path) -> None:
    """Train, and lose power at a step: what was saved last stays, what was logged since too."""
    recipe = load_recipe(recipe_path)
    folder = RunDir(run_dir)
    folder.start(recipe, resume=False)
    method = _supervised(recipe, data_root=data_root)
    trainer = Trainer(method, recipe=recipe, run_dir=folder)
    draw = method.sampler.batch

    def failing_batch(step: int) -> PairBatch:
        if step == last_step:
            raise InterruptedError
        return draw(step)

    method.sampler.batch = failing_batch
    with pytest.raises(InterruptedError):
        trainer.run()
    assert [5, 10, 15] == [record["step"] for record in _stats(run_dir)]


def test_non_finite_loss_stops_with_the_step_and_keeps_the_last_checkpoint(
    tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """Divergence is an error that names the step; nothing broken is saved."""
    overrides = [
        "optimization.learning_rate=1e30",
        "optimization.warm_up_steps=0",
        "run.checkpoint_every_steps=1",
    ]

    with pytest.raises(NonFiniteLossError, match=r"step 2, phase generator: loss (nan|inf) with"):
        train(tiny_recipe, data_root=data_root, run_dir=tmp_path / "run", overrides=overrides)

    _, info = load_generator(tmp_path / "run" / "checkpoint.safetensors")
    assert 1 == info.training["steps_done"]


def test_a_finished_run_is_not_overwritten(
    tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """A folder that holds a run is refused unless it is resumed."""
    overrides = ["optimization.steps=1"]
    train(tiny_recipe, data_root=data_root, run_dir=tmp_path / "run", overrides=overrides)

    with pytest.raises(RunDirError, match="already holds a run"):
        train(tiny_recipe, data_root=data_root, run_dir=tmp_path / "run", overrides=overrides)


def test_a_run_is_replaced_where_that_is_asked_for(
    tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """Nothing of the old run is left, and nothing that is not a run's is touched."""
    run_dir = tmp_path / "run"
    overrides = ["optimization.steps=10", 'data.held_out_sources=["hr/hr_3.png"]']
    train(tiny_recipe, data_root=data_root, run_dir=run_dir, overrides=overrides)
    (run_dir / "notes.txt").write_text("mine")
    old = {path.name for path in run_dir.iterdir()}

    train(
        tiny_recipe,
        data_root=data_root,
        run_dir=run_dir,
        overrides=["optimization.steps=5"],
        overwrite=True,
    )

    assert [5] == [record["step"] for record in _stats(run_dir)]
    assert 5 == json.loads((run_dir / "config.json").read_text())["optimization"]["steps"]
    assert ["step_000005.png"] == [path.name for path in (run_dir / "samples").iterdir()]
    assert old == {path.name for path in run_dir.iterdir()}


def test_a_run_that_is_to_be_replaced_is_kept_if_the_new_one_cannot_start(
    tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """Images are read before the old checkpoint goes."""
    run_dir = tmp_path / "run"
    train(tiny_recipe, data_root=data_root, run_dir=run_dir, overrides=["optimization.steps=1"])
    before = (run_dir / "checkpoint.safetensors").read_bytes()

    with pytest.raises(ImageFileError):
        train(
            tiny_recipe,
            data_root=data_root,
            run_dir=run_dir,
            overrides=['data.hr=["none"]'],
            overwrite=True,
        )

    assert before == (run_dir / "checkpoint.safetensors").read_bytes()


def test_a_line_of_statistics_that_a_kill_cut_off_does_not_stop_a_resume(
    tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """Lines are appended, so that the last one may be half; the resumed run writes it again."""
    run_dir = tmp_path / "run"
    _run_until(15, tiny_recipe, data_root=data_root, run_dir=run_dir)
    with (run_dir / "stats.jsonl").open("a") as file:
        file.write('{"step": 2')

    train(tiny_recipe, data_root=data_root, run_dir=run_dir, resume=True)

    assert [5, 10, 15, 20] == [record["step"] for record in _stats(run_dir)][:4]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_reported_before_anything_is_read(
    tiny_recipe: Path, tmp_path: Path
) -> None:
    """The folder of the data does not even exist: it has not been looked at."""
    with pytest.raises(DeviceError, match=r"'cuda', but torch finds no GPU.*device=cpu"):
        train(
            tiny_recipe,
            data_root=tmp_path / "none",
            run_dir=tmp_path / "run",
            overrides=["optimization.device=cuda"],
        )

    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["generator.hyper_parameters.fins=8"], UnknownGeneratorError, "fins"),
        (
            ["method.name=f_lsesim", 'data.lr=["lr"]', "degradation=estimate"],
            FeatureWeightsError,
            "VGG16",
        ),
    ],
)
def test_what_the_method_lacks_is_reported_before_anything_is_read(
    tiny_recipe: Path,
    tmp_path: Path,
    overrides: list[str],
    error: type[Exception],
    message: str,
) -> None:
    """The estimation takes minutes; a network that cannot be built does not wait for it."""
    with pytest.raises(error, match=message):
        train(
            tiny_recipe,
            data_root=tmp_path / "none",
            run_dir=tmp_path / "run",
            overrides=overrides,
            vgg16=tmp_path / "none.safetensors",
        )

    assert not (tmp_path / "run").exists()


def test_a_run_that_was_stopped_before_its_first_save_resumes_from_the_start(
    tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """The recipe is written first: the folder of a run that was stopped early is not a dead end."""
    recipe = load_recipe(tiny_recipe)
    RunDir(tmp_path / "run").start(recipe, resume=False)
    RunDir(tmp_path / "run").append_stats({"step": 5, "loss": 1.0})

    train(tiny_recipe, data_root=data_root, run_dir=tmp_path / "run", resume=True)

    assert [5, 10, 15, 20] == [record["step"] for record in _stats(tmp_path / "run")]


def _snapshot(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("place", ["build_method", "Trainer.run"])
def test_a_replaced_run_is_put_back_where_the_new_one_stops_before_its_first_save(
    tiny_recipe: Path,
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    error: type[BaseException],
) -> None:
    """A finished run gives way only to one that can be resumed, on Ctrl-C as well."""
    run_dir = tmp_path / "run"
    train(tiny_recipe, data_root=data_root, run_dir=run_dir, overrides=["optimization.steps=1"])
    before = _snapshot(run_dir)

    def stop(*_: object) -> None:
        (run_dir / "stats.jsonl").write_text("of the new run\n")
        raise error

    monkeypatch.setattr(f"training.trainer.{place}", stop)
    with pytest.raises(error):
        train(tiny_recipe, data_root=data_root, run_dir=run_dir, overwrite=True)

    assert before == _snapshot(run_dir)
    assert not (run_dir / ".replaced").exists()


@pytest.mark.parametrize("moved", ["part", "all"])
def test_a_run_that_a_kill_left_set_aside_is_refused_and_replaced_by_overwrite(
    tiny_recipe: Path, tmp_path: Path, moved: str
) -> None:
    """SIGKILL during the replacement loses nothing of the old run, and leads to no dead end."""
    recipe, path = load_recipe(tiny_recipe), tmp_path / "run"
    RunDir(path).start(recipe, resume=False)
    (path / "checkpoint.safetensors").write_bytes(b"old")
    before = _snapshot(path)
    if moved == "all":
        RunDir(path).start(recipe, resume=False, overwrite=True)
    else:
        (path / ".replaced").mkdir()
        (path / "checkpoint.safetensors").rename(path / ".replaced" / "checkpoint.safetensors")

    with pytest.raises(RunDirError, match="already holds a run"):
        RunDir(path).start(recipe, resume=False)
    folder = RunDir(path)
    folder.start(recipe, resume=False, overwrite=True)
    assert b"old" == (folder.replaced / "checkpoint.safetensors").read_bytes()
    assert not folder.checkpoint.exists()
    folder.put_back()

    assert before == _snapshot(path)


def test_a_replaced_run_is_removed_after_the_first_save(
    tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """The new run's folder holds the new run alone."""
    run_dir = tmp_path / "run"
    options = ["optimization.steps=1"]
    train(tiny_recipe, data_root=data_root, run_dir=run_dir, overrides=options)
    before = sorted(path.name for path in run_dir.iterdir())
    train(tiny_recipe, data_root=data_root, run_dir=run_dir, overrides=options, overwrite=True)

    assert before == sorted(path.name for path in run_dir.iterdir())


def test_nothing_to_resume_is_an_error(tiny_recipe: Path, data_root: Path, tmp_path: Path) -> None:
    """Resuming an empty folder must not quietly start anew."""
    with pytest.raises(RunDirError, match="holds no run to resume"):
        train(tiny_recipe, data_root=data_root, run_dir=tmp_path / "run", resume=True)


def test_resuming_with_another_recipe_is_an_error(
    tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """The recipe in the folder describes the run; half of each would be described by none."""
    overrides = ["optimization.steps=1"]
    train(tiny_recipe, data_root=data_root, run_dir=tmp_path / "run", overrides=overrides)

    with pytest.raises(ConfigError, match="differs from the one"):
        train(tiny_recipe, data_root=data_root, run_dir=tmp_path / "run", resume=True)


def test_resume_state_is_never_unpickled_into_objects(
    tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """A state file that would run code is refused and the code does not run."""
    train(
        tiny_recipe,
        data_root=data_root,
        run_dir=tmp_path / "run",
        overrides=["optimization.steps=1"],
    )
    trap = tmp_path / "trap"

    class Touch:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (trap,)

    (tmp_path / "run" / "state.pt").write_bytes(pickle.dumps(Touch(), protocol=2))

    with pytest.raises(pickle.UnpicklingError):
        train(
            tiny_recipe,
            data_root=data_root,
            run_dir=tmp_path / "run",
            overrides=["optimization.steps=1"],
            resume=True,
        )
    assert not trap.exists()


def test_average_follows_the_weights_and_is_what_is_saved(
    tiny_recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    """The checkpoint holds the moving average, computed step by step with the rising decay."""
    recipe = load_recipe(tiny_recipe, overrides=["optimization.steps=2"])
    folder = RunDir(tmp_path / "run")
    folder.start(recipe, resume=False)
    method = _supervised(recipe, data_root=data_root)
    trainer = Trainer(method, recipe=recipe, run_dir=folder)
    weight = method.generator.state_dict()["head.weight"]
    expected = weight.clone()
    draw = method.sampler.batch

    def follow() -> None:
        decay = min(0.9, (1 + trainer.step) / (10 + trainer.step))
        expected.mul_(decay).add_((1 - decay) * weight)

    def recording_batch(step: int) -> PairBatch:
        # Pictures draw the batch of step 0 again.
        if step > 0:
            follow()
        return draw(step)

    method.sampler.batch = recording_batch
    trainer.run()
    follow()

    saved = load_generator(folder.checkpoint)[0].state_dict()["head.weight"]
    assert torch.allclose(expected, saved, atol=1e-7)
    assert not torch.equal(weight, saved)


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_is_mixed_only_where_the_processor_computes_in_it(
    tiny_recipe: Path,
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    native: bool,
    expected: str,
) -> None:
    """Emulated bfloat16 would be many times slower than float32; the checkpoint says what ran."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    overrides = ["optimization.steps=2", "optimization.precision=auto"]

    path = train(tiny_recipe, data_root=data_root, run_dir=tmp_path / "run", overrides=overrides)

    _, info = load_generator(path)
    assert expected == info.training["precision"]
