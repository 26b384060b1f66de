"""Narrowing keeps the function where it can, and the most of it where it must lose some."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models import load_generator, save_network
from models.grain_unet import GrainUNet
from training.narrowing import main, narrow


def network(**changes: object) -> GrainUNet:
    """Build a small network with weights away from their start."""
    torch.manual_seed(0)
    parameters = {"channels": (8, 12), "blocks": (1, 1), "pad": 4, "smooth_grain": True, **changes}
    generator = GrainUNet(**parameters).eval()
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return generator


def tiles() -> list[torch.Tensor]:
    """Draw two random tiles."""
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1, 1, 24, 24, generator=generator) for _ in range(2)]


def test_a_rotation_without_narrowing_is_the_same_function() -> None:
    """All components kept: another basis, the same answers."""
    wide = network()

    turned = narrow(wide, (8, 12), tiles())

    name = "down.0.weight"
    assert not torch.equal(wide.state_dict()[name], turned.state_dict()[name])
    for tile in tiles():
        assert torch.allclose(wide(tile), turned(tile), atol=1e-4)


def test_a_stream_of_lower_rank_loses_nothing() -> None:
    """Channels that only repeat others cost nothing to leave out."""
    wide = network()
    with torch.no_grad():
        # Nothing writes to the last four channels of the coarse level, or reads what they hide.
        weights = wide.state_dict()
        for name in ("down.0", "enc.1.0.b"):
            weights[f"{name}.weight"][8:] = 0
            weights[f"{name}.bias"][8:] = 0
        weights["enc.1.0.b.weight"][:, 8:] = 0

    small = narrow(wide, (8, 8), tiles())

    for tile in tiles():
        assert torch.allclose(wide(tile), small(tile), atol=1e-4)


def test_the_last_slopes_become_one_where_it_is_asked_for() -> None:
    """The mean slope: an approximation that training completes."""
    small = narrow(network(), (4, 6), tiles(), layer_slopes=True)

    assert 1 == small.last.num_parameters
    assert [4, 6] == small.hyper_parameters["channels"]
    assert bool(torch.isfinite(small(tiles()[0])).all())


def test_more_channels_are_refused() -> None:
    """The message names both."""
    with pytest.raises(ValueError, match=r"channels \[8, 16\] do not fit a network of \[8, 12\]"):
        narrow(network(), (8, 16), tiles())


def test_the_command_narrows_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders of LR tiles in, a checkpoint out that says what its training was."""
    save_network(tmp_path / "wide.safetensors", network(), training={"steps": 7})
    (tmp_path / "lr").mkdir()
    for number, tile in enumerate(tiles()):
        pixels = (tile[0, 0].numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "lr" / f"{number}.png")
    command = [str(tmp_path / "wide.safetensors"), "--lr", str(tmp_path / "lr"), "--out"]

    assert 0 == main([*command, str(tmp_path / "small.safetensors"), "--channels", "4", "6"])

    small, info = load_generator(tmp_path / "small.safetensors")
    assert [4, 6] == small.hyper_parameters["channels"]
    assert 7 == info.training["steps"]
    assert "structure differs by" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*command, str(tmp_path / "other.safetensors"), "--channels", "40", "6"])
    assert "do not fit" in capsys.readouterr().err
    assert not (tmp_path / "other.safetensors").exists()
