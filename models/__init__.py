"""Pure networks: generators, their registry and their checkpoints; imports nothing of ours."""

from models.checkpoint import (
    CheckpointError,
    CheckpointInfo,
    load_generator,
    load_network,
    read_info,
    save_network,
)
from models.generator import Generator
from models.network import Network, ReferenceNetwork
from models.registry import (
    GENERATORS,
    REFERENCE_NETWORKS,
    GeneratorSpec,
    UnknownGeneratorError,
    build_generator,
    build_network,
)

__all__ = [
    "GENERATORS",
    "REFERENCE_NETWORKS",
    "CheckpointError",
    "CheckpointInfo",
    "Generator",
    "GeneratorSpec",
    "Network",
    "ReferenceNetwork",
    "UnknownGeneratorError",
    "build_generator",
    "build_network",
    "load_generator",
    "load_network",
    "read_info",
    "save_network",
]
