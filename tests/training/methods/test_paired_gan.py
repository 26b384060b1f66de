"""pix2pix: what its discriminator sees, what its losses are, that it learns and resumes."""

import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from models import load_generator
from models.blocks import BicubicUpsample
from training.config.paired_gan import PairedGanConfig
from training.config.recipe import RECIPES, ConfigError, load_recipe
from training.data.datasets import KnownTool, load_tools
from training.data.given_pairs import load_pairs
from training.methods.inputs import Inputs
from training.methods.paired_gan import PairedGan
from training.trainer import train

RECIPE = """
name = "tiny-pix2pix"
[generator]
name = "resnet9"
hyper_parameters = { scale = 4, width = 2, num_blocks = 1, norm = "instance_affine" }
[data]
pairs = [{ input = "pairs/lr", target = "pairs/hr" }]
[method]
name = "paired_gan"
discriminator = { width = 2, num_layers = 1 }
patches = { sides_px = [8, 16] }
[optimization]
steps = 12
batch_size = 2
crop_px = 8
learning_rate = 1e-3
warm_up_steps = 2
ema_decay = 0.5
threads = 1
[run]
log_every_steps = 3
checkpoint_every_steps = 6
picture_every_steps = 12
"""
SAME_SIZE = (
    "generator.hyper_parameters.scale=1",
    'data.pairs=[{ input = "pairs/enlarged", target = "pairs/hr" }]',
    "optimization.crop_px=16",
)
"""Overrides for a generator of pictures that are enlarged already."""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of the method that trains in a second."""
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def wires(number: int) -> NDArray[np.float64]:
    """Draw slanted bright lines, (64, 64) greys."""
    y, x = np.mgrid[:64, :64]
    return 90.0 + 60 * np.tanh(3 * np.sin((x + (1 + number) * 0.2 * y) * 2 * np.pi / 16))


@pytest.fixture
def pairs_root(tmp_path: Path) -> Path:
    """Three pairs: `pairs/hr` of 64 px, `pairs/lr` of 16 px, `pairs/enlarged` of 64 px."""
    root = tmp_path / "data"
    for number in range(3):
        hr = wires(number)
        lr = 1.2 * hr.reshape(16, 4, 16, 4).mean(axis=(1, 3))
        enlarged = 1.2 * ndimage.gaussian_filter(hr, 2.0)
        for folder, picture in (("hr", hr), ("lr", lr), ("enlarged", enlarged)):
            path = root / "pairs" / folder / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.rint(picture).clip(0, 255).astype(np.uint8)).save(path)
    return root


def method_of(recipe: Path, root: Path, *overrides: str) -> PairedGan:
    """Build the method as the trainer does."""
    loaded = load_recipe(recipe, overrides=overrides)
    pairs, held_out = (
        load_pairs(configs, loaded.data, data_root=root, scale=loaded.scale)
        for configs in (loaded.data.pairs, loaded.data.held_out_pairs)
    )
    [tool] = load_tools(loaded, data_root=root, pairs=pairs)
    assert loaded.degradation != "estimate"
    inputs = Inputs(
        recipe=loaded,
        tools=[
            KnownTool(name="", hr=tool.hr, lr=tool.lr, degradation=loaded.degradation, share=1.0)
        ],
        held_out=(),
        data_root=root,
        vgg16=None,
        device=torch.device("cpu"),
        pairs=pairs,
        held_out_pairs=held_out,
    )
    assert isinstance(loaded.method, PairedGanConfig)
    torch.manual_seed(loaded.optimization.seed)
    return PairedGan(inputs, loaded.method)


def stats_of(run: Path) -> list[dict[str, Any]]:
    """Read a run's statistics without what depends on the clock."""
    records = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in record.items() if k not in {"elapsed_s", "data_share"}}
        for record in records
    ]


@pytest.mark.parametrize("overrides", [(), SAME_SIZE], ids=["bicubic", "enlarged"])
def test_it_trains_and_describes_itself(
    overrides: tuple[str, ...], recipe: Path, pairs_root: Path, tmp_path: Path
) -> None:
    """Terms of both phases are logged, the picture shows input, output and HR."""
    run = tmp_path / "run"
    held_out = 'data.held_out_pairs=[{ input = "more/lr", target = "more/hr" }]'
    side = "enlarged" if overrides else "lr"
    for folder, source in (("lr", side), ("hr", "hr")):
        (pairs_root / "more" / folder).mkdir(parents=True)
        picture = (pairs_root / "pairs" / source / "0001.png").read_bytes()
        (pairs_root / "more" / folder / "0009.png").write_bytes(picture)

    path = train(recipe, data_root=pairs_root, run_dir=run, overrides=[*overrides, held_out])

    last = stats_of(run)[-1]
    assert {"pixel", "gan", "discriminator", "held_out_psnr_db"} <= set(last)
    assert last["loss"] == pytest.approx(last["pixel"] + last["gan"], rel=0.2)
    generator, info = load_generator(path)
    assert (1 if overrides else 4) == generator.scale
    assert "paired_gan" == info.training["method"]
    assert 6 == info.training["data"]["image_count"]
    assert info.training["lr_domain"]["mean"] > 90
    crop_px = 16 if overrides else 32
    with Image.open(run / "samples" / "step_000012.png") as picture:
        assert 3 * crop_px + 2 * 4 == picture.size[0]


def test_discriminator_sees_the_input_next_to_the_image(recipe: Path, pairs_root: Path) -> None:
    """Two channels: the enlarged input, and once the HR crop, once the output of the same place."""
    method = method_of(recipe, pairs_root)
    assert method.discriminator is not None
    seen: list[torch.Tensor] = []
    method.discriminator.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    batch = method.sampler.batch(5)
    source = BicubicUpsample(scale=4)(batch.lr).clamp(0, 1)

    method.prepare(5)
    method.phases[0].terms()

    real, fake = seen
    assert (2, 2, 32, 32) == tuple(real.shape)
    assert torch.equal(torch.cat([source, batch.hr], dim=1), real)
    with torch.no_grad():
        assert torch.equal(torch.cat([source, method.generator(batch.lr)], dim=1), fake)
    assert not fake.requires_grad


@pytest.mark.parametrize(
    ("loss", "d", "g"), [("vanilla", math.log(2), math.log(2)), ("lsgan", 0.5, 1.0)]
)
def test_an_undecided_discriminator_has_the_known_losses(
    loss: str, d: float, g: float, recipe: Path, pairs_root: Path
) -> None:
    """Logits of zero: ln 2 for both sides of the cross-entropy."""
    method = method_of(recipe, pairs_root, f"method.adversarial_loss={loss}")
    assert method.discriminator is not None
    last = method.discriminator.layers[-1]
    torch.nn.init.zeros_(last.get_parameter("weight"))

    method.prepare(0)

    assert d == pytest.approx(method.phases[0].terms()["discriminator"].item())
    assert g == pytest.approx(method.phases[1].terms()["gan"].item())


def test_pixel_term_is_the_published_one(recipe: Path, pairs_root: Path) -> None:
    """Zero for an identity pair; 100 times the L1 distance of greys in -1 to 1 otherwise."""
    same = 'data.pairs=[{ input = "pairs/hr", target = "pairs/hr" }]'
    method = method_of(recipe, pairs_root, *SAME_SIZE, same)

    method.generator.forward = lambda lr: lr
    method.prepare(0)
    assert 0 == method.phases[1].terms()["pixel"].item()

    method.generator.forward = lambda lr: lr + 0.03
    method.prepare(1)
    assert 100 * 2 * 0.03 == pytest.approx(method.phases[1].terms()["pixel"].item(), rel=1e-4)


def test_without_the_gan_there_is_no_discriminator(recipe: Path, pairs_root: Path) -> None:
    """Its weight 0 leaves the pixel term alone, and nothing to train or to save."""
    method = method_of(recipe, pairs_root, "method.adversarial_weight=0")
    method.prepare(0)

    assert ["generator"] == [phase.name for phase in method.phases]
    assert ["pixel"] == list(method.phases[0].terms())
    assert {} == method.modules()


def test_the_generators_phase_leaves_the_discriminator_alone(
    recipe: Path, pairs_root: Path
) -> None:
    """Its loss reaches every weight of the generator and none of the discriminator."""
    method = method_of(recipe, pairs_root)
    method.prepare(3)

    sum(method.phases[-1].terms().values(), torch.zeros(())).backward()

    assert ["discriminator", "generator"] == [phase.name for phase in method.phases]
    assert all(p.grad is not None for p in method.generator.parameters())
    assert method.discriminator is not None
    weights = list(method.discriminator.parameters())
    assert all(p.grad is None and p.requires_grad for p in weights)


def test_pairs_and_their_patched_copies_are_trained_on(recipe: Path, pairs_root: Path) -> None:
    """N (1 + n2) pairs; both images of a copy differ from the original's."""
    plain = method_of(recipe, pairs_root)
    patched = method_of(
        recipe, pairs_root, "method.patches.num_patches=2", "method.patches.num_copies=4"
    )

    def pairs(method: PairedGan) -> Any:  # noqa: ANN401 - the sampler's own
        return method.sampler.sampler.pairs  # pyright: ignore[reportAttributeAccessIssue]

    assert (3, 15) == (len(pairs(plain)), len(pairs(patched)))
    original, copy = pairs(patched)[0], pairs(patched)[3]
    assert original.name == copy.name
    assert not np.array_equal(original.lr.pixels, copy.lr.pixels)
    assert not np.array_equal(original.hr.pixels, copy.hr.pixels)


def test_one_pair_is_learned(recipe: Path, pairs_root: Path) -> None:
    """L1 below 0.02 within 100 steps, next to the discriminator."""
    for folder in ("hr", "enlarged"):
        with Image.open(pairs_root / "pairs" / folder / "0000.png") as picture:
            (pairs_root / "one" / folder).mkdir(parents=True)
            picture.crop((0, 0, 32, 32)).save(pairs_root / "one" / folder / "0000.png")
    method = method_of(
        recipe,
        pairs_root,
        *SAME_SIZE,
        'data.pairs=[{ input = "one/enlarged", target = "one/hr" }]',
        "optimization.crop_px=32",
        "optimization.batch_size=1",
        "optimization.learning_rate=2e-3",
        "generator.hyper_parameters.width=4",
        "method.turns=none",
    )
    distances = []
    for step in range(100):
        method.prepare(step)
        for phase in method.phases:
            phase.optimizer.zero_grad()
            terms = phase.terms()
            sum(terms.values(), torch.zeros(())).backward()
            phase.optimizer.step()
        distances.append(float((method._sr.detach() - method._hr).abs().mean()))

    assert np.mean(distances[:5]) > 0.1
    assert np.mean(distances[-10:]) < 0.02


UNET = (
    "generator.name=unet",
    'generator.hyper_parameters={ scale = 4, depth = 6, width = 1, norm = "batch", dropout = 0.5 }',
)


@pytest.mark.parametrize(
    "overrides",
    [(), ("generator.hyper_parameters.dropout=0.5",), UNET],
    ids=["plain", "dropout", "unet"],
)
def test_a_resumed_run_ends_with_the_same_bits(
    overrides: tuple[str, ...],
    recipe: Path,
    pairs_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dropout masks too: they are drawn by the step, not by a generator that no run saves."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    patches = "method.patches.num_copies=1"
    arguments: dict[str, Any] = {"data_root": pairs_root, "overrides": [*overrides, patches]}
    train(recipe, run_dir=whole, **arguments)
    prepare = PairedGan.prepare

    def failing(self: PairedGan, step: int) -> None:
        if step == 8:
            raise InterruptedError
        prepare(self, step)

    monkeypatch.setattr(PairedGan, "prepare", failing)
    with pytest.raises(InterruptedError):
        train(recipe, run_dir=parts, **arguments)
    monkeypatch.undo()
    torch.rand(7)  # another state of the global generator, as in a new process

    train(recipe, run_dir=parts, resume=True, **arguments)

    expected, _ = load_generator(whole / "checkpoint.safetensors")
    actual, _ = load_generator(parts / "checkpoint.safetensors")
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, actual.state_dict()[name]), name
    assert stats_of(whole) == stats_of(parts)


def test_dropout_differs_from_step_to_step(recipe: Path, pairs_root: Path) -> None:
    """The same step gives the same output, on the same crops another step another one."""
    method = method_of(recipe, pairs_root, "generator.hyper_parameters.dropout=0.5")
    batch = method.sampler.batch(0)
    method.sampler.batch = lambda step: batch
    outputs: list[torch.Tensor] = []
    for step in (4, 4, 5):
        method.prepare(step)
        outputs.append(method._sr.detach())

    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_the_checkpoint_of_a_batch_norm_holds_its_statistics(
    recipe: Path, pairs_root: Path, tmp_path: Path
) -> None:
    """The averaged network has those of the training, at whose end the loss was about the same."""
    path = train(recipe, data_root=pairs_root, run_dir=tmp_path / "run", overrides=UNET)

    generator, _ = load_generator(path)

    variances = [
        generator.get_buffer(name)
        for name, _ in generator.named_buffers()
        if name.endswith("running_var")
    ]
    # Four behind the inner downs, five behind the ups.
    assert 9 == len(variances)
    assert all(float((variance - 1).abs().max()) > 0.1 for variance in variances)
    assert 12 == int(generator.get_buffer("up_norms.0.num_batches_tracked"))


def test_shifted_pairs_are_refused(recipe: Path, pairs_root: Path) -> None:
    """Pixels are compared at the same place, so that a shift would blur."""
    shifts = [{"name": f"{n:04d}", "dy": 0.0, "dx": 0.3 * n, "residual_px": 0} for n in range(3)]
    document = {"format_version": 1, "kind": "semsr-alignment", "scale": 4, "pairs": shifts}
    (pairs_root / "alignment.json").write_text(json.dumps(document))
    aligned = 'data.pairs=[{input="pairs/lr", target="pairs/hr", alignment="alignment.json"}]'

    with pytest.raises(
        ConfigError, match=r"2 pairs are shifted, the first, 0001, by dy 0\.0, dx 0"
    ):
        method_of(recipe, pairs_root, aligned)


def test_a_recipe_without_pairs_is_refused(recipe: Path) -> None:
    """Before any image is read."""
    with pytest.raises(ConfigError, match=r"data\.pairs is empty, but method needs pairs"):
        load_recipe(recipe, overrides=["data.pairs=[]", 'data.hr=["hr"]'])


@pytest.mark.parametrize(
    ("name", "runs"),
    [("pix2pix_resnet9", 5), ("pix2pix_zssr", 6), ("pix2pix_unet128", 7), ("f_lsesim_unet128", 0)],
)
def test_shipped_recipes_and_the_runs_in_their_comments_are_valid(name: str, runs: int) -> None:
    """Every line of `--set` options gives a recipe of its own."""
    path = RECIPES / f"{name}.toml"
    lines = re.findall(r"^#\s+(--set .*)$", path.read_text(), flags=re.MULTILINE)
    recipes = [load_recipe(path)]
    for line in lines:
        overrides = [word for word in shlex.split(line) if word != "--set"]
        recipes.append(load_recipe(path, overrides=overrides))

    assert runs == len(lines)
    assert 1 + runs == len({loaded.model_dump_json() for loaded in recipes})
    if runs:
        assert {"paired_gan"} == {loaded.method.name for loaded in recipes}
