"""Settings of what the service reports: logs and traces."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class ReportSettings(BaseSettings):
    """Logs and traces."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Minimum level of log lines."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="Log format: json, console, or auto (console on a terminal, otherwise json).",
    )
    log_requests_per_s: Annotated[int, Field(ge=1)] = Field(
        default=100,
        description=(
            "Maximum number of log lines per second for successful requests; the next line counts "
            "the omitted ones (`skipped`). Everything else is always logged."
        ),
    )
    audit: bool = Field(
        default=False,
        description=(
            "Whether the log holds, for each answered image, the SHA-256 of the image as sent and "
            "of its answer, with the client's address. The lines of requests are then never "
            "omitted. Costs processor time for hashing."
        ),
    )
    max_tools: Annotated[int, Field(ge=0, le=128)] = Field(
        default=32,
        description=(
            "Maximum number of tools (X-Tool, and tools of scans) with a label of their own in the "
            "quality metrics, counted for each model and in each front end; further tools are "
            "`other`. Each adds about 70 series."
        ),
    )
    traces_endpoint: Annotated[str, Field(pattern=r"^https?://[^/]+/.+")] | None = Field(
        default=None,
        description=(
            "Full URL to which OpenTelemetry traces are exported by OTLP over HTTP, such as "
            "http://collector:4318/v1/traces (extra tracing). Unset: no traces are created. "
            "Certificates, headers, and other options use the standard variables "
            "OTEL_EXPORTER_OTLP_…"
        ),
    )
    traces_sample_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        default=1.0,
        description=(
            "Share of requests that are traced. A request with a traceparent is traced if its "
            "caller's trace is."
        ),
    )
