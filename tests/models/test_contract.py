"""What every registered generator must do; a new entry of the registry is covered at once."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from models import GENERATORS, Generator, build_generator, load_generator, save_network

# (registry name, small hyper-parameters), at least one case for each generator.
CASES: list[tuple[str, dict[str, Any]]] = [
    ("rep_sr", {"channels": 8, "num_blocks": 3}),
    ("grain_sr", {"channels": 8, "num_blocks": 3}),
    ("grain_sr", {"channels": 8, "num_blocks": 3, "dilations": [1, 2, 1]}),
    (
        "grain_unet",
        {"channels": [8, 8], "blocks": [1, 1], "pad": 4, "smooth_grain": True, "grain_colours": 2},
    ),
    (
        "grain_unet",
        {"channels": [8, 8, 8], "blocks": [1, 0, 0], "pad": 4, "layer_slopes": True},
    ),
    ("lir", {"width": 2, "num_blocks": 1, "norm": "instance"}),
    ("resnet9", {"width": 4, "num_blocks": 2, "anti_aliased": True}),
    ("resnet9", {"width": 4, "num_blocks": 2, "anti_aliased": False}),
    ("unet", {"width": 4, "depth": 3}),
]
# Of the same operators as a case above: their export is not tested again.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("resnet9", {"width": 4, "num_blocks": 2, "anti_aliased": False, "norm": "instance_affine"}),
    ("unet", {"width": 2, "depth": 4, "norm": "instance_affine", "init": "xavier"}),
]
CASES_BY_SCALE = [
    (name, {**small, "scale": scale})
    for name, small in (*CASES, *VARIANTS)
    for scale in GENERATORS[name].scales
]
all_cases = pytest.mark.parametrize(
    ("name", "hyper_parameters"),
    CASES_BY_SCALE,
    ids=[f"{name}-{'-'.join(map(str, args.values()))}" for name, args in CASES_BY_SCALE],
)


def build_random(name: str, hyper_parameters: dict[str, Any], *, seed: int = 0) -> Generator:
    """Build a generator whose every parameter, biases too, is away from its initial value."""
    torch.manual_seed(seed)
    generator = build_generator(name, hyper_parameters)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return generator


def test_every_generator_has_a_case() -> None:
    """The contract covers the whole registry."""
    assert set(GENERATORS) == {name for name, _ in CASES}


@all_cases
@pytest.mark.parametrize(("height", "width"), [(16, 16), (11, 17), (13, 8)])
def test_output_is_scale_times_the_input(
    name: str, hyper_parameters: dict[str, Any], height: int, width: int
) -> None:
    """Even and odd sizes come back exactly `scale` times as large, in float32."""
    generator = build_random(name, hyper_parameters)
    scale = hyper_parameters["scale"]

    sr = generator(torch.rand(2, 1, height, width))

    assert (2, 1, scale * height, scale * width) == tuple(sr.shape)
    assert torch.float32 == sr.dtype


@all_cases
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_untrained_output_is_finite_and_about_the_image_range(
    name: str, hyper_parameters: dict[str, Any], level: float
) -> None:
    """Fresh weights give values near [0, 1], also on flat black and flat white."""
    torch.manual_seed(0)
    generator = build_generator(name, hyper_parameters)

    sr = generator(torch.full((1, 1, 12, 12), level)).detach()

    assert bool(torch.isfinite(sr).all())
    assert -0.5 < float(sr.min())
    assert float(sr.max()) < 1.5


@all_cases
def test_gradients_reach_every_parameter(name: str, hyper_parameters: dict[str, Any]) -> None:
    """No parameter is dead: each gets a finite gradient that is not zero everywhere.

    A bias right before instance normalisation is removed by it; rounding leaves it a gradient of
    about zero, so for that network only existence is asked of biases.
    """
    generator = build_random(name, hyper_parameters)
    target = torch.rand(2, 1, 12 * hyper_parameters["scale"], 12 * hyper_parameters["scale"])

    (generator(torch.rand(2, 1, 12, 12)) - target).square().mean().backward()

    for parameter_name, parameter in generator.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert bool(torch.isfinite(parameter.grad).all()), parameter_name
        if not (name == "resnet9" and parameter_name.endswith("bias")):
            assert float(parameter.grad.abs().max()) > 0.0, parameter_name


@all_cases
def test_hyper_parameters_rebuild_the_same_network(
    name: str, hyper_parameters: dict[str, Any]
) -> None:
    """`hyper_parameters` is complete: building from it fits the weights and the outputs."""
    generator = build_random(name, hyper_parameters)
    rebuilt = build_generator(name, generator.hyper_parameters)
    rebuilt.load_state_dict(generator.state_dict())
    lr = torch.rand(1, 1, 9, 10)

    assert torch.equal(generator(lr), rebuilt(lr))
    assert generator.scale == rebuilt.scale == hyper_parameters["scale"]


@all_cases
def test_checkpoint_round_trip_is_exact(
    name: str, hyper_parameters: dict[str, Any], tmp_path: Path
) -> None:
    """Saving and loading keeps every weight bit for bit, and the description."""
    generator = build_random(name, hyper_parameters)
    training = {"steps": 3, "lr_domain": {"mean": 70.5}}
    path = tmp_path / "deep" / "checkpoint.safetensors"

    save_network(path, generator, training=training)
    loaded, info = load_generator(path)

    assert name == info.generator
    assert training == info.training
    assert generator.hyper_parameters == info.hyper_parameters
    for key, tensor in generator.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[key]), key
    assert [path] == list(path.parent.iterdir())


@all_cases
def test_receptive_radius_is_what_the_network_says(
    name: str, hyper_parameters: dict[str, Any]
) -> None:
    """Changing one LR pixel changes the output up to the radius, and nothing beyond it.

    Where the view depends on the place on the network's grid, the farthest of all places counts.
    """
    generator = build_random(name, hyper_parameters).double()
    radius = generator.receptive_radius_px
    side = 63
    middles = range(31, 31 + generator.grid_px)
    touched = [_touched(generator, side=side, middle=middle) for middle in middles]

    if radius is None:
        assert bool(touched[0][0, 0]), "an unbounded radius must reach the far corner"
        return
    for axis in (0, 1):
        reach = 0
        for middle, changed in zip(middles, touched, strict=True):
            places = torch.nonzero(changed.any(dim=axis)).flatten()
            reach = max(reach, middle - int(places.min()), int(places.max()) - middle)
        assert radius == reach


def _touched(generator: Generator, *, side: int, middle: int) -> torch.Tensor:
    """Return which LR pixels' outputs change with the pixel in the middle, (side, side) bool."""
    scale = generator.scale
    lr = torch.rand(1, 1, side, side, dtype=torch.float64)
    changed = lr.clone()
    changed[0, 0, middle, middle] += 1.0
    with torch.no_grad():
        difference = (generator(changed) - generator(lr)).abs()[0, 0]
    return difference.reshape(side, scale, side, scale).amax(dim=(1, 3)) > 1e-14


@all_cases
def test_merged_is_an_equal_independent_copy_in_eval_mode(
    name: str, hyper_parameters: dict[str, Any]
) -> None:
    """`merged()` computes the same function, shares no memory, and leaves the source alone."""
    generator = build_random(name, hyper_parameters).train()
    before = copy.deepcopy(generator.state_dict())
    lr = torch.rand(2, 1, 10, 13)
    expected = generator(lr).detach()

    merged = generator.merged()
    with torch.no_grad():
        actual = merged(lr)
        for parameter in merged.parameters():
            parameter.zero_()

    assert not merged.training
    assert generator.training
    assert float((expected - actual).abs().max()) < 1e-5
    for key, tensor in generator.state_dict().items():
        assert torch.equal(before[key], tensor), key


# Raised inside torch's own exporter, about its own code.
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize(
    ("name", "hyper_parameters"),
    CASES,
    ids=["rep", "grain", "dilated", "unet", "slopes", "lir", "blur", "strided", "gan-unet"],
)
def test_onnx_with_dynamic_sizes_matches_torch(
    name: str, hyper_parameters: dict[str, Any], tmp_path: Path
) -> None:
    """One exported graph gives torch's result at two batch sizes and image sizes."""
    network = build_random(name, hyper_parameters).merged()
    path = tmp_path / "model.onnx"
    dynamic = {
        0: torch.export.Dim("batch", min=1, max=64),
        2: torch.export.Dim("height", min=4, max=4096),
        3: torch.export.Dim("width", min=4, max=4096),
    }
    torch.onnx.export(
        network,
        (torch.rand(2, 1, 12, 16),),
        path,
        dynamo=True,
        dynamic_shapes=(dynamic,),
        input_names=["lr"],
        output_names=["sr"],
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    for shape in [(1, 1, 9, 14), (3, 1, 24, 17)]:
        lr = torch.rand(*shape)
        with torch.no_grad():
            expected = network(lr).numpy()
        actual = np.asarray(session.run(["sr"], {"lr": lr.numpy()})[0])
        assert expected.shape == actual.shape
        assert float(np.abs(expected - actual).max()) < 1e-4
