"""MASA's training: stages, references, resume to the same bits, and that it learns."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models import UnknownGeneratorError, load_generator, load_network
from models.masa import Masa
from semsr.cli import main
from tests.training.conftest import grating
from training.config.masa import MasaConfig
from training.config.recipe import ConfigError, Recipe, find_recipe, load_recipe
from training.data.datasets import KnownTool
from training.data.given_pairs import load_pairs
from training.methods.build import build_method
from training.methods.inputs import Inputs
from training.methods.masa import MasaMethod
from training.run.folder import RunDir
from training.trainer import Trainer, train

RECIPE = """
name = "tiny-masa"
[generator]
name = "masa"
hyper_parameters = { channels = 4, encoder_blocks = 1, decoder_blocks = 1, blocks = [1, 1, 1] }
[data]
pairs = [{ input = "pairs/lr", target = "pairs/hr" }]
[method]
name = "masa"
perceptual_weight = 0.0
second_stage_start_share = 0.34
discriminator = { width = 2, num_layers = 2, hidden = 8 }
reference_gain = [0.8, 1.2]
[optimization]
steps = 9
batch_size = 3
crop_px = 12
learning_rate = 1e-3
warm_up_steps = 0
gradient_clip = 0
ema_decay = 0.5
threads = 1
[run]
log_every_steps = 3
checkpoint_every_steps = 3
picture_every_steps = 9
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe that trains in a second."""
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three aligned pairs of 22x20 and 88x80 px."""
    for number in range(3):
        fine = grating(side_px=88, seed=number)[:, :80]
        coarse = fine.reshape(22, 4, 20, 4).mean((1, 3))
        for folder, image in (("lr", np.rint(coarse).astype(np.uint8)), ("hr", fine)):
            (tmp_path / "pairs" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / "pairs" / folder / f"{number}.png")
    return tmp_path


def inputs_of(recipe: Path, root: Path, *overrides: str, vgg16: Path | None = None) -> Inputs:
    """Load what the method is built from."""
    loaded = load_recipe(recipe, overrides=overrides)
    pairs = load_pairs(loaded.data.pairs, loaded.data, data_root=root, scale=4)
    return Inputs(
        recipe=loaded,
        tools=[tool_of(loaded, pairs)],
        held_out=(),
        data_root=root,
        vgg16=vgg16,
        device=torch.device("cpu"),
        pairs=pairs,
    )


def tool_of(recipe: Recipe, pairs: Any) -> KnownTool:  # noqa: ANN401
    """Return the only tool: the images of the pairs."""
    assert recipe.degradation != "estimate"
    return KnownTool(
        name="",
        hr=[pair.hr for pair in pairs],
        lr=[pair.lr for pair in pairs],
        degradation=recipe.degradation,
        share=1.0,
    )


def method_of(inputs: Inputs) -> MasaMethod:
    """Build the method with weights of seed 0."""
    torch.manual_seed(0)
    method = build_method(inputs)
    assert isinstance(method, MasaMethod)
    return method


def stats_of(run: Path) -> list[dict[str, Any]]:
    """Read a run's statistics without what depends on the clock."""
    records = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in record.items() if k not in {"elapsed_s", "data_share"}}
        for record in records
    ]


def test_a_run_goes_through_both_stages(recipe: Path, root: Path, tmp_path: Path) -> None:
    """Pixels alone, then the discriminator too; the checkpoint is not a generator."""
    run = tmp_path / "run"

    path = train(recipe, data_root=root, run_dir=run)

    stats = stats_of(run)
    assert [3, 6, 9] == [record["step"] for record in stats]
    assert "gan" not in stats[0]
    assert {"pixel", "gan", "discriminator"} <= set(stats[1])
    network, info = load_network(path)
    assert isinstance(network, Masa)
    assert ("masa", 6) == (info.training["method"], info.training["data"]["image_count"])
    with pytest.raises(UnknownGeneratorError, match="needs a reference image"):
        load_generator(path)
    with Image.open(run / "samples" / "step_000009.png") as picture:
        # Three rows of bicubic | SR | HR | reference at 48 px, with gaps.
        assert (4 * 48 + 3 * 4, 3 * 48 + 2 * 4) == picture.size


def test_the_command_refuses_to_export_it(
    recipe: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No bundle can hold it, so that it cannot be served."""
    path = train(
        recipe, data_root=root, run_dir=tmp_path / "run", overrides=["optimization.steps=1"]
    )

    code = main(["export", str(path), "--out", str(tmp_path / "bundle"), "--tile", "16,16"])

    assert 1 == code
    assert "'masa' needs a reference image next to the LR image" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("reference", ["own", "other"])
def test_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(
    recipe: Path, root: Path, tmp_path: Path, reference: str
) -> None:
    """Weights, optimisers and the running statistics of batch norm come back exactly."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    overrides = [f"method.reference={reference}"]
    train(recipe, data_root=root, run_dir=whole, overrides=overrides)
    interrupt_after(7, recipe, root, parts, *overrides)

    train(recipe, data_root=root, run_dir=parts, overrides=overrides, resume=True)

    states = [torch.load(run / "state.pt", weights_only=True) for run in (whole, parts)]
    for key in ("generator", "average"):
        for name, tensor in states[0][key].items():
            assert torch.equal(tensor, states[1][key][name]), name
    judges = [state["modules"]["discriminator"] for state in states]
    assert {"layers.3.running_mean", "layers.3.num_batches_tracked"} <= judges[0].keys()
    for name, tensor in judges[0].items():
        assert torch.equal(tensor, judges[1][name]), name
    # Six steps of the second stage, each judging twice for either phase.
    assert 6 * 4 == int(judges[0]["layers.3.num_batches_tracked"])
    assert stats_of(whole) == stats_of(parts)


def interrupt_after(
    last_step: int, recipe: Path, root: Path, run_dir: Path, *overrides: str
) -> None:
    """Train, and lose power at a step after the last save."""
    inputs = inputs_of(recipe, root, *overrides)
    folder = RunDir(run_dir)
    folder.start(inputs.recipe, resume=False)
    method = method_of(inputs)
    prepare = method.prepare

    def failing(step: int) -> None:
        if step == last_step:
            raise InterruptedError
        prepare(step)

    method.prepare = failing
    with pytest.raises(InterruptedError):
        Trainer(method, recipe=inputs.recipe, run_dir=folder).run()


def test_over_fitting_one_pair_lowers_the_loss(recipe: Path, root: Path) -> None:
    """With the answer as its reference, a tiny network soon does better than bicubic."""
    overrides = ["method.adversarial_weight=0", "method.turns=none", "optimization.batch_size=2"]
    inputs = inputs_of(recipe, root, *overrides, "generator.hyper_parameters.channels=8")
    method = method_of(replace(inputs, pairs=inputs.pairs[:1]))
    [phase] = method.phases

    losses = []
    for _ in range(40):
        method.prepare(0)
        loss = phase.terms()["pixel"]
        phase.optimizer.zero_grad()
        loss.backward()
        phase.optimizer.step()
        losses.append(float(loss.detach()))

    # The untrained network is about bicubic.
    assert losses[-1] < 0.5 * losses[0]


def test_each_phase_reaches_its_own_weights(recipe: Path, root: Path) -> None:
    """The discriminator's loss leaves the network alone, and the network's the discriminator."""
    method = method_of(inputs_of(recipe, root, "method.second_stage_start_share=0"))
    assert method.discriminator is not None
    ours, theirs = list(method.generator.parameters()), list(method.discriminator.parameters())
    assert ["discriminator", "generator"] == [phase.name for phase in method.phases]
    method.prepare(0)

    sum(method.phases[0].terms().values(), torch.zeros(())).backward()
    assert all(p.grad is None for p in ours)
    assert all(p.grad is not None for p in theirs)

    method.discriminator.zero_grad()
    sum(method.phases[1].terms().values(), torch.zeros(())).backward()
    assert all(p.grad is not None for p in ours)
    assert all(p.grad is None and p.requires_grad for p in theirs)
    assert (0.0, 0.9) == method.phases[0].optimizer.param_groups[0]["betas"]
    assert (0.9, 0.999) == method.phases[1].optimizer.param_groups[0]["betas"]


def test_features_are_compared_in_the_second_stage(
    recipe: Path, root: Path, vgg16_path: Path
) -> None:
    """Their term is 0 for the answer itself, and its gradient reaches the output."""
    overrides = ["method.perceptual_weight=1.0", "method.adversarial_weight=0"]
    method = method_of(inputs_of(recipe, root, *overrides, vgg16=vgg16_path))
    method.prepare(0)
    assert {"pixel"} == method.phases[-1].terms().keys()
    method.prepare(8)

    terms = method.phases[-1].terms()
    (gradient,) = torch.autograd.grad(terms["perceptual"], method._sr)

    assert {"pixel", "perceptual"} == terms.keys()
    assert float(terms["perceptual"].detach()) > 0
    assert float(gradient.abs().max()) > 0
    method._laid_on_hr = method._batch.hr.clone()
    assert 0 == float(method.phases[-1].terms()["perceptual"].detach())


def test_held_out_pairs_are_measured_with_the_kind_of_reference_trained_with(
    recipe: Path, root: Path
) -> None:
    """A network that answers with its reference shows which one it got."""
    for kind, is_perfect in (("own", True), ("other", False)):
        inputs = inputs_of(recipe, root, f"method.reference={kind}")
        method = method_of(replace(inputs, held_out_pairs=inputs.pairs[1:], pairs=inputs.pairs[:2]))

        class Copy(Masa):
            """Answers with its reference."""

            def forward(self, lr: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
                """Return the reference."""
                return reference

        found = method.validate(Copy(channels=1, blocks=(0, 0, 0)))["held_out_psnr_db"]
        assert is_perfect == np.isinf(found)
    assert {} == method_of(inputs_of(recipe, root)).validate(Masa(channels=1, blocks=(0, 0, 0)))


def test_the_recipe_is_the_published_one() -> None:
    """Sizes and weights of the paper; the end of its cosine after 300 of 500 epochs."""
    recipe = load_recipe(find_recipe("masa"))

    config, options = recipe.method, recipe.optimization
    assert isinstance(config, MasaConfig)
    assert (9, 40, 300 * 80) == (options.batch_size, options.crop_px, options.steps)
    assert 250 * 80 == pytest.approx(config.second_stage_start_share * options.steps, abs=2)
    cut = (1 + np.cos(np.pi * 300 / 500)) / 2
    assert cut == pytest.approx(options.final_learning_rate / options.learning_rate, abs=1e-4)
    assert {**recipe.generator.hyper_parameters} == Masa().hyper_parameters
    assert (1.0, 1.0, 5e-3) == (
        config.pixel_weight,
        config.perceptual_weight,
        config.adversarial_weight,
    )
    assert ("pairs",) == config.needs
    assert ("relu4_3",) == config.vgg16_taps


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.pairs=[]", 'data.hr=["hr"]'], "method needs pairs of LR and HR images"),
        (["method.reference_gain=[1.2, 0.8]"], "reference_gain is 1.2, 0.8; expected 0 < low"),
        (["method.reference_px=64"], "reference_px is the side of another's crop"),
        (["method.reference=kind"], "reference"),
    ],
)
def test_wrong_entries_are_named(recipe: Path, overrides: list[str], message: str) -> None:
    """Before an image is read."""
    with pytest.raises(ConfigError, match=message):
        load_recipe(recipe, overrides=overrides)


def test_a_generator_is_refused(recipe: Path, root: Path) -> None:
    """It would never see its reference."""
    with pytest.raises(ConfigError, match="'rep_sr' takes the LR image alone"):
        build_method(inputs_of(recipe, root, 'generator={name="rep_sr"}'))


def test_the_pixel_loss_knows_the_shift_of_its_pair(recipe: Path, root: Path) -> None:
    """An output that is right but for a known shift costs nothing, inside the margin."""
    inputs = inputs_of(recipe, root, "method.turns=none")
    shifted = [replace(pair, dy=2.0, dx=-1.0) for pair in inputs.pairs]

    class Answer(Masa):
        """Answers with its reference, the true HR crop, where the LR image has it."""

        def forward(self, lr: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
            """Return the reference moved back: the scene in HR lies 2 px down and 1 px left."""
            return torch.roll(reference, (-2, 1), (2, 3)) + 0 * sum(
                p.sum() for p in self.parameters()
            )

    losses = {}
    for name, pairs in (("known", shifted), ("unknown", inputs.pairs)):
        plain = inputs_of(recipe, root, "method.turns=none", "method.reference_gain=[1.0, 1.0]")
        method = method_of(replace(plain, pairs=pairs, held_out_pairs=pairs[:1]))
        method.generator = Answer(channels=1, blocks=(0, 0, 0))
        method.prepare(0)
        losses[name] = float(method.phases[-1].terms()["pixel"].detach())
        losses[f"{name} psnr"] = method.validate(method.generator)["held_out_psnr_db"]

    assert losses["known"] < 1e-6 < 1e-3 < losses["unknown"]
    assert losses["known psnr"] > 60 > losses["unknown psnr"]
    far = [replace(pair, dy=30.0) for pair in inputs.pairs]
    with pytest.raises(ConfigError, match=r"up to 30.0 px, which leaves nothing of a crop of 48"):
        method_of(replace(inputs_of(recipe, root), pairs=far))
