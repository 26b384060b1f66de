"""Super-resolution from given pairs: learns, resumes, forgives what pairs do not determine."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from models import load_generator
from training.config.method import SupervisedConfig
from training.config.paired import PairedSRConfig
from training.config.recipe import ConfigError, load_recipe
from training.data.datasets import KnownTool, load_tools
from training.data.given_pairs import SourcePair, load_pairs
from training.data.images import SourceImage
from training.ground.baselines import bicubic, fit_gain_offset
from training.ground.quality import psnr
from training.methods.inputs import Inputs
from training.methods.paired import PairedSR
from training.methods.parts.held_out_pairs import pair_quality
from training.run.folder import RunDir
from training.trainer import Trainer, train

RECIPE = """
name = "tiny-paired"
[generator]
name = "grain_sr"
hyper_parameters = { channels = 8, num_blocks = 2, scale = 2 }
[data]
pairs = [{ input = "pairs/lr", target = "pairs/hr" }]
held_out_pairs = [{ input = "other/lr", target = "other/hr" }]
[method]
name = "paired"
[method.adversarial]
learning_rate = 1e-3
pool_size = 3
discriminator = { width = 4, num_layers = 1, norm = "none" }
[optimization]
steps = 12
batch_size = 4
crop_px = 16
learning_rate = 3e-3
warm_up_steps = 2
betas = [0.9, 0.99]
gradient_clip = 5.0
ema_decay = 0.9
threads = 1
[run]
log_every_steps = 3
validate_every_steps = 12
checkpoint_every_steps = 6
picture_every_steps = 12
"""

SIDE_PX = 96


def scene(seed: int, *, noise: float = 3.0) -> NDArray[np.float64]:
    """Draw sharp patches of two greys with a rough border, (SIDE_PX, SIDE_PX)."""
    rng = np.random.default_rng(seed)
    waves = ndimage.gaussian_filter(rng.standard_normal((SIDE_PX, SIDE_PX)), 4.0, mode="wrap")
    return 90 + 50 * np.tanh(60 * waves) + noise * rng.standard_normal(waves.shape)


def as_grey(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Round to grey levels."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def write_pairs(folder: Path, seeds: range, *, scale: int = 2, top: bool = False) -> None:
    """Write aligned pairs: LR is blurred, shrunk and noisier; the look `top` is inverted."""
    for name in ("lr", "hr"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        hr = scene(seed) if not top else 220 - scene(seed)
        blurred = ndimage.gaussian_filter(hr, 1.0, mode="wrap")
        side = SIDE_PX // scale
        lr = blurred.reshape(side, scale, side, scale).mean(axis=(1, 3))
        lr = lr + 14.0 * np.random.default_rng((seed, 1)).standard_normal(lr.shape)
        for kind, picture in (("lr", lr), ("hr", hr)):
            Image.fromarray(as_grey(picture)).save(folder / kind / f"{seed:04d}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight pairs of 48 and 96 px to train on, two of them inverted, and two others."""
    write_pairs(tmp_path / "pairs", range(6))
    write_pairs(tmp_path / "pairs", range(6, 8), top=True)
    write_pairs(tmp_path / "other", range(20, 22))
    return tmp_path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe that trains in a second or two."""
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def inputs_of(recipe: Path, root: Path, *overrides: str, vgg16: Path | None = None) -> Inputs:
    """Load what the method is built from."""
    loaded = load_recipe(recipe, overrides=overrides)
    pairs, held_out = (
        load_pairs(configs, loaded.data, data_root=root, scale=loaded.scale)
        for configs in (loaded.data.pairs, loaded.data.held_out_pairs)
    )
    assert loaded.degradation != "estimate"
    tools = load_tools(loaded, data_root=root, pairs=pairs)
    return Inputs(
        recipe=loaded,
        tools=[KnownTool(**{**vars(tool), "degradation": loaded.degradation}) for tool in tools],
        held_out=(),
        data_root=root,
        vgg16=vgg16,
        device=torch.device("cpu"),
        pairs=pairs,
        held_out_pairs=held_out,
    )


def method_of(inputs: Inputs) -> PairedSR:
    """Build the method."""
    config = inputs.recipe.method
    assert isinstance(config, PairedSRConfig)
    torch.manual_seed(0)
    return PairedSR(inputs, config)


def stats_of(run: Path) -> list[dict[str, Any]]:
    """Read a run's statistics without what depends on the clock."""
    records = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    clock = {"elapsed_s", "data_share"}
    return [{k: v for k, v in record.items() if k not in clock} for record in records]


def generator_terms(method: PairedSR, step: int) -> Mapping[str, torch.Tensor]:
    """Return the terms of the generator's phase at a step."""
    method.prepare(step)
    return method.phases[-1].terms()


def test_both_stages_train_and_the_checkpoint_names_the_pairs(
    recipe: Path, root: Path, tmp_path: Path
) -> None:
    """Pixels from the start, the adversary from half of the run on; held-out pairs are judged."""
    run = tmp_path / "run"

    path = train(recipe, data_root=root, run_dir=run)

    stats = stats_of(run)
    first = {"pixel", "tone", "energy"}
    assert first <= set(stats[0])
    assert not {"gan", "discriminator"} & set(stats[0])
    assert first | {"gan", "discriminator"} <= set(stats[-1])
    judged = {key for key in stats[-1] if key.startswith("held_out")}
    assert judged == {
        "held_out_psnr_db",
        "held_out_ssim",
        "held_out_fitted_psnr_db",
        "held_out_fitted_ssim",
        "held_out_structure_psnr_db",
        "held_out_bicubic_psnr_db",
    }
    _, info = load_generator(path)
    data = info.training["data"]
    assert (16, 8, ["other/lr/0020.png", "other/lr/0021.png"]) == (
        data["image_count"],
        data["pairs"],
        data["held_out_pairs"],
    )
    assert info.training["degradation"] is None


def test_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(
    recipe: Path, root: Path, tmp_path: Path
) -> None:
    """Discriminator, optimisers, pool and balance of a killed run are restored exactly."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    overrides = ["optimization.steps=9", "method.adversarial.start_share=0.3"]
    train(recipe, data_root=root, run_dir=whole, overrides=overrides)
    inputs = inputs_of(recipe, root, *overrides)
    folder = RunDir(parts)
    folder.start(inputs.recipe, resume=False)
    method = method_of(inputs)
    prepare = method.prepare

    def failing(step: int) -> None:
        if step == 8:
            raise InterruptedError
        prepare(step)

    method.prepare = failing
    with pytest.raises(InterruptedError):
        Trainer(method, recipe=inputs.recipe, run_dir=folder).run()

    train(recipe, data_root=root, run_dir=parts, overrides=overrides, resume=True)

    expected, _ = load_generator(whole / "checkpoint.safetensors")
    actual, _ = load_generator(parts / "checkpoint.safetensors")
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, actual.state_dict()[name]), name
    assert stats_of(whole) == stats_of(parts)


def learned_gain_db(recipe: Path, root: Path, run: Path, *overrides: str) -> float:
    """Train, and return how much better than bicubic held-out pairs are, after gain and offset."""
    train(recipe, data_root=root, run_dir=run, overrides=overrides)
    last = stats_of(run)[-1]
    return last["held_out_structure_psnr_db"] - last["held_out_bicubic_psnr_db"]


def test_held_out_pairs_become_a_decibel_better_than_bicubic(
    recipe: Path, root: Path, tmp_path: Path
) -> None:
    """In 80 steps of tiny crops, on pairs of two looks."""
    overrides = ["optimization.steps=80", "method.adversarial.weight=0"]

    assert learned_gain_db(recipe, root, tmp_path / "run", *overrides) > 1.0


@pytest.mark.slow
def test_the_second_stage_keeps_the_gain(recipe: Path, root: Path, tmp_path: Path) -> None:
    """600 steps, half of them with the adversary."""
    overrides = ["optimization.steps=600", "optimization.ema_decay=0.98"]

    assert learned_gain_db(recipe, root, tmp_path / "run", *overrides) > 1.5


def test_discriminator_sees_the_enlarged_lr_image_too(recipe: Path, root: Path) -> None:
    """Two channels; the first is the enlarged LR, the second HR or SR, at the same place."""
    inputs = inputs_of(recipe, root)
    method = method_of(inputs)
    assert method.adversary is not None
    method.prepare(11)

    real, fake = method._judged(method.adversary)

    first = next(method.adversary.discriminator.parameters())
    assert 2 == first.shape[1]
    assert (4, 2, 30, 30) == tuple(real.shape) == tuple(fake.shape)
    source = method._source[..., 1:-1, 1:-1]
    assert torch.equal(source, fake[:, :1])
    assert torch.equal(source, real[:, :1])
    assert torch.equal(method._aligned.hr, real[:, 1:])
    torch.testing.assert_close(method._sr[..., 1:-1, 1:-1], fake[:, 1:], rtol=0, atol=1e-6)


def test_the_discriminator_cannot_tell_by_the_pairs_shift(recipe: Path, root: Path) -> None:
    """The enlarged LR of the real pair is moved as HR lies; HR and SR are not interpolated."""
    inputs = inputs_of(recipe, root)
    shifted = [replace(pair, dy=0.4, dx=-0.2) for pair in inputs.pairs]
    method = method_of(replace(inputs, pairs=shifted))
    assert method.adversary is not None
    method.prepare(11)

    real, fake = method._judged(method.adversary)

    assert 3 == method.margin_px
    assert torch.equal(method._source[..., 3:-3, 3:-3], fake[:, :1])
    assert not torch.equal(real[:, :1], fake[:, :1])
    levels = 255 * real[:, 1:]
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)


def test_each_phase_changes_only_its_own_weights(recipe: Path, root: Path) -> None:
    """The generator's loss reaches all of its weights and none of the discriminator's."""
    method = method_of(inputs_of(recipe, root))
    terms = generator_terms(method, 11)

    sum(terms.values(), torch.zeros(())).backward()

    assert {"pixel", "tone", "gan", "energy"} == set(terms)
    assert ["discriminator", "generator"] == [phase.name for phase in method.phases]
    assert all(p.grad is not None for p in method.generator.parameters())
    assert method.adversary is not None
    assert all(p.grad is None for p in method.adversary.discriminator.parameters())


def test_pixel_and_tone_train_the_structure_and_energy_the_grain(recipe: Path, root: Path) -> None:
    """The last layer gives the structure by its first 4 channels, the amplitude by the others."""
    method = method_of(inputs_of(recipe, root))
    terms = generator_terms(method, 0)
    tail = method.generator.get_parameter("trunk.tail.weight")

    reached = {
        name: tuple(
            float(part.abs().max()) > 1e-9
            for part in torch.autograd.grad(term, tail, retain_graph=True)[0].split(4)
        )
        for name, term in terms.items()
    }

    assert {"pixel": (True, False), "tone": (True, False), "energy": (False, True)} == reached


def test_tone_punishes_an_inverted_picture_that_the_fit_may_hide(recipe: Path, root: Path) -> None:
    """Gain and offset hide a drift of tone from the pixels, but not an inversion."""
    method = method_of(inputs_of(recipe, root, "method.charbonnier_eps=0.001"))

    def terms_for(change: float, offset: float) -> dict[str, float]:
        def answer(lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            hr = method.sampler.batch(0).hr
            structure = change * hr + offset + 0 * lr.mean()
            return structure, torch.zeros_like(structure), torch.zeros_like(structure)

        method.generator.parts = answer  # type: ignore[method-assign]
        found = generator_terms(method, 0)
        return {name: float(found[name]) for name in ("pixel", "tone")}

    perfect, drifted, inverted = terms_for(1, 0), terms_for(0.8, 0.05), terms_for(-1, 0.8)

    assert 0.02 == pytest.approx(perfect["pixel"])
    assert drifted["pixel"] < 1.1 * perfect["pixel"]
    assert drifted["tone"] > 5 * perfect["tone"]
    assert inverted["pixel"] > 50 * perfect["pixel"]
    assert inverted["tone"] > 3 * drifted["tone"]


def test_features_and_self_similarity_set_in_with_the_second_stage(
    recipe: Path, root: Path, vgg16_path: Path
) -> None:
    """Both are off by default, compare the structure, and grow with the adversary's ramp."""
    overrides = [
        "method.features_weight=0.1",
        "method.self_similarity.weight=0.3",
        "method.self_similarity.taps=['relu3_1']",
        "method.adversarial={weight=0.0, start_share=0.5, ramp_share=0.5}",
        "optimization.crop_px=32",
        "optimization.batch_size=1",
    ]
    inputs = inputs_of(recipe, root, *overrides, vgg16=vgg16_path)
    method = method_of(inputs)
    assert ("relu3_1",) == inputs.recipe.method.vgg16_taps
    assert method.adversary is None

    early, half, late = (generator_terms(method, step) for step in (5, 8, 11))

    assert not {"features", "self_similarity"} & set(early)
    assert {"features", "self_similarity"} <= set(half)
    tail = method.generator.get_parameter("trunk.tail.weight")
    for name in ("features", "self_similarity"):
        (gradient,) = torch.autograd.grad(late[name], tail, retain_graph=True)
        assert float(gradient[:4].abs().max()) > 0
        assert 0 == float(gradient[4:].abs().max())


def test_held_out_figures_with_and_without_the_fit() -> None:
    """A generator that is bicubic with another tone: the fit finds it, the plain figures do not."""
    hr = as_grey(scene(3))
    lr = as_grey(hr.reshape(48, 2, 48, 2).mean(axis=(1, 3)))
    pair = pair_of(lr, hr)

    class Brighter(torch.nn.Module):
        """Bicubic, brighter by 20 grey levels."""

        scale = 2

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            grey = (image[0, 0] * 255).round().byte().numpy()
            return torch.from_numpy(bicubic(grey, scale=2))[None, None] / 255 + 20 / 255

    measure = pair_quality([pair], scale=2)
    found = measure(Brighter())  # type: ignore[arg-type] - a stand-in with the same call

    floor = psnr(fit_gain_offset(bicubic(lr, scale=2), hr), hr)
    assert floor == pytest.approx(found["held_out_bicubic_psnr_db"])
    assert floor == pytest.approx(found["held_out_fitted_psnr_db"], abs=0.05)
    assert found["held_out_psnr_db"] < floor - 3
    assert found["held_out_ssim"] < found["held_out_fitted_ssim"] < 1
    assert {} == pair_quality([], scale=2)(Brighter())  # type: ignore[arg-type]


def pair_of(lr: NDArray[np.uint8], hr: NDArray[np.uint8]) -> SourcePair:
    """Make a pair of two pictures."""
    lr_image, hr_image = (
        SourceImage(name=name, source=name, pixels=pixels)
        for name, pixels in (("lr", lr), ("hr", hr))
    )
    return SourcePair(name="p", lr=lr_image, hr=hr_image)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.hr=['pairs/hr']"], "trains on data.pairs alone; expected no data.hr"),
        (
            [
                "generator.name=rep_sr",
                "method.adversarial.reaches=grain",
                "method.adversarial.balanced=false",
            ],
            "'rep_sr' does not give structure and grain apart",
        ),
    ],
)
def test_recipes_that_do_not_fit_are_refused(
    recipe: Path, root: Path, overrides: list[str], message: str
) -> None:
    """Nothing is silently ignored."""
    with pytest.raises(ConfigError, match=message):
        method_of(inputs_of(recipe, root, *overrides))


def test_shifts_must_leave_something_of_a_crop(recipe: Path, root: Path) -> None:
    """The error names the largest shift."""
    inputs = inputs_of(recipe, root)
    far = [replace(pair, dy=9.0) for pair in inputs.pairs]

    with pytest.raises(ConfigError, match=r"shifted by up to 9\.0 px"):
        method_of(replace(inputs, pairs=far))


def test_sections_are_checked(recipe: Path) -> None:
    """Pairs are needed; learned metrics are another method's; partial sections keep defaults."""
    with pytest.raises(ConfigError, match=r"data\.pairs is empty"):
        load_recipe(recipe, overrides=["data.pairs=[]"])
    with pytest.raises(ConfigError, match="learned is 'official'; expected none"):
        load_recipe(
            recipe,
            overrides=[
                "method.self_similarity.weight=1.0",
                "method.self_similarity.learned=official",
            ],
        )
    loaded = load_recipe(recipe, overrides=["method.adversarial.weight=0.05"]).method
    assert isinstance(loaded, PairedSRConfig)
    adversarial = loaded.adversarial
    assert (0.05, True, 0.5, 0.1) == (
        adversarial.weight,
        adversarial.balanced,
        adversarial.start_share,
        adversarial.ramp_share,
    )
    assert () == loaded.vgg16_taps != ("relu3_1",)
    assert ("hr",) == SupervisedConfig().needs
    assert ("pairs",) == loaded.needs
