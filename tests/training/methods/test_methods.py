"""Methods of training: each learns, resumes to the same bits, and keeps its promises."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models import load_generator
from models.grain_sr import GrainSR
from models.grain_unet import GrainUNet
from training.config.degradation import DegradationConfig
from training.config.method import FLSeSimConfig
from training.config.recipe import ConfigError, find_recipe, load_recipe
from training.config.terms import StatisticsConfig
from training.data.datasets import KnownTool, load_lr_images, load_training_images
from training.data.degradation.noise import estimate_noise
from training.methods.build import build_method
from training.methods.f_lsesim import FLSeSim
from training.methods.inputs import Inputs
from training.methods.method import ramp, step_generator
from training.methods.parts.unpaired_terms import statistics_terms
from training.run import preparation
from training.run.folder import RunDir
from training.run.warm_start import WarmStart
from training.trainer import NonFiniteLossError, Trainer, train

RECIPE = """
name = "tiny-unpaired"
[generator]
name = "grain_sr"
hyper_parameters = { channels = 8, num_blocks = 2, scale = 4 }
[data]
lr = ["lr"]
hr = ["hr"]
[method]
name = "f_lsesim"
self_similarity = { weight = 0.0 }
paired = { share = 0.5, planted = [1, 2], patch_share = 0.5 }
statistics = { histogram_weight = 1.0 }
[method.adversarial]
weight = 0.5
learning_rate = 1e-3
pool_size = 3
start_share = 0.34
ramp_share = 0.34
discriminator = { width = 4, num_layers = 1 }
[degradation]
gain = [1.4, 1.4]
[optimization]
steps = 12
batch_size = 4
crop_px = 16
learning_rate = 2e-3
warm_up_steps = 2
ema_decay = 0.9
threads = 1
[run]
log_every_steps = 3
checkpoint_every_steps = 6
picture_every_steps = 12
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of the unpaired method that trains in a second."""
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def inputs_of(recipe: Path, root: Path, *overrides: str, vgg16: Path | None = None) -> Inputs:
    """Load what a method is built from."""
    loaded = load_recipe(recipe, overrides=overrides)
    assert loaded.degradation != "estimate"
    return Inputs(
        recipe=loaded,
        tools=[
            KnownTool(
                name="",
                hr=load_training_images(loaded.data, [loaded.data.hr], data_root=root)[0],
                lr=load_lr_images(loaded.data, data_root=root),
                degradation=loaded.degradation,
                share=1.0,
            )
        ],
        held_out=(),
        data_root=root,
        vgg16=vgg16,
        device=torch.device("cpu"),
    )


def stats_of(run: Path) -> list[dict[str, Any]]:
    """Read a run's statistics without what depends on the clock."""
    records = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in record.items() if k not in {"elapsed_s", "data_share"}}
        for record in records
    ]


def test_f_lsesim_trains_and_shows_itself(
    recipe: Path, unpaired_root: Path, tmp_path: Path
) -> None:
    """Loss terms of every phase are logged, pictures are drawn, the checkpoint says what it is."""
    run = tmp_path / "run"

    path = train(recipe, data_root=unpaired_root, run_dir=run)

    stats = stats_of(run)
    assert [3, 6, 9, 12] == [record["step"] for record in stats]
    assert "gan" not in stats[0]
    assert {"gan", "discriminator", "pixel", "energy", "consistency", "histogram"} <= set(stats[-1])
    generator, info = load_generator(path)
    assert isinstance(generator, GrainSR)
    assert "f_lsesim" == info.training["method"]
    assert 8 == info.training["data"]["image_count"]
    assert (run / "curves.png").is_file()
    with Image.open(run / "samples" / "step_000012.png") as picture:
        # Three rows of bicubic | SR at 16 LR px, with gaps.
        assert (2 * 64 + 4, 3 * 64 + 2 * 4) == picture.size


def test_grain_is_bounded_by_the_noise_of_the_hr_images(recipe: Path, unpaired_root: Path) -> None:
    """The bound is measured on the images that the run is given."""
    inputs = inputs_of(recipe, unpaired_root)
    noise = estimate_noise([image.pixels for image in inputs.hr])

    method = build_method(inputs)

    generator = method.generator
    assert isinstance(generator, GrainSR)
    base, slope = generator.head.noise_variance.tolist()
    assert noise.base + noise.slope > 0
    assert pytest.approx((noise.base, noise.slope), rel=1e-5) == (base * 255**2, slope * 255)


@pytest.mark.parametrize("share", [0.25, 4.0])
def test_trained_grain_keeps_its_bound_where_that_is_wider(
    recipe: Path, unpaired_root: Path, share: float
) -> None:
    """Its weights are shares of the bound: a narrower one would weaken the grain at once."""
    fresh = build_method(inputs_of(recipe, unpaired_root)).generator
    assert isinstance(fresh, GrainSR)
    measured = fresh.head.noise_variance.clone()
    fresh.head.noise_variance.mul_(share)
    start = WarmStart(weights=fresh.state_dict(), source={})

    generator = build_method(replace(inputs_of(recipe, unpaired_root), start=start)).generator

    assert isinstance(generator, GrainSR)
    assert torch.equal(measured * max(share, 1.0), generator.head.noise_variance)


def test_several_tools_are_estimated_and_described_apart(
    recipe: Path, unpaired_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pair of folders gets ranges of its own, which the run keeps and the checkpoint tells."""
    tool = '[[tools]]\nname = "line-2"\nlr = ["lr"]\nhr = ["hr"]\nshare = 0.25\n'
    recipe.write_text(RECIPE + tool)
    run = tmp_path / "run"
    found = SimpleNamespace(config=DegradationConfig(gain=(1.1, 1.2)))
    monkeypatch.setattr(preparation, "estimate_degradation", lambda *_, **__: found)

    path = train(recipe, data_root=unpaired_root, run_dir=run, overrides=["optimization.steps=2"])

    _, info = load_generator(path)
    [described] = info.training["tools"]
    estimated = json.loads((run / "degradation-line-2.json").read_text())
    assert ("line-2", 0.25, estimated) == (
        described["name"],
        described["share"],
        described["degradation"],
    )
    # The first tool's are those of the recipe.
    assert [1.4, 1.4] == info.training["degradation"]["gain"] != estimated["gain"]
    assert not (run / "degradation.json").exists()


def test_resumed_unpaired_run_ends_bit_for_bit_like_an_uninterrupted_one(
    recipe: Path, unpaired_root: Path, tmp_path: Path
) -> None:
    """Discriminator, optimisers and pool of a killed run come back exactly."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(recipe, data_root=unpaired_root, run_dir=whole)
    interrupt_after(8, recipe, root=unpaired_root, run_dir=parts)

    train(recipe, data_root=unpaired_root, run_dir=parts, resume=True)

    expected, _ = load_generator(whole / "checkpoint.safetensors")
    actual, _ = load_generator(parts / "checkpoint.safetensors")
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, actual.state_dict()[name]), name
    assert stats_of(whole) == stats_of(parts)


def interrupt_after(
    last_step: int, recipe: Path, *, root: Path, run_dir: Path, overrides: Sequence[str] = ()
) -> None:
    """Train, and lose power at a step after the last save."""
    inputs = inputs_of(recipe, root, *overrides)
    folder = RunDir(run_dir)
    folder.start(inputs.recipe, resume=False)
    torch.manual_seed(inputs.recipe.optimization.seed)
    config = inputs.recipe.method
    assert isinstance(config, FLSeSimConfig)
    method = FLSeSim(inputs, config)
    prepare = method.prepare

    def failing(step: int) -> None:
        if step == last_step:
            raise InterruptedError
        prepare(step)

    method.prepare = failing
    with pytest.raises(InterruptedError):
        Trainer(method, recipe=inputs.recipe, run_dir=folder).run()


def test_the_generators_phase_leaves_the_discriminator_alone(
    recipe: Path, unpaired_root: Path
) -> None:
    """Its loss reaches every weight of the generator and none of the discriminator."""
    inputs = inputs_of(recipe, unpaired_root, "method.adversarial.start_share=0")
    config = inputs.recipe.method
    assert isinstance(config, FLSeSimConfig)
    torch.manual_seed(0)
    method = FLSeSim(inputs, config)
    method.prepare(7)

    sum(method.phases[-1].terms().values(), torch.zeros(())).backward()

    assert ["discriminator", "generator"] == [phase.name for phase in method.phases]
    assert all(p.grad is not None for p in method.generator.parameters())
    assert method.adversary is not None
    weights = list(method.adversary.discriminator.parameters())
    assert all(p.grad is None and p.requires_grad for p in weights)


def test_pixel_and_energy_terms_see_pairs_only(recipe: Path, unpaired_root: Path) -> None:
    """Real LR crops have no aligned HR crop: their pixels must not be compared with one."""
    inputs = inputs_of(recipe, unpaired_root)
    config = inputs.recipe.method
    assert isinstance(config, FLSeSimConfig)
    method = FLSeSim(inputs, config)
    method.prepare(0)
    terms = method.phases[-1].terms()

    (gradient,) = torch.autograd.grad(terms["pixel"] + terms["energy"], method._sr)

    assert float(gradient[:2].abs().max()) > 0
    assert 0 == float(gradient[2:].abs().max())


def gradients_of(method: FLSeSim, term: str) -> tuple[float, float]:
    """Return the largest gradients of a term: at the structure, and at the grain's amplitude.

    The last layer gives the structure by its first 16 channels and the amplitude by the others.
    """
    loss = method.phases[-1].terms()[term]
    tail = method.generator.get_parameter("trunk.tail.weight")
    (gradient,) = torch.autograd.grad(loss, tail)
    return float(gradient[:16].abs().max()), float(gradient[16:].abs().max())


@pytest.mark.parametrize("learned", [[], ["method.self_similarity.learned=official"]])
def test_self_similarity_compares_structure_and_not_grain(
    recipe: Path, unpaired_root: Path, vgg16_path: Path, learned: list[str]
) -> None:
    """Wanted grain must not be punished: how much of it there is gets no gradient from FSeSim."""
    overrides = ["method.self_similarity.weight=1.0", *learned]
    inputs = inputs_of(recipe, unpaired_root, *overrides, vgg16=vgg16_path)
    config = inputs.recipe.method
    assert isinstance(config, FLSeSimConfig)
    method = FLSeSim(inputs, config)
    method.prepare(1)

    at_structure, at_grain = gradients_of(method, "self_similarity")

    assert at_structure > 0
    assert 0 == at_grain


@pytest.mark.parametrize(
    ("reaches", "structure", "grain"),
    [("all", True, True), ("structure", True, False), ("grain", False, True)],
)
def test_the_adversarial_term_changes_what_the_recipe_says(
    recipe: Path, unpaired_root: Path, reaches: str, structure: bool, grain: bool
) -> None:
    """The discriminator sees the whole image in each case."""
    inputs = inputs_of(recipe, unpaired_root, f"method.adversarial.reaches={reaches}")
    config = inputs.recipe.method
    assert isinstance(config, FLSeSimConfig)
    method = FLSeSim(inputs, config)
    method.prepare(11)

    assert method.adversary is not None
    _, judged = method._judged(method.adversary)
    at_structure, at_grain = gradients_of(method, "gan")

    # Their sum is that of the output up to rounding.
    torch.testing.assert_close(judged, method._sr[-len(judged) :], rtol=0, atol=1e-6)
    floor = 1e-7 * max(at_structure, at_grain)
    assert (structure, grain) == (at_structure > floor, at_grain > floor)


def test_a_balanced_adversary_pulls_at_the_structure_by_its_weight(
    recipe: Path, unpaired_root: Path
) -> None:
    """Weight 0.5 is half the gradient of the structure terms, whatever the losses' scales are."""
    overrides = ["method.adversarial.balanced=true", "method.adversarial.discriminator.norm=none"]
    inputs = inputs_of(recipe, unpaired_root, *overrides, "method.adversarial.start_share=0")
    config = inputs.recipe.method
    assert isinstance(config, FLSeSimConfig)
    method = FLSeSim(inputs, config)
    method.prepare(8)

    terms = dict(method.phases[-1].terms())
    adversarial = terms.pop("gan")
    del terms["histogram"]  # a matter of look, not of structure
    norms = [
        torch.autograd.grad(loss, method._picture(), retain_graph=True)[0].norm()
        for loss in (adversarial, sum(terms.values(), torch.zeros(())))
    ]

    assert pytest.approx(0.5, rel=1e-3) == float(norms[0] / norms[1])


def test_balance_needs_an_adversary_that_reaches_the_structure(recipe: Path) -> None:
    """It compares gradients there."""
    overrides = ["method.adversarial.balanced=true", "method.adversarial.reaches=grain"]

    with pytest.raises(ConfigError, match="balanced compares gradients at the structure"):
        load_recipe(recipe, overrides=overrides)


def test_a_generator_without_parts_refuses_an_adversary_of_one_of_them(
    recipe: Path, unpaired_root: Path
) -> None:
    """Nothing is silently ignored."""
    overrides = ["generator.name=rep_sr", "method.adversarial.reaches=grain"]

    with pytest.raises(ConfigError, match="'rep_sr' does not give structure and grain apart"):
        build_method(inputs_of(recipe, unpaired_root, *overrides))


def test_grain_of_flats_changes_the_grain_alone() -> None:
    """If the structure could follow, everything faint would be made flat."""
    draws = torch.Generator().manual_seed(0)
    structure = torch.full((1, 1, 64, 64), 0.4, requires_grad=True)
    grain = (0.01 * torch.randn(1, 1, 64, 64, generator=draws)).requires_grad_()
    real = 0.4 + 0.02 * torch.randn(1, 1, 64, 64, generator=draws)
    config = StatisticsConfig(flat_grain_weight=1.0)

    terms = statistics_terms(
        structure + grain, real, config, structure=structure, generator=torch.Generator()
    )
    at_structure, at_grain = torch.autograd.grad(
        terms["flat_grain"], [structure, grain], allow_unused=True
    )

    assert float(at_grain.abs().max()) > 0
    assert at_structure is None or float(at_structure.abs().max()) < 1e-9


def test_the_grain_can_be_trained_alone(recipe: Path, unpaired_root: Path) -> None:
    """The structure stays to the last bit; a generator without one of its own is refused."""
    sizes = "{channels=[8, 8], blocks=[1, 1], smooth_grain=true}"
    network = f"generator={{name='grain_unet', hyper_parameters={sizes}}}"
    overrides = [network, "method.trains=grain", "method.statistics={flat_grain_weight=1.0}"]
    inputs = inputs_of(recipe, unpaired_root, *overrides)
    config = inputs.recipe.method
    assert isinstance(config, FLSeSimConfig)
    method = FLSeSim(inputs, config)
    generator = method.generator
    assert isinstance(generator, GrainUNet)
    tile = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, amplitude = generator.parts(tile)[0::2]
    phase = method.phases[-1]

    for step in range(4, 8):
        method.prepare(step)
        phase.optimizer.zero_grad()
        sum(phase.terms().values(), torch.zeros(())).backward()
        phase.optimizer.step()

    with torch.no_grad():
        after, changed = generator.parts(tile)[0::2]
    assert torch.equal(before, after)
    assert not torch.equal(amplitude, changed)
    with pytest.raises(ConfigError, match="'rep_sr' does not give structure and grain apart"):
        build_method(
            inputs_of(recipe, unpaired_root, "generator.name=rep_sr", "method.trains=grain")
        )


def test_terms_set_in_at_their_share_of_any_run() -> None:
    """0 until their start, then a straight line to 1; a start of 0 is on from the first step."""
    factors = [ramp(step, steps=10, start_share=0.3, ramp_share=0.4) for step in range(10)]

    assert [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1] == factors
    assert 1 == ramp(0, steps=10, start_share=0.0)
    assert [0, 1] == [ramp(step, steps=2743, start_share=0.5) for step in (1371, 1372)]


def test_relativistic_loss_with_penalty_and_balance_trains(
    recipe: Path, unpaired_root: Path, tmp_path: Path
) -> None:
    """The other adversarial loss runs with everything that belongs to it, and resumes exactly."""
    overrides = [
        "method.adversarial.loss=relativistic",
        "method.adversarial.balanced=true",
        "method.adversarial.penalty_gamma=1.0",
        "method.adversarial.discriminator.norm=none",
        "optimization.steps=9",
    ]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(recipe, data_root=unpaired_root, run_dir=whole, overrides=overrides)
    interrupt_after(7, recipe, root=unpaired_root, run_dir=parts, overrides=overrides)

    train(recipe, data_root=unpaired_root, run_dir=parts, overrides=overrides, resume=True)

    assert stats_of(whole) == stats_of(parts)
    assert stats_of(whole)[-1]["penalty"] > 0
    assert stats_of(whole)[-1]["gan"] > 0


SURROGATE = (
    "method.surrogate.weight=1.0",
    "method.surrogate.features_weight=1.0",
    "method.surrogate.silence_weight=1.0",
    "method.surrogate.channels=4",
    "method.surrogate.start_share=0.34",
    "method.surrogate.ramp_share=0.17",
)


def test_the_surrogate_detector_trains_and_resumes(
    recipe: Path, unpaired_root: Path, tmp_path: Path
) -> None:
    """It has a phase of its own; the generator hears it from its step on; a resume is exact."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(recipe, data_root=unpaired_root, run_dir=whole, overrides=SURROGATE)
    interrupt_after(8, recipe, root=unpaired_root, run_dir=parts, overrides=SURROGATE)

    train(recipe, data_root=unpaired_root, run_dir=parts, overrides=SURROGATE, resume=True)

    stats = stats_of(whole)
    assert stats == stats_of(parts)
    heard = {"verdict", "verdict_features", "silence"}
    assert not heard & set(stats[0])
    assert heard < set(stats[-1])
    assert all("surrogate" in record for record in stats)


def test_the_surrogate_hears_the_generator_only_in_fixed_statistics(
    recipe: Path, unpaired_root: Path
) -> None:
    """Judging generated pictures changes nothing of the detector, and it trains on afterwards."""
    inputs = inputs_of(recipe, unpaired_root, *SURROGATE)
    config = inputs.recipe.method
    assert isinstance(config, FLSeSimConfig)
    method = FLSeSim(inputs, config)
    assert method.surrogate is not None
    detector = method.surrogate.detector
    method.prepare(9)
    before = {name: value.clone() for name, value in detector.state_dict().items()}

    terms = method.phases[-1].terms()
    (terms["verdict"] + terms["silence"]).backward()

    for name, value in detector.state_dict().items():
        assert torch.equal(before[name], value), name
    assert all(p.grad is None and p.requires_grad for p in detector.parameters())
    assert detector.training


def test_patched_copies_join_the_images_of_both_domains(recipe: Path, unpaired_root: Path) -> None:
    """n2 copies beside each image; the description counts the images that were given."""
    inputs = inputs_of(recipe, unpaired_root, "method.patched_copies.num_copies=2")
    config = inputs.recipe.method
    assert isinstance(config, FLSeSimConfig)

    method = FLSeSim(inputs, config)

    assert method.pairs is not None
    pairs: Any = method.pairs.sampler
    images: Any = method.lr.sampler
    assert 3 * len(inputs.hr) == len(pairs.samplers[0].source.images)
    assert 3 * len(inputs.lr) == len(images.samplers[0].images)
    plain = FLSeSim(inputs_of(recipe, unpaired_root), config.model_copy(deep=True))
    assert plain.describe()["data"]["image_count"] == method.describe()["data"]["image_count"]
    assert np.array_equal(inputs.lr[0].pixels, images.samplers[0].images[0].pixels)
    assert not np.array_equal(inputs.lr[0].pixels, images.samplers[0].images[len(inputs.lr)].pixels)


def test_divergence_names_the_phase(recipe: Path, unpaired_root: Path, tmp_path: Path) -> None:
    """A discriminator that explodes is named, not just a loss that is not a number."""
    overrides = [
        "method.adversarial.learning_rate=1e30",
        "method.adversarial.start_share=0",
        "optimization.warm_up_steps=0",
    ]

    with pytest.raises(NonFiniteLossError, match=r"phase (discriminator|generator): loss"):
        train(recipe, data_root=unpaired_root, run_dir=tmp_path / "run", overrides=overrides)


def test_self_similarity_needs_the_real_weights(
    recipe: Path, unpaired_root: Path, vgg16_path: Path, tmp_path: Path
) -> None:
    """FSeSim and LSeSim run with the real feature network; LSeSim has a phase of its own."""
    overrides = [
        "optimization.steps=2",
        "optimization.crop_px=20",
        "method.self_similarity.weight=1.0",
    ]
    for number, learned in enumerate(([], ["method.self_similarity.learned=official"])):
        run = tmp_path / f"run_{number}"
        train(
            recipe,
            data_root=unpaired_root,
            run_dir=run,
            overrides=[*overrides, *learned],
            vgg16=vgg16_path,
        )
        last = stats_of(run)[-1]
        assert last["self_similarity"] > 0
        assert bool(learned) == ("metric" in last)


def test_a_method_that_needs_lr_images_says_so(recipe: Path) -> None:
    """The recipe is refused before any image is read."""
    with pytest.raises(ConfigError, match=r"data\.lr is empty, but method needs LR images"):
        load_recipe(recipe, overrides=["data.lr=[]"])


@pytest.mark.parametrize(
    "name",
    [
        "default",
        "f_lsesim",
        "f_lsesim_cpu",
        "f_lsesim_paper",
        "supervised",
        "fast",
        "default_fast",
        "tiny",
        "masa",
    ],
)
def test_shipped_recipes_are_valid(name: str) -> None:
    """Every recipe in the package can be read."""
    assert load_recipe(find_recipe(name)).name


def test_draws_of_a_step_differ_by_purpose_and_repeat() -> None:
    """Queries and statistics of one step do not share their random numbers."""
    first, again, other, later = (
        torch.rand(4, generator=step_generator(*key)).numpy()
        for key in ((0, 1, 2), (0, 1, 2), (0, 1, 3), (0, 2, 2))
    )

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, later)


def test_statistics_compare_with_plain_hr_crops(recipe: Path, unpaired_root: Path) -> None:
    """The HR side of the statistics is cut out of the images as it is: nothing is planted there."""
    inputs = inputs_of(recipe, unpaired_root)
    method = build_method(inputs)
    assert isinstance(method, FLSeSim)
    assert method.plain_hr is not None

    crops = np.rint(255 * method.plain_hr.batch(0)[:, 0].numpy()).astype(np.uint8)

    assert crops.shape == (method.num_unpaired, 64, 64)
    windows = [
        np.lib.stride_tricks.sliding_window_view(image.pixels, (64, 64))[..., 0, :]
        for image in inputs.hr
    ]
    for crop in crops:
        # Crops may be turned upside down; the first row tells where one lies.
        assert any(
            bool((rows == crop[0]).all(axis=-1).any() or (rows == crop[-1]).all(axis=-1).any())
            for rows in windows
        )


@pytest.mark.parametrize("flips", ["vertical", "horizontal"])
def test_without_pairs_both_domains_are_flipped_alike(
    recipe: Path, unpaired_root: Path, flips: str
) -> None:
    """Published: left and right. HR crops are then plain cuts, which never lie on their side."""
    overrides = ["method.paired.share=0", "method.statistics.histogram_weight=0"]
    inputs = inputs_of(recipe, unpaired_root, *overrides, f"method.flips={flips}")
    for image in (*inputs.hr, *inputs.lr):
        rows, columns = np.mgrid[: image.pixels.shape[0], : image.pixels.shape[1]]
        image.pixels[...] = rows + columns // 2
    config = inputs.recipe.method
    assert isinstance(config, FLSeSimConfig)
    method = FLSeSim(inputs, config)

    seen = {"lr": set(), "hr": set()}
    for step in range(8):
        method.prepare(step)
        for domain, crops in (("lr", method._lr), ("hr", method._real())):
            for crop in crops[:, 0]:
                down, right = float(crop[-1, 0] - crop[0, 0]), float(crop[0, -1] - crop[0, 0])
                assert abs(down) > abs(right)
                seen[domain].add((down > 0, right > 0))

    turns = {(False, True)} if flips == "vertical" else {(True, False)}
    assert {(True, True)} | turns == seen["lr"] == seen["hr"]


def test_a_surrogate_needs_pairs_to_learn_from(recipe: Path, unpaired_root: Path) -> None:
    """Defects are planted in them alone."""
    overrides = ["method.paired.share=0", "method.surrogate.silence_weight=1.0"]

    with pytest.raises(
        ConfigError, match=r"learns on pseudo-pairs, but method\.paired\.share is 0"
    ):
        build_method(inputs_of(recipe, unpaired_root, *overrides))


def test_the_cpu_recipe_is_the_other_one_at_a_smaller_size() -> None:
    """Terms, weights, network and data are equal; only what a step costs differs."""
    full, small = (
        load_recipe(find_recipe(name)).model_dump() for name in ("f_lsesim", "f_lsesim_cpu")
    )
    for recipe in (full, small):
        del recipe["name"], recipe["optimization"]
        del recipe["method"]["self_similarity"]["images_per_step"]
        del recipe["method"]["self_similarity"]["interval"]
        del recipe["method"]["adversarial"]["images_per_step"]
        del recipe["method"]["adversarial"]["discriminator"]["width"]

    assert full == small


def test_statistics_compare_crops_of_the_same_tool(recipe: Path, unpaired_root: Path) -> None:
    """By shares, whatever numbers of images the tools have; a tool without LR is left out."""
    inputs = inputs_of(recipe, unpaired_root)
    [tool] = inputs.tools

    def tinted(grey: int, share: float, *, count: int = 1, has_lr: bool = True) -> KnownTool:
        lr, hr = (
            [replace(image, pixels=np.full_like(image.pixels, grey)) for image in images]
            for images in (tool.lr if has_lr else (), tool.hr)
        )
        return replace(tool, lr=lr, hr=count * hr, share=share)

    tools = [tinted(40, 0.5), tinted(80, 0.25, count=9), tinted(120, 0.25, has_lr=False)]
    method = build_method(replace(inputs, tools=tools))
    assert isinstance(method, FLSeSim)
    assert method.plain_hr is not None

    seen = []
    for step in range(120):
        [lr], [hr] = (
            {round(255 * value) for value in sampler.batch(step).unique().tolist()}
            for sampler in (method.lr, method.plain_hr)
        )
        assert lr == hr
        seen.append(lr)
    assert {40, 80} == set(seen)
    # Two to one: 80 of 120, with a deviation of 5.
    assert 60 < seen.count(40) < 100


def test_without_statistics_no_plain_crops_are_drawn(recipe: Path, unpaired_root: Path) -> None:
    """They cost time."""
    method = build_method(
        inputs_of(recipe, unpaired_root, "method.statistics.histogram_weight=0.0")
    )
    assert isinstance(method, FLSeSim)
    assert method.plain_hr is None
