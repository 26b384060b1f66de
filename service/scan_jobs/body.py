"""The body of `POST /scans`: what can be asked for, and what a scan makes of it."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from service.errors import BadRequest, OutsideRoots, UnsuitableScan
from service.metadata import parse_pixel_size
from service.scan_jobs.roots import Roots
from service.scans.checks import check_apart
from service.scans.errors import OutsideRootsError, ScanError
from service.scans.manifest import check_form
from service.scans.options import ScanRequest, default_form
from service.scans.sinks import FORMATS
from service.window import parse_window

_Text = Annotated[str, Field(min_length=1, max_length=4096)]


class ScanOptionsBody(BaseModel):
    """How tiles are read and written; as the options of `semsr scan`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        default=None, max_length=64, description="Name of the model; default: the first one."
    )
    format: Literal["png", "tiff", "npy", "jxl"] | None = Field(
        default=None, description="Of output files; default: as each was read."
    )
    window: str | None = Field(
        default=None, max_length=60, description="Grey range lo,hi of 16-bit tiles."
    )
    answer_dtype: Literal["uint8", "uint16"] = "uint8"
    pixel_size_nm: str | None = Field(
        default=None, max_length=60, description="Where the source does not say it: x or x,y."
    )
    manifest: Literal["parquet", "csv"] = Field(
        default_factory=default_form,
        description="Form of the manifest; default: parquet where pyarrow is installed, else csv.",
    )
    patience_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=60.0, description="How long an object store that does not answer is asked again."
    )
    verify: bool = Field(
        default=False, description="Compare the hash of every output when the scan is resumed."
    )


class ScanBody(BaseModel):
    """A scan that is asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: _Text = Field(description="Folder, .tar, .npy, .tif, .h5 or .zarr: a path or URL.")
    sink: _Text = Field(description="Folder, or one stack: .zarr, .h5 or .tif.")
    name: str = Field(default="", max_length=200, description="What people call it.")
    finish_by: AwareDatetime | None = Field(
        default=None, description="When it is wanted, with its time zone (RFC 3339)."
    )
    options: ScanOptionsBody = Field(default_factory=ScanOptionsBody)

    @field_validator("finish_by")
    @classmethod
    def _check_year(cls, value: datetime | None) -> datetime | None:
        if value is not None and not 2000 <= value.year < 3000:
            raise ValueError("expected a time of this millennium")
        return value

    def request(self, *, source: str, sink: str) -> ScanRequest:
        """Return what the scan is to do.

        Args:
            source: Where tiles come from, as it is to be opened.
            sink: Where they go, as it is to be opened.

        Raises:
            BadRequest: A window or pixel size cannot be read.
        """
        options = self.options
        size = options.pixel_size_nm
        return ScanRequest(
            source=source,
            sink=sink,
            window=None if options.window is None else parse_window(options.window),
            answer_dtype=options.answer_dtype,
            answer_type=None if options.format is None else FORMATS[options.format],
            pixel_size=None if size is None else parse_pixel_size(size),
            manifest=options.manifest,
            patience_s=options.patience_s,
        )


def read_body(content: bytes) -> ScanBody:
    """Read a body of JSON.

    Raises:
        UnsuitableScan: It is none, or something in it is wrong.
    """
    try:
        return ScanBody.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        found = "" if isinstance(first["input"], dict | bytes) else f" (found {first['input']!r})"
        raise UnsuitableScan(f"{where}: {first['msg']}{found[:200]}") from error


def checked_request(body: ScanBody, roots: Roots) -> ScanRequest:
    """Return what a scan is to do; what is wrong with it is said now and not at night.

    Raises:
        OutsideRoots: Source or sink are not allowed.
        UnsuitableScan: It cannot be run.
    """
    if "::" in body.sink:
        raise UnsuitableScan(f"the sink {body.sink} names something within (::); a source may")
    try:
        request = body.request(source=roots.check(body.source), sink=roots.check(body.sink))
        check_form(request.manifest)
        check_apart(request.source, sink=request.sink)
    except OutsideRootsError as error:
        raise OutsideRoots(str(error)) from error
    except (ScanError, BadRequest) as error:
        raise UnsuitableScan(str(error)) from error
    return request
