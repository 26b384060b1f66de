"""The trust record of a manifest: limits and references of the trust flags; needs no torch."""

from typing import Annotated, Any, Self, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

DOMAIN_FEATURES = (
    "mean", "log_deviation", "skewness", "log_noise", "sharpness", "log_energy_2px",
    "log_energy_4px", "log_energy_8px",
)  # fmt: skip
"""Features by which tiles are compared, see `export.residual.domain_features`."""

NOT_JUDGED = -1.0
"""Value of the flags `residual` and `domain_distance` where the bundle has no trust record."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class NoiseRecord(BaseModel):
    """Noise of LR tiles: its variance is base + slope * grey, in grey levels (0..255) squared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: PositiveFloat
    slope: float = Field(ge=0, allow_inf_nan=False)


class DomainRecord(BaseModel):
    """Feature statistics of one tool's training tiles, and the limit of the distance from them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    features: tuple[str, ...]
    mean: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...] = Field(description="Inverse of their covariance.")
    limit: PositiveFloat = Field(description="Distance that counts as 1.")
    tiles: int = Field(ge=1)
    tiles_sha256: Sha256 = Field(description="sha256 of the bytes of the tiles.")

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.features != DOMAIN_FEATURES:
            raise ValueError(f"features: expected {', '.join(DOMAIN_FEATURES)}")
        count = len(self.features)
        if {len(self.mean), len(self.precision), *map(len, self.precision)} != {count}:
            raise ValueError(f"mean and precision: expected {count} and {count} times {count}")
        return self


class TrustRecord(BaseModel):
    """Limits and references of the flags `residual` and `domain_distance`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    noise: NoiseRecord
    residual_limit: PositiveFloat = Field(description="Score that counts as 1, in deviations.")
    clean_tiles: int = Field(ge=1, description="Tiles without known defects that set the limit.")
    domains: tuple[DomainRecord, ...] = Field(
        min_length=1, description="One a tool; a tile's distance is that from the nearest."
    )

    @model_validator(mode="before")
    @classmethod
    def _read_one_domain(cls, fields: object) -> object:
        """Read the single domain of formats 3 and 4."""
        if not isinstance(fields, dict) or "domain" not in fields:
            return fields
        known = dict(cast("dict[str, Any]", fields))
        if "domains" in known:
            raise ValueError("domain and domains: expected one of them")
        known["domains"] = [known.pop("domain")]
        return known
