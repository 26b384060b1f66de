"""The manifest of a bundle: its fields and the known format versions.

Other packages use it through `bundle_format.bundle`.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bundle_format.trust_record import Sha256, TrustRecord

FORMAT_VERSION = 6
"""Version that is written. Three older ones are still read: version 5 stored its golden tile as npy
files and had no `sixteen_bit`; in version 4 every graph also held its own weights; version 3 also
lacked `grid_px`, because its networks work on one grid."""

READ_VERSIONS = (3, 4, 5, 6)

FLAGS = (
    "non_finite", "saturated", "consistency", "consistency_worst", "residual", "domain_distance",
)  # fmt: skip
"""Columns of the graphs' second output, `flags` float32 (N, K): a judgement of a tile's answer
without its truth. In order: the share of LR pixels where the answer is non-finite, and where it
left the 8-bit range and was clipped; the mean and the least local correlation between the answer,
seen coarsely, and the tile; the most suspicious spot that the answer does not explain, and the
tile's distance from the training tiles, both over their limits, or `NOT_JUDGED`."""

Precision = Literal["fp32", "fp16", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
PositivePixels = Annotated[int, Field(gt=0, le=65536)]


class GeneratorInfo(BaseModel):
    """Network of the bundle: its registry name and its hyper-parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    hyper_parameters: dict[str, Any]


class DomainStatistics(BaseModel):
    """Grey-level statistics of the LR images that the model was trained on (8-bit grey levels)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float
    std: float
    noise_sigma: float


class ParityFigures(BaseModel):
    """Differences of a graph's output from FP32 torch, in grey levels over all compared pixels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_error: float
    mean_error: float
    psnr_db: float
    tiles: int
    engines: tuple[str, ...] = Field(description="Engines that ran the graph for the comparison.")


class SixteenBitRecord(BaseModel):
    """The FP32 graph whose answer has 16 bits: 65535 is white, 257 steps are one grey level."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    graph: str = Field(description="ONNX file.")
    parity: ParityFigures | None = Field(
        default=None, description="Differences of its answers from FP32 torch, in grey levels."
    )


class QuantizationRecord(BaseModel):
    """Record of the INT8 graph: the choice of convolutions, and the figure that decided it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    quantized: tuple[str, ...] = Field(description="Convolutions that run in INT8.")
    kept: tuple[str, ...] = Field(description="Convolutions of the body that stay in FP32.")
    psnr_db: float = Field(description="PSNR against FP32, on held-out calibration tiles.")
    calibration_tiles: int
    calibration_sha256: Sha256 = Field(description="sha256 of the bytes of the tiles.")


class RecallRecord(BaseModel):
    """Defect recall of a reduced precision and of FP32, on the same tiles."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fp32: float
    reduced: float
    tiles: int
    benchmark: str = Field(description="Fingerprint of the benchmark.")


class SeamFigures(BaseModel):
    """Differences between tiles and a single pass of a whole image, measured at the export."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_error: int = Field(description="Largest difference of the kept pixels in grey levels.")
    images: int = Field(description="Images that were compared, two tiles high and wide.")
    radius_px: int = Field(description="The network's exact bound, LR pixels.")


class Manifest(BaseModel):
    """All facts about a model that the service does not hard-code."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[3, 4, 5, 6]
    # It becomes an HTTP header and a metric label.
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Name of the bundle, for people and for metric labels.",
    )
    generator: GeneratorInfo
    scale: int = Field(ge=1, le=16, description="Factor between the sides of LR and SR.")
    tile: tuple[PositivePixels, PositivePixels] = Field(
        description="Height and width of an LR tile in pixels."
    )
    halo_px: int = Field(
        ge=0, description="Number of LR pixels beyond which an inner cut of a tile has no effect."
    )
    grid_px: int = Field(
        default=1, ge=1, le=1024, description="Grid in LR pixels; tiles start at its multiples."
    )
    seams: SeamFigures | None = Field(
        default=None, description="Measurement of the halo; null: the halo is the network's view."
    )
    gmac: float = Field(gt=0, description="Multiply-adds of one tile, in units of 1e9.")
    max_batch_size: int = Field(ge=1, description="Largest batch that the model was checked with.")
    precision: Precision = Field(description="Default execution precision.")
    graphs: dict[Precision, str] = Field(description="ONNX file by precision.")
    sixteen_bit: SixteenBitRecord | None = Field(
        default=None, description="Graph for answers of 16 bits; null: the bundle has none."
    )
    flags: tuple[str, ...] = Field(description="Columns of the graphs' second output.")
    window: tuple[int, int] | None = Field(
        description="Grey range lo, hi of 16-bit input that maps to 0..255; null is 0..65535."
    )

    @field_validator("flags")
    @classmethod
    def _check_flags(cls, flags: tuple[str, ...]) -> tuple[str, ...]:
        if flags != FLAGS:
            raise ValueError(f"expected {', '.join(FLAGS)}")
        return flags

    @field_validator("window")
    @classmethod
    def _check_window(cls, window: tuple[int, int] | None) -> tuple[int, int] | None:
        if window is not None and not 0 <= window[0] < window[1] <= 65535:
            raise ValueError("expected 0 <= lo < hi <= 65535")
        return window

    @model_validator(mode="before")
    @classmethod
    def _check_grid(cls, fields: Any) -> Any:  # noqa: ANN401 - JSON of any form
        # A reader of version 3 would cut tiles anywhere, so that the grid has a version of its own.
        if isinstance(fields, dict):
            has_grid = "grid_px" in fields
            if fields.get("format_version") == 3 and (has_grid or "seams" in fields):
                raise ValueError("grid_px and seams are fields of version 4")
            if fields.get("format_version") in (4, 5, 6) and not has_grid:
                raise ValueError("grid_px is missing")
            if fields.get("format_version") in (3, 4, 5) and "sixteen_bit" in fields:
                raise ValueError("sixteen_bit is a field of version 6")
        return fields

    files: dict[str, Sha256] = Field(description="sha256 of every file but the manifest.")
    source_checkpoint_sha256: Sha256
    training: dict[str, Any] = Field(description="Training data and method.")
    lr_domain: DomainStatistics | None
    trust: TrustRecord | None = None
    parity: dict[Precision, ParityFigures]
    quantization: QuantizationRecord | None = None
    recall: dict[Precision, RecallRecord] = {}

    @property
    def lr_bytes(self) -> int:
        """Bytes of a tile."""
        height, width = self.tile
        return height * width

    @property
    def sr_bytes(self) -> int:
        """Bytes of a tile's answer."""
        return self.scale**2 * self.lr_bytes

    @property
    def proven_precisions(self) -> list[Precision]:
        """Precisions that passed the export's gates, the most exact first, and the default one."""
        return [
            name
            for name in PRECISIONS
            if name in self.graphs and (name in self.parity or name == self.precision)
        ]
