"""VGG16: against a plain three-channel network, and what counts as its weights."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from training.losses import features
from training.losses.features import FeatureWeightsError, Vgg16, load_vgg16

PLACES = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128)}


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Return random layers up to relu3_1; enough for arithmetic, not for losses."""
    draws = torch.Generator().manual_seed(0)
    tensors = {}
    for place, (wide, narrow) in PLACES.items():
        weight = torch.randn(wide, narrow, 3, 3, generator=draws) * (2 / 9 / narrow) ** 0.5
        tensors[f"features.{place}.weight"] = weight
        tensors[f"features.{place}.bias"] = 0.1 * torch.randn(wide, generator=draws)
    return tensors


def smooth_first_layer() -> torch.Tensor:
    """Return a first layer with the statistics of a trained one: kernels that vary slowly."""
    draws = torch.Generator().manual_seed(1)
    coarse = torch.randn(64, 3, 1, 1, generator=draws)
    slopes = 0.5 * torch.randn(2, 64, 3, 1, 1, generator=draws)
    rows, columns = torch.meshgrid(torch.arange(-1, 2), torch.arange(-1, 2), indexing="ij")
    kernels = coarse + slopes[0] * rows + slopes[1] * columns
    return (kernels - kernels.mean()) * 0.2 / kernels.std()


def test_one_channel_equals_three_with_zero_padding(state) -> None:
    """The folded first layer is exact, also at the border, where the padding is of colours."""
    layers: list[nn.Module] = []
    for place, (wide, narrow) in PLACES.items():
        layers += [nn.MaxPool2d(2)] if place in (5, 10) else []
        convolution = nn.Conv2d(narrow, wide, 3, padding=1)
        convolution.load_state_dict(
            {key: state[f"features.{place}.{key}"] for key in ("weight", "bias")}
        )
        layers += [convolution, nn.ReLU()]
    plain = nn.Sequential(*layers)
    images = torch.rand(2, 1, 21, 26, generator=torch.Generator().manual_seed(2))
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    colours = (images.repeat(1, 3, 1, 1) - mean) / std

    taps = Vgg16(state, taps=("relu1_1", "relu2_2", "relu3_1"))(images)

    with torch.no_grad():
        for tap, depth in (("relu1_1", 2), ("relu2_2", 9), ("relu3_1", 12)):
            torch.testing.assert_close(taps[tap], plain[:depth](colours), atol=1e-4, rtol=1e-4)


def test_taps_have_the_declared_shapes(state) -> None:
    """Strides and channels are what `fsesim` and the heads rely on."""
    network = Vgg16(state, taps=("relu3_1", "relu1_2"))

    taps = network(torch.rand(1, 1, 32, 48))

    assert ["relu1_2", "relu3_1"] == list(taps)
    for tap, features_of_tap in taps.items():
        stride = network.strides[tap]
        expected = (1, network.channels[tap], 32 // stride, 48 // stride)
        assert expected == tuple(features_of_tap.shape)


def test_nothing_is_computed_or_needed_beyond_the_last_tap(state) -> None:
    """Deeper layers may be absent, and whatever else a file holds is ignored."""
    shallow = {key: value for key, value in state.items() if int(key.split(".")[1]) <= 5}
    shallow["classifier.0.weight"] = torch.zeros(3)

    network = Vgg16(shallow, taps=("relu2_1",))

    assert ["relu2_1"] == list(network(torch.rand(1, 1, 8, 8)))
    with pytest.raises(FeatureWeightsError, match=r"no tensor features\.7\.weight"):
        Vgg16(shallow, taps=("relu2_2",))


def test_gradients_reach_the_images_and_no_weight(state) -> None:
    """Frozen: nothing to optimise, nothing in a checkpoint, eval for ever."""
    network = nn.Sequential(Vgg16(state, taps=("relu3_1",))).train()
    images = torch.rand(1, 1, 16, 16, requires_grad=True)

    network(images)["relu3_1"].sum().backward()

    assert images.grad is not None
    assert images.grad.abs().max() > 0
    assert [] == list(network.parameters())
    assert {} == network.state_dict()
    assert not network[0].training
    assert not any(buffer.requires_grad for buffer in network.buffers())


def test_autocast_stays_near_float32(state) -> None:
    """The normalisation is done before the cast, so that bfloat16 costs little."""
    network = Vgg16(state, taps=("relu3_1",))
    images = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))

    exact = network(images)["relu3_1"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(images)["relu3_1"].float()

    assert float((rough - exact).norm() / exact.norm()) < 0.02


@pytest.mark.parametrize("taps", [(), ("relu5_1",), ("relu3_1", "conv3_4")])
def test_unknown_taps_are_refused(state, taps) -> None:
    """The message lists the taps there are."""
    with pytest.raises(FeatureWeightsError, match="taps of VGG16 are relu1_1, "):
        Vgg16(state, taps=taps)


def test_a_tap_before_its_relu_is_what_the_relu_cuts(state) -> None:
    """`conv3_1` has negative values; rectified, they are `relu3_1`."""
    network = Vgg16(state, taps=("relu3_1", "conv3_1"))

    found = network(torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(0)))

    assert ["conv3_1", "relu3_1"] == list(found)
    assert float(found["conv3_1"].min()) < 0
    assert torch.equal(found["conv3_1"].relu(), found["relu3_1"])
    assert {"conv3_1": 4, "relu3_1": 4} == network.strides
    assert {"conv3_1": 256, "relu3_1": 256} == network.channels


def test_colour_images_are_refused(state) -> None:
    """Three channels would otherwise be a shape error deep in the network."""
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\), got shape \(1, 3, 8, 8\)"):
        Vgg16(state, taps=("relu1_1",))(torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize("initialise", ["kaiming_out", "kaiming_in", "default", "orthogonal"])
def test_random_weights_are_refused(state, tmp_path: Path, initialise: str) -> None:
    """However they were drawn; their structure losses would measure nothing."""
    torch.manual_seed(3)
    weight = torch.empty(64, 3, 3, 3)
    if initialise == "kaiming_out":  # torchvision's own for VGG
        nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
    elif initialise == "kaiming_in":
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
    elif initialise == "default":
        weight = nn.Conv2d(3, 64, 3).weight.detach()
    else:
        nn.init.orthogonal_(weight)
    torch.save(state | {"features.0.weight": weight}, tmp_path / "vgg.pth")

    with pytest.raises(FeatureWeightsError, match=r"not that of a VGG16 trained on ImageNet"):
        load_vgg16(tmp_path / "vgg.pth", taps=("relu3_1",))


def test_random_weights_of_the_right_deviation_are_refused(state, tmp_path: Path) -> None:
    """White noise has no smooth kernels, whatever its scale."""
    white = state["features.0.weight"] * 0.208 / state["features.0.weight"].std()
    safetensors.torch.save_file(state | {"features.0.weight": white}, tmp_path / "vgg.safetensors")

    with pytest.raises(FeatureWeightsError, match=r"correlation of neighbouring weights -?0\.0"):
        load_vgg16(tmp_path / "vgg.safetensors", taps=("relu3_1",))


def test_weights_that_are_not_a_number_are_refused(state, tmp_path: Path) -> None:
    """NaN compares false with every bound."""
    torch.save(
        state | {"features.0.weight": torch.full((64, 3, 3, 3), torch.nan)}, tmp_path / "vgg.pth"
    )

    with pytest.raises(FeatureWeightsError, match="mean nan"):
        load_vgg16(tmp_path / "vgg.pth", taps=("relu3_1",))


@pytest.mark.parametrize("name", ["vgg.pth", "vgg.safetensors"])
def test_both_file_kinds_load_the_same(state, tmp_path: Path, name: str) -> None:
    """A first layer that looks trained is accepted, in float16 too, and computed in float32."""
    tensors = {key: value.half() for key, value in state.items()}
    tensors["features.0.weight"] = smooth_first_layer().half()
    if name.endswith(".pth"):
        torch.save(tensors, tmp_path / name)
    else:
        safetensors.torch.save_file(tensors, tmp_path / name)
    images = torch.rand(1, 1, 8, 8)

    loaded = load_vgg16(tmp_path / name, taps=("relu3_1",))(images)["relu3_1"]

    expected = Vgg16({key: value.float() for key, value in tensors.items()}, taps=("relu3_1",))
    assert torch.float32 == loaded.dtype
    torch.testing.assert_close(loaded, expected(images)["relu3_1"])


def test_bad_files_say_what_to_pass(state, tmp_path: Path) -> None:
    """Absent, unreadable, not a state dict, of another network."""
    (tmp_path / "noise.pth").write_bytes(b"no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save(state | {"features.0.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "other.pth")

    for name, message in {
        "absent.pth": r"are not a file; .*--vgg16 or SEMSR_VGG16",
        "noise.pth": "cannot be read",
        "list.pth": "hold a list, not a state dict",
        "other.pth": r"has shape \(32, 3, 3, 3\), not \(64, 3, 3, 3\)",
    }.items():
        with pytest.raises(FeatureWeightsError, match=message):
            load_vgg16(tmp_path / name)


def test_without_a_file_torchvision_is_asked(state, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights are checked too; without it, the error says how to get the file."""
    monkeypatch.setattr(features.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FeatureWeightsError, match=r"torchvision is not installed.*SEMSR_VGG16"):
        load_vgg16(None)

    class FakeModels:
        @staticmethod
        def vgg16(*, weights: str) -> object:
            assert "IMAGENET1K_V1" == weights
            return type("Network", (), {"state_dict": staticmethod(lambda: state)})

    monkeypatch.setattr(features.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(features.importlib, "import_module", lambda name: FakeModels)
    with pytest.raises(FeatureWeightsError, match="first layer of torchvision's VGG16 is not"):
        load_vgg16(None)
    monkeypatch.setitem(state, "features.0.weight", smooth_first_layer())
    assert ("relu3_1",) == load_vgg16(None, taps=("relu3_1",)).taps


def test_the_known_file_also_has_trained_statistics(vgg16_path: Path) -> None:
    """The bounds that judge other files accept the known one, and it sees edges."""
    tensors, digest = features._read(vgg16_path)
    image = np.zeros((1, 1, 32, 32), np.float32)
    image[..., 16:] = 1

    features._check_trained(tensors, "the known file")
    taps = load_vgg16(vgg16_path)(torch.from_numpy(image))

    assert features.KNOWN_SHA256 == digest
    assert (1, 512, 4, 4) == tuple(taps["relu4_3"].shape)
    across = taps["relu3_1"].std((2, 3)).mean()
    flat = load_vgg16(vgg16_path)(torch.full((1, 1, 32, 32), 0.5))["relu3_1"].std((2, 3)).mean()
    assert across > 1.5 * flat
