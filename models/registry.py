"""The networks that exist, by name: explicit dictionaries and the functions that build one.

To add a generator, write its file and add one entry here; the contract tests then cover it.
Networks that need a reference image are in a dictionary of their own, so that they can be neither
exported nor served.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from models.generator import Generator
from models.grain_sr import GrainSR
from models.grain_unet import GrainUNet
from models.lir import Lir, LirStyle
from models.masa import Masa
from models.network import Network, ReferenceNetwork
from models.rep_sr import RepSR
from models.resnet9 import ResNet9
from models.unet import UNet

Built = TypeVar("Built", bound=Network)


class UnknownGeneratorError(ValueError):
    """A network name that the registry does not hold, or arguments that it does not take."""


@dataclass(frozen=True, kw_only=True)
class GeneratorSpec:
    """One generator of the registry.

    Attributes:
        build: Constructor; keyword-only arguments.
        summary: Line for people: what it is and when to choose it.
        scales: Enlargement factors that are tested.
    """

    build: Callable[..., Generator]
    summary: str
    scales: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ReferenceNetworkSpec:
    """One network that needs a reference image.

    Attributes:
        build: Constructor; keyword-only arguments.
        summary: Line for people: what it is.
    """

    build: Callable[..., ReferenceNetwork]
    summary: str


GENERATORS: dict[str, GeneratorSpec] = {
    "grain_sr": GeneratorSpec(
        build=GrainSR,
        summary="rep_sr that gives structure and grain apart",
        scales=(2, 4),
    ),
    "grain_unet": GeneratorSpec(
        build=GrainUNet,
        summary="U-Net on the LR grid with a wide view, structure and grain apart; it ships",
        scales=(2, 4),
    ),
    "lir": GeneratorSpec(
        build=Lir,
        summary="content encoder and decoder of LIR, for comparison, not for serving",
        scales=(4,),
    ),
    "rep_sr": GeneratorSpec(
        build=RepSR,
        summary="fast plain network on the LR grid, merged into plain 3x3 convolutions at export",
        scales=(2, 4),
    ),
    "resnet9": GeneratorSpec(
        build=ResNet9,
        summary="the literature's ResNet-9 on the bicubic-enlarged input, for comparison",
        scales=(1, 2, 4),
    ),
    "unet": GeneratorSpec(
        build=UNet,
        summary="the literature's U-Net-N on the bicubic-enlarged input, for comparison, not for "
        "serving",
        scales=(1, 2, 4),
    ),
}


REFERENCE_NETWORKS: dict[str, ReferenceNetworkSpec] = {
    "lir_style": ReferenceNetworkSpec(
        build=LirStyle,
        summary="LIR with the style of a reference, for comparison, not for serving",
    ),
    "masa": ReferenceNetworkSpec(
        build=Masa,
        summary="MASA-SR, which copies matching features of a reference; "
        "for comparison, not for serving",
    ),
}


def build_generator(name: str, hyper_parameters: Mapping[str, Any]) -> Generator:
    """Build a freshly initialised generator.

    Args:
        name: Key of `GENERATORS`.
        hyper_parameters: Keyword arguments of its constructor; what is missing takes its default.

    Raises:
        UnknownGeneratorError: No such name, or the constructor refuses the arguments.
    """
    if name in REFERENCE_NETWORKS:
        raise UnknownGeneratorError(
            f"{name!r} needs a reference image next to the LR image; expected a generator, which "
            f"takes the LR image alone: {', '.join(sorted(GENERATORS))}"
        )
    if name not in GENERATORS:
        known = ", ".join(sorted(GENERATORS))
        raise UnknownGeneratorError(f"unknown generator {name!r}; known ones are: {known}")
    return _build(name, GENERATORS[name].build, hyper_parameters)


def build_network(name: str, hyper_parameters: Mapping[str, Any]) -> Network:
    """Build a freshly initialised network: a generator, or one that needs a reference image.

    Args:
        name: Key of `GENERATORS` or `REFERENCE_NETWORKS`.
        hyper_parameters: Keyword arguments of its constructor; what is missing takes its default.

    Raises:
        UnknownGeneratorError: No such name, or the constructor refuses the arguments.
    """
    if name in REFERENCE_NETWORKS:
        return _build(name, REFERENCE_NETWORKS[name].build, hyper_parameters)
    return build_generator(name, hyper_parameters)


def _build(name: str, build: Callable[..., Built], hyper_parameters: Mapping[str, Any]) -> Built:
    try:
        return build(**hyper_parameters)
    except (TypeError, ValueError) as error:
        raise UnknownGeneratorError(
            f"generator {name!r} does not take the hyper-parameters "
            f"{dict(hyper_parameters)!r}: {error}"
        ) from error
