"""The registry of generators."""

import dataclasses
from pathlib import Path

import pytest
import torch

from export.exporter import export_bundle
from models import (
    GENERATORS,
    REFERENCE_NETWORKS,
    ReferenceNetwork,
    UnknownGeneratorError,
    build_generator,
    build_network,
    load_generator,
    load_network,
    save_network,
)
from models.registry import ReferenceNetworkSpec
from models.rep_sr import RepSR
from models.resnet9 import ResNet9


class Paste(ReferenceNetwork):
    """A network that answers with its reference."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 4
        self.hyper_parameters = {}
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, lr: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Return the reference for each image."""
        return self.gain * reference.expand(len(lr), -1, -1, -1)


def test_names_map_to_their_networks() -> None:
    """The two names that checkpoints use build the two networks."""
    assert RepSR is type(build_generator("rep_sr", {"channels": 4, "num_blocks": 1}))
    assert ResNet9 is type(build_generator("resnet9", {"width": 4, "num_blocks": 1}))


def test_unknown_name_lists_the_known_ones() -> None:
    """A misspelt name is answered with the right ones."""
    known = ", ".join(sorted(GENERATORS))

    with pytest.raises(UnknownGeneratorError, match=f"'repsr'; known ones are: {known}$"):
        build_generator("repsr", {})


def test_bad_values_are_reported_with_the_arguments() -> None:
    """A value that the network refuses is part of the message."""
    with pytest.raises(UnknownGeneratorError, match=r"\{'channels': 0\}"):
        build_generator("rep_sr", {"channels": 0})


def test_network_that_needs_a_reference_is_no_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export and serving build generators; the error says why this is none."""
    spec = ReferenceNetworkSpec(build=Paste, summary="for this test")
    monkeypatch.setitem(REFERENCE_NETWORKS, "paste", spec)

    assert Paste is type(build_network("paste", {}))
    assert RepSR is type(build_network("rep_sr", {"channels": 4, "num_blocks": 1}))
    with pytest.raises(UnknownGeneratorError, match=r"'paste' needs a reference image"):
        build_generator("paste", {})


def test_checkpoint_of_such_a_network_is_loaded_as_a_network_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It can be saved, resumed and judged, but neither exported nor served."""
    spec = ReferenceNetworkSpec(build=Paste, summary="for this test")
    monkeypatch.setitem(REFERENCE_NETWORKS, "paste", spec)
    save_network(tmp_path / "paste.safetensors", Paste(), training={})

    network, info = load_network(tmp_path / "paste.safetensors")

    assert ("paste", Paste) == (info.generator, type(network))
    with pytest.raises(UnknownGeneratorError, match=r"takes the LR image alone: grain_sr"):
        load_generator(tmp_path / "paste.safetensors")
    with pytest.raises(UnknownGeneratorError, match=r"needs a reference image"):
        export_bundle(tmp_path / "paste.safetensors", tmp_path / "bundle")


def test_no_generator_needs_a_reference() -> None:
    """A name belongs to one of the two kinds, and every generator takes the LR image alone."""
    assert not GENERATORS.keys() & REFERENCE_NETWORKS.keys()
    for spec in GENERATORS.values():
        assert isinstance(spec.build, type)
        assert not issubclass(spec.build, ReferenceNetwork)


def test_specs_cannot_be_changed() -> None:
    """A spec is a value."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        GENERATORS["rep_sr"].summary = "other"  # pyright: ignore[reportAttributeAccessIssue]
