"""JSON bodies of the quiet routes."""

from typing import Any

from pydantic import BaseModel

from export.bundle import GeneratorInfo, ParityFigures
from service.serving import Serving


class Health(BaseModel):
    """Answer of `/livez` and `/readyz`."""

    status: str


class ModelInfo(BaseModel):
    """Answer of `/model`."""

    name: str
    version: str
    sha256: str
    generator: GeneratorInfo
    scale: int
    tile: tuple[int, int]
    halo_px: int
    max_batch_size: int
    engine: str
    precision: str
    training: dict[str, Any]
    parity: dict[str, ParityFigures]

    @classmethod
    def of(cls, serving: Serving) -> "ModelInfo":
        """Describe a model as it is served."""
        manifest = serving.bundle.manifest
        return cls(
            name=serving.name,
            version=serving.bundle.version,
            sha256=serving.bundle.digest,
            generator=manifest.generator,
            scale=manifest.scale,
            tile=manifest.tile,
            halo_px=manifest.halo_px,
            max_batch_size=manifest.max_batch_size,
            engine=serving.engine,
            precision=serving.precision,
            training=manifest.training,
            parity={str(precision): figures for precision, figures in manifest.parity.items()},
        )
