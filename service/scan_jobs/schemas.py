"""The bodies of requests to `/scans`; `scan_info` has those of answers."""

import contextlib
from collections.abc import Generator
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from service.ground.errors import BadRequest, OutsideRoots, UnsuitableScan
from service.ground.json_body import JsonBodyError, parse_json
from service.images.metadata import parse_pixel_size
from service.images.window import parse_window
from service.scan_jobs.roots import Roots
from service.scans.checks import check_apart
from service.scans.errors import OutsideRootsError, ScanError
from service.scans.manifest import check_form
from service.scans.name_pattern import NamePattern
from service.scans.options import ScanRequest, default_form
from service.scans.sinks import FORMATS

_SIZE = r"[0-9]{1,15}(\.[0-9]{0,15})?([eE][-+]?[0-9]{1,3})?"
_Text = Annotated[str, Field(min_length=1, max_length=4096)]


def _check_year(value: datetime) -> datetime:
    if not 2000 <= value.year < 3000:
        raise ValueError("expected a time of this millennium")
    return value


Time = Annotated[AwareDatetime, AfterValidator(_check_year)]
"""A time with time zone, of this millennium; give its schema the pattern `^2`."""


class ScanOptionsBody(BaseModel):
    """How tiles are read and written; see the options of `semsr scan`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        default=None, max_length=64, description="Name of the model; default: the first one."
    )
    format: Literal["png", "tiff", "npy", "jxl"] | None = Field(
        default=None, description="Type of output files; default: as each was read."
    )
    window: str | None = Field(
        default=None,
        max_length=60,
        description="Grey range lo,hi of 16-bit tiles, with 0 ≤ lo < hi ≤ 65535.",
        json_schema_extra={"pattern": r"^\s*[0-9]{1,5}\s*,\s*[0-9]{1,5}\s*$"},
    )
    answer_dtype: Literal["uint8", "uint16"] = "uint8"
    answer_bits: Literal[8, 16] = Field(
        default=8,
        description="Bits of the answers; 16: uint16 in the greys of the tiles, needs "
        "SEMSR_ANSWER_BITS=16.",
    )
    pixel_size_nm: str | None = Field(
        default=None,
        max_length=60,
        description="Pixel size in nm if the source does not state it: x or x,y.",
        json_schema_extra={"pattern": rf"^\s*{_SIZE}(\s*,\s*{_SIZE})?\s*$"},
    )
    name_pattern: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="Pattern of the names of tiles with {lot}, {wafer}, {die} (or {die_x} and "
        "{die_y}) and {tool}; * is any text. Default: names are not read.",
        json_schema_extra={
            "pattern": r"\{(lot|wafer|die|die_x|die_y|tool)\}",
            "examples": ["{lot}/W{wafer}/X{die_x}_Y{die_y}_*"],
        },
    )
    manifest: Literal["parquet", "csv"] = Field(
        default_factory=default_form,
        description="Form of the manifest; default: parquet if pyarrow is installed, else csv.",
    )
    patience_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=60.0,
        description="Seconds for which requests to an object store that fails are retried.",
    )
    verify: bool = Field(
        default=False, description="Compare the hash of every output when the scan is resumed."
    )


class ScanBody(BaseModel):
    """The request of a scan."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: _Text = Field(
        description="Folder, .tar, .npy, .tif, .h5, .zarr or KLARF: a path or URL."
    )
    sink: _Text = Field(
        description="Folder, or one stack: .zarr, .h5 or .tif. Nothing within one (::).",
        json_schema_extra={"pattern": "^:?([^:]+:)*[^:]*$"},
    )
    name: str = Field(default="", max_length=200, description="Name for people.")
    finish_by: Time | None = Field(
        default=None,
        description="Time by which it should be done (RFC 3339 with time zone), from 2000 on.",
        json_schema_extra={"pattern": "^2"},
    )
    options: ScanOptionsBody = Field(default_factory=ScanOptionsBody)

    def request(self, *, source: str, sink: str) -> ScanRequest:
        """Return the request as `service.scans` takes it.

        Args:
            source: Path or URL of the source, with links resolved.
            sink: Path or URL of the sink, with links resolved.

        Raises:
            BadRequest: A window, pixel size or name pattern cannot be read.
        """
        options = self.options
        size = options.pixel_size_nm
        return ScanRequest(
            source=source,
            sink=sink,
            window=None if options.window is None else parse_window(options.window),
            answer_dtype="uint16" if options.answer_bits == 16 else options.answer_dtype,
            answer_bits=options.answer_bits,
            answer_type=None if options.format is None else FORMATS[options.format],
            pixel_size=None if size is None else parse_pixel_size(size),
            manifest=options.manifest,
            patience_s=options.patience_s,
            name_pattern=None
            if options.name_pattern is None
            else NamePattern(options.name_pattern).pattern,
        )


def read_body(content: bytes) -> ScanBody:
    """Read a body of JSON.

    Raises:
        UnsuitableScan: It is not JSON of this form, or a value is invalid.
    """
    try:
        return parse_json(content, ScanBody)
    except JsonBodyError as error:
        raise UnsuitableScan(str(error), fields=error.fields) from error


def checked_request(body: ScanBody, roots: Roots) -> ScanRequest:
    """Return the request of a scan, checked before the scan is accepted.

    Raises:
        OutsideRoots: Source or sink lies outside the allowed folders.
        UnsuitableScan: It cannot be run.
    """
    options = body.options
    if "::" in body.sink:
        detail = f"the sink {body.sink} names something within (::); a source may"
        raise UnsuitableScan(detail, fields=[("sink", detail)])
    with _blamed_on("source"):
        source = roots.check(body.source)
    with _blamed_on("sink"):
        sink = roots.check(body.sink)
        check_apart(source, sink=sink)
    if options.window is not None:
        with _blamed_on("options.window"):
            parse_window(options.window)
    if options.pixel_size_nm is not None:
        with _blamed_on("options.pixel_size_nm"):
            parse_pixel_size(options.pixel_size_nm)
    if options.name_pattern is not None:
        with _blamed_on("options.name_pattern"):
            NamePattern(options.name_pattern)
    with _blamed_on("options.manifest"):
        check_form(options.manifest)
    return body.request(source=source, sink=sink)


@contextlib.contextmanager
def _blamed_on(field: str) -> Generator[None]:
    """Turn the errors of the block into errors of a field."""
    try:
        yield
    except OutsideRootsError as error:
        raise OutsideRoots(str(error), fields=[(field, str(error))]) from error
    except (ScanError, BadRequest) as error:
        raise UnsuitableScan(str(error), fields=[(field, str(error))]) from error
