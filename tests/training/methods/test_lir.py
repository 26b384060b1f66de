"""LIR in training: phases, both variants to the same bits, domains, and eq. 3.1."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models import load_network
from models.lir import Lir, LirStyle
from training.config.recipe import ConfigError, load_recipe
from training.data.datasets import KnownTool, load_lr_images, load_training_images
from training.methods.build import build_method
from training.methods.inputs import Inputs
from training.methods.lir import LirMethod
from training.methods.parts.lir_passes import LirNetworks
from training.run.folder import RunDir
from training.trainer import Trainer, train

RECIPE = """
name = "tiny-lir"
[generator]
name = "{name}"
hyper_parameters = {{ width = 2, num_blocks = 1, norm = "batch"{pool} }}
[data]
lr = ["lr"]
hr = ["hr"]
[method]
name = "lir"
variant = "{variant}"
semantic_weight = 0.0
{weights}
discriminator = {{ width = 2, num_scales = 1 }}
[optimization]
steps = 4
batch_size = 3
crop_px = 10
learning_rate = 1e-3
betas = [0.0, 0.9]
warm_up_steps = 0
schedule = "halved_by_thirds"
gradient_clip = 0
ema_decay = 0.5
threads = 1
[run]
log_every_steps = 2
checkpoint_every_steps = 2
picture_every_steps = 4
validate_every_steps = 2
"""

VARIANTS = {
    "denoise": RECIPE.format(name="lir", pool="", variant="denoise", weights=""),
    "style": RECIPE.format(
        name="lir_style",
        pool="",
        variant="style",
        weights="background_weight = 0.0\nmulti_reference_weight = 1.0",
    ),
    "style_mean": RECIPE.format(
        name="lir_style",
        pool=', style_pool = "mean"',
        variant="style",
        weights="background_weight = 0.0",
    ),
}
all_variants = pytest.mark.parametrize("variant", VARIANTS)


def write(folder: Path, variant: str) -> Path:
    """Write a variant's recipe."""
    path = folder / f"{variant}.toml"
    path.write_text(VARIANTS[variant])
    return path


def method_of(recipe: Path, root: Path, *overrides: str, vgg16: Path | None = None) -> LirMethod:
    """Build a method as the trainer does."""
    loaded = load_recipe(recipe, overrides=overrides)
    assert loaded.degradation != "estimate"
    tool = KnownTool(
        name="",
        hr=load_training_images(loaded.data, [loaded.data.hr], data_root=root)[0],
        lr=load_lr_images(loaded.data, data_root=root),
        degradation=loaded.degradation,
        share=1.0,
    )
    torch.manual_seed(loaded.optimization.seed)
    method = build_method(
        Inputs(
            recipe=loaded,
            tools=[tool],
            held_out=(),
            data_root=root,
            vgg16=vgg16,
            device=torch.device("cpu"),
        )
    )
    assert isinstance(method, LirMethod)
    return method


def stats_of(run: Path) -> list[dict[str, Any]]:
    """Read a run's statistics without what depends on the clock."""
    records = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in record.items() if k not in {"elapsed_s", "data_share"}}
        for record in records
    ]


@pytest.mark.parametrize("variant", ["denoise", "style"])
def test_a_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(
    variant: str, unpaired_root: Path, tmp_path: Path
) -> None:
    """All eight networks, their optimisers and running statistics come back exactly."""
    recipe = write(tmp_path, variant)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(recipe, data_root=unpaired_root, run_dir=whole)
    folder, method = RunDir(parts), method_of(recipe, unpaired_root)
    folder.start(method.inputs.recipe, resume=False)
    prepare = method.prepare

    def failing(step: int) -> None:
        if step == 3:
            raise InterruptedError
        prepare(step)

    method.prepare = failing
    with pytest.raises(InterruptedError):
        Trainer(method, recipe=method.inputs.recipe, run_dir=folder).run()

    train(recipe, data_root=unpaired_root, run_dir=parts, resume=True)

    expected, info = load_network(whole / "checkpoint.safetensors")
    assert (Lir if variant == "denoise" else LirStyle) is type(expected)
    actual, _ = load_network(parts / "checkpoint.safetensors")
    assert ("lir", 4) == (info.training["method"], info.training["steps_done"])
    # The average has the running statistics of the run's crops.
    means = [buffer for name, buffer in expected.named_buffers() if name.endswith("running_mean")]
    assert means
    assert all(float(buffer.abs().max()) > 0 for buffer in means)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, actual.state_dict()[name]), name
    assert stats_of(whole) == stats_of(parts)
    terms = {"gan", "content", "self", "cycle", "code", "discriminator", "content_discriminator"}
    assert terms <= stats_of(whole)[-1].keys()
    assert ("copy_score" in stats_of(whole)[-1]) == (variant != "denoise")
    with Image.open(whole / "samples" / "step_000004.png") as picture:
        side = 4 * (56 if variant == "denoise" else 112 // 4)  # an LR image; a reference
        assert (2 * side + 4, 3 * side + 2 * 4) == picture.size


@all_variants
def test_each_phase_reaches_its_own_networks_only(
    variant: str, unpaired_root: Path, tmp_path: Path
) -> None:
    """The generator's phase reaches all five networks, and none of the frozen discriminators."""
    method = method_of(write(tmp_path, variant), unpaired_root)
    networks = {
        "content_discriminator": [method.of_codes],
        "discriminator": [method.of_x, method.of_y],
        "generator": [method.generator, method.helpers],
    }
    method.prepare(0)

    for phase in method.phases:
        everything = [p for some in networks.values() for n in some for p in n.parameters()]
        for parameter in everything:
            parameter.grad = None
        sum(phase.terms().values(), torch.zeros(())).backward()
        for name, some in networks.items():
            gradients = [p.grad for network in some for p in network.parameters()]
            assert (name == phase.name) == all(g is not None for g in gradients), (phase.name, name)
            assert (name == phase.name) or all(g is None for g in gradients)
        assert all(p.requires_grad for p in everything)

    own = sorted(id(p) for group in networks.values() for n in group for p in n.parameters())
    stepped = [
        id(p) for phase in method.phases for g in phase.optimizer.param_groups for p in g["params"]
    ]
    assert own == sorted(stepped)
    assert [4, 1, 1] == [phase.repeats for phase in method.phases]
    assert [5.0, None, None] == [phase.gradient_clip for phase in method.phases]
    assert {1e-4} == {p.optimizer.param_groups[0]["weight_decay"] for p in method.phases}


@pytest.mark.parametrize("variant", ["denoise", "style"])
def test_a_tiny_case_is_learned(variant: str, unpaired_root: Path, tmp_path: Path) -> None:
    """On one batch, repeated, the images come back better, and the undecided codes stay so."""
    method = method_of(write(tmp_path, variant), unpaired_root, "optimization.learning_rate=5e-3")
    rates = {"generator": 5e-3, "discriminator": 1e-4, "content_discriminator": 5e-5}
    seen: list[dict[str, float]] = []

    for _ in range(16):
        method.prepare(0)
        terms: Mapping[str, torch.Tensor] = {}
        for phase in method.phases:
            phase.optimizer.param_groups[0]["lr"] = rates[phase.name]
            phase.optimizer.zero_grad()
            terms = phase.terms()
            torch.stack(list(terms.values())).sum().backward()
            phase.optimizer.step()
        seen.append({name: float(term.detach()) for name, term in terms.items()})

    first, last = (
        {name: np.mean([values[name] for values in part]) for name in seen[0]}
        for part in (seen[:3], seen[-3:])
    )
    assert last["self"] < 0.7 * first["self"]
    assert last["cycle"] < 0.8 * first["cycle"]
    if variant == "style":
        assert last["multi_reference"] < first["multi_reference"]


@all_variants
def test_mixed_precision_trains_too(variant: str, unpaired_root: Path, tmp_path: Path) -> None:
    """Codes and their noise are bfloat16, images and losses float32."""
    method = method_of(write(tmp_path, variant), unpaired_root)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        method.prepare(0)
        terms = [term for phase in method.phases for term in phase.terms().values()]

    assert torch.float32 == method._passes.x_made.dtype
    assert torch.isfinite(torch.stack([term.float() for term in terms])).all()
    sum((term.float() for term in terms), torch.zeros(())).backward()


@all_variants
def test_the_second_pass_has_codes_of_the_first_ones_shapes(
    variant: str, unpaired_root: Path, tmp_path: Path
) -> None:
    """Swapped codes fit either decoder, and every image has the size of a crop."""
    method = method_of(write(tmp_path, variant), unpaired_root)
    method.prepare(0)
    passes = method._passes

    content, style = (3, 8, 10, 10), (3, 8, 1, 1) if variant == "style_mean" else (3, 8, 10, 10)
    assert [content, content, style, content, style, content] == [
        tuple(code.shape) for code in passes.codes
    ]
    made = [passes.x_made, passes.y_made]
    images = [*made, passes.x_again, passes.y_again, passes.x_cycle, passes.y_cycle]
    assert {(3, 1, 40, 40)} == {tuple(image.shape) for image in images}
    everything = torch.cat(images).detach()
    assert 0 <= float(everything.min())
    assert float(everything.max()) <= 1


def test_eq_3_1_punishes_a_decoder_that_copies_references(
    unpaired_root: Path, tmp_path: Path
) -> None:
    """It is zero for one that looks at the content alone, though noise is added to the styles."""
    method = method_of(write(tmp_path, "style"), unpaired_root)
    method.prepare(0)

    def term(decode_x: Any) -> float:  # noqa: ANN401 - a function of two tensors
        fields = {**vars(method.networks), "decode_x": decode_x}
        method.networks = LirNetworks(**fields)
        method.prepare(0)
        return float(method._generator_terms()["multi_reference"].detach())

    def picture(code: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(code[:, :1]).repeat_interleave(4, 2).repeat_interleave(4, 3)

    assert 0.0 == term(lambda content, style: picture(content))
    assert term(lambda content, style: picture(style)) > 0.01


def test_domains_are_swapped_between_the_variants(unpaired_root: Path, tmp_path: Path) -> None:
    """X is the enlarged LR crop for "denoise" and the HR crop for "style"."""
    pairs = {}
    for variant in ("denoise", "style"):
        method = method_of(write(tmp_path, variant), unpaired_root)
        method.prepare(1)
        pairs[variant] = (method._x, method._y)

    assert torch.equal(pairs["denoise"][0], pairs["style"][1])
    assert torch.equal(pairs["denoise"][1], pairs["style"][0])
    # An enlarged crop is that part of the enlarged image, up to its border.
    method = method_of(write(tmp_path, "denoise"), unpaired_root)
    method.prepare(1)
    crops = method.lr.batch(1)
    whole = method.enlarge(torch.nn.functional.pad(crops, (9, 9, 9, 9)))[:, :, 44:-44, 44:-44]
    torch.testing.assert_close(method._x, whole.clamp(0, 1), rtol=0, atol=1e-6)


def test_semantic_consistency_needs_the_feature_network(
    unpaired_root: Path, tmp_path: Path, vgg16_path: Path
) -> None:
    """The recipe says so before an image is read, and the term reaches the generator."""
    recipe = write(tmp_path, "denoise")
    overrides = ["method.semantic_weight=1.0"]
    assert ("conv4_1",) == load_recipe(recipe, overrides=overrides).method.vgg16_taps
    assert () == load_recipe(recipe).method.vgg16_taps
    method = method_of(recipe, unpaired_root, *overrides, vgg16=vgg16_path)
    method.prepare(0)

    term = method._generator_terms()["semantic"]
    (gradient,) = torch.autograd.grad(term, method._passes.y_made)

    assert 0 < float(term.detach()) < 8
    assert float(gradient.abs().max()) > 0


@pytest.mark.parametrize(
    ("variant", "override", "message"),
    [
        ("denoise", "method.multi_reference_weight=1", "needs variant 'style', got 'denoise'"),
        (
            "denoise",
            "method.variant=style",
            "builds a Lir, expected 'lir_style' for method.variant",
        ),
        ("style", "method.variant=denoise", "multi_reference_weight needs variant 'style'"),
        ("style", "optimization.batch_size=2", "batch_size is 2, expected at least 3, method.num"),
        ("style", "method.reference=4", "method.reference is 4, expected less than 4"),
        (
            "style",
            "method.discriminator.num_scales=3",
            "crop_px is 10, 40 HR px, expected at least 16",
        ),
    ],
)
def test_recipes_that_do_not_fit_are_refused(
    variant: str, override: str, message: str, unpaired_root: Path, tmp_path: Path
) -> None:
    """The message names the field, its value and what was expected."""
    with pytest.raises(ConfigError, match=message):
        method_of(write(tmp_path, variant), unpaired_root, override)
