"""The registry of generators."""

import dataclasses

import pytest

from models import GENERATORS, UnknownGeneratorError, build_generator
from models.rep_sr import RepSR
from models.resnet9 import ResNet9


def test_names_map_to_their_networks() -> None:
    """The two names that checkpoints use build the two networks."""
    assert RepSR is type(build_generator("rep_sr", {"channels": 4, "num_blocks": 1}))
    assert ResNet9 is type(build_generator("resnet9", {"width": 4, "num_blocks": 1}))


def test_unknown_name_lists_the_known_ones() -> None:
    """A misspelt name is answered with the right ones."""
    with pytest.raises(
        UnknownGeneratorError,
        match=r"'repsr'; known ones are: grain_sr, grain_unet, rep_sr, resnet9",
    ):
        build_generator("repsr", {})


def test_bad_values_are_reported_with_the_arguments() -> None:
    """A value that the network refuses is part of the message."""
    with pytest.raises(UnknownGeneratorError, match=r"\{'channels': 0\}"):
        build_generator("rep_sr", {"channels": 0})


def test_specs_cannot_be_changed() -> None:
    """A spec is a value."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        GENERATORS["rep_sr"].summary = "other"  # pyright: ignore[reportAttributeAccessIssue]
