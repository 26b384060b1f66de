"""Pure networks: generators, their registry and their checkpoints; imports nothing of ours."""

from models.checkpoint import CheckpointError, CheckpointInfo, load_generator, save_generator
from models.generator import Generator
from models.registry import GENERATORS, GeneratorSpec, UnknownGeneratorError, build_generator

__all__ = [
    "GENERATORS",
    "CheckpointError",
    "CheckpointInfo",
    "Generator",
    "GeneratorSpec",
    "UnknownGeneratorError",
    "build_generator",
    "load_generator",
    "save_generator",
]
