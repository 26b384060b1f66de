"""Settings of the service: built once at the start from `SEMSR_…` variables and passed down."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bundle_format.bundle import Precision
from service.ground.addresses import Host, Networks
from service.ground.pause_windows import PauseWindows

# The shipped bundle, found from the working directory of a clone or of the image.
DEFAULT_BUNDLE = Path("bundles/default")


def user_cache_dir() -> Path | None:
    """Find the user's cache folder for semsr; None where the user has no home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "semsr"
    except RuntimeError:
        return None


def _scan_state() -> Path | None:
    """Find the folder of the user's that keeps what programs have done."""
    base = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".local" / "state") / "semsr" / "service"
    except RuntimeError:
        return None


def _in_cache(name: str) -> Path | None:
    base = user_cache_dir()
    return base / name if base else None


# Variables of the same prefix that other parts of the project read.
OTHER_VARIABLES = frozenset({"SEMSR_DATA", "SEMSR_VGG16", "SEMSR_TRACEBACK", "SEMSR_REQUIRE_TESTS"})
_SCAN_ROOT = re.compile(
    r"/[^\x00-\x1f]+|(?!file:)[a-z][a-z0-9+.-]*://[^\x00-\x1f/:]+[^\x00-\x1f:]*"
)
_POSTGRES = re.compile(r"postgres(ql)?://.")
_MODEL_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Kubernetes sets these in every pod beside a Service called semsr.
_SERVICE_LINKS = re.compile(r"SEMSR_SERVICE_(HOST|PORT.*)|SEMSR_PORT_[0-9]+_.*")


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """List `SEMSR_…` variables that nobody reads: a mistyped limit must not silently fail to hold.

    Args:
        environment: Variables and values, such as `os.environ`.
    """
    known = {f"SEMSR_{name.upper()}" for name in Settings.model_fields} | OTHER_VARIABLES
    return sorted(
        name
        for name in environment
        # Settings are read in any case, so a mistyped one may come in any.
        if name.upper().startswith("SEMSR_")
        and name.upper() not in known
        and not _SERVICE_LINKS.fullmatch(name)
    )


class Settings(BaseSettings):
    """Every setting, its default and its bounds; `docs/configuration.md` is made from this."""

    model_config = SettingsConfigDict(
        env_prefix="SEMSR_", env_ignore_empty=True, frozen=True, extra="forbid"
    )

    host: Host = Field(
        default="127.0.0.1",
        description=(
            "Address or name to listen on, IPv6 with or without brackets; 0.0.0.0 for every "
            "interface, :: for those of IPv6 too."
        ),
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8000, description="TCP port; 0 takes a free one and logs it."
    )
    mode: Literal["single", "pool"] = Field(
        default="single",
        description=(
            "single: one process does everything; pool: several accept, decode and encode, and "
            "engines run in processes of their own, which are started anew when they die."
        ),
    )
    front_ends: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None,
        description=(
            "pool: processes that accept requests; unset takes one for every two cores, at most 4."
        ),
    )
    engine_processes: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1,
        description=(
            "pool: engine processes for each model. On the CPU each gets its share of the cores; "
            "with SEMSR_DEVICE=cuda each gets the next GPU."
        ),
    )
    bundle: Path = Field(
        default=DEFAULT_BUNDLE, description="Folder of the one model bundle to serve."
    )
    bundles: Annotated[dict[str, Path], NoDecode] | None = Field(
        default=None,
        description=(
            "Several bundles in place of one: NAME=FOLDER,NAME=FOLDER…; a request chooses with "
            "?model=NAME, and gets the first one otherwise."
        ),
    )
    engine: Literal["auto", "onnx", "openvino", "tensorrt", "torch", "identity"] = Field(
        default="auto",
        description=(
            "Runtime: onnx, openvino (extra), tensorrt (GPU; extra gpu or rtx, and plans, see "
            "SEMSR_PLAN_CACHE), torch (extra export; the reference), identity (nearest neighbour, "
            "to measure the service itself), or auto, which measures those of the first three that "
            "are installed once, in each precision, and remembers the fastest."
        ),
    )
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d{1,3})?)$")] = Field(
        default="cpu",
        description=(
            "Where the engine computes: cpu, cuda (onnx with onnxruntime-gpu, tensorrt, torch) or "
            "cuda:N for one of several GPUs."
        ),
    )
    hint: Literal["latency", "throughput"] = Field(
        default="latency",
        description="openvino: latency lets every batch use all threads, throughput runs several "
        "batches side by side.",
    )
    precision: Precision | None = Field(
        default=None,
        description=(
            "Execution precision; unset takes the fastest of those that passed the bundle's export "
            "gates if SEMSR_ENGINE is auto, chosen and remembered with the engine, and the "
            "bundle's own (fp32) if an engine is named. Replicas on different processors may "
            "choose differently: name it for them."
        ),
    )
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None,
        description=(
            "CPU threads of the engine; unset takes the cores that affinity and cgroup leave."
        ),
    )
    max_batch_size: Annotated[int, Field(ge=1, le=256)] | None = Field(
        default=None, description="Most tiles in one batch; unset takes the bundle's own limit."
    )
    online_budget_ms: Annotated[float, Field(gt=0, le=3_600_000)] = Field(
        default=10_000.0,
        description=(
            "Longest time in milliseconds that an online tile without X-Request-Timeout-Ms may be "
            "expected to wait; a request that would wait longer is refused with 503. Nightly tiles "
            "keep the engine busy for at most a quarter of it at a time."
        ),
    )
    load_from: Path | None = Field(
        default=None,
        description=(
            "Folder below which lie the bundles that an admin may name when a model is loaded "
            "while the service runs; unset allows the models' present folders only."
        ),
    )
    rollback_keep_s: Annotated[float, Field(ge=0, le=604_800)] = Field(
        default=3600.0,
        description=(
            "Seconds for which the version of a model that another one has replaced stays loaded, "
            "so that a rollback is instant; it takes its memory meanwhile. 0 lets it go at once."
        ),
    )
    self_test_minutes: Annotated[float, Field(ge=0, le=10_080)] = Field(
        default=10.0,
        description=(
            "Minutes between two runs of the golden tile on each engine that serves; one that "
            "fails serves no longer. 0 turns the test off."
        ),
    )
    max_queue: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=128,
        description=(
            "Places for requests under way; beyond them a request gets 503 at once. A place is the "
            "memory of one SR tile: an image takes one for each of its tiles (two for a 16-bit "
            "answer), an upload as many as its bytes fill."
        ),
    )
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(
        default=32 * 1024 * 1024, description="Largest request body in bytes."
    )
    max_pixels: Annotated[int, Field(ge=1)] = Field(
        default=2048 * 2048, description="Largest image in pixels, checked before it is decoded."
    )
    body_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=30.0, description="Longest time in seconds that a request body may take to arrive."
    )
    batch_idle_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=60.0,
        description=(
            "Longest time in seconds that the upload of a batch request may pause; there is no "
            "limit on the whole. One tile of it may take SEMSR_BODY_TIMEOUT_S."
        ),
    )
    max_spool_bytes: Annotated[int, Field(ge=1024)] = Field(
        default=1 << 30,
        description=(
            "Largest TIFF stack or zip archive of a batch request in bytes: it is kept in a "
            "temporary file without a name while it is read. Raw, npy and tar need none."
        ),
    )
    spool_dir: Path | None = Field(
        default=None,
        description=(
            "Folder for those files; unset takes the system's (TMPDIR, /tmp). On a memory file "
            "system such as /dev/shm no picture ever reaches a disk."
        ),
    )
    head_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=10.0,
        description="Longest time in seconds that the head of a request may take to arrive.",
    )
    send_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=30.0,
        description=(
            "Seconds after which a connection is cut whose client does not read its answer."
        ),
    )
    engine_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=120.0,
        description=(
            "Longest time in seconds for one batch; an engine that takes longer hangs, and the "
            "service ends with exit code 3 so that whoever watches it restarts it."
        ),
    )
    front_end_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=30.0,
        description=(
            "pool: seconds after which a front end that gives no sign of life is killed and "
            "started anew; its clients lose their connections."
        ),
    )
    api_keys: Path | None = Field(
        default=None,
        description=(
            "File of API keys, NAME SHA256 a line, or NAME SHA256 admin (`semsr api-key NAME`); "
            "unset serves everybody. Health routes and /metrics need no key; loading and unloading "
            "models needs one of an admin."
        ),
    )
    rate_limit_per_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description=(
            "Requests a second of one client (of one key, else of one address); more get 429. "
            "Unset sets no limit."
        ),
    )
    rate_limit_burst: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=64, description="Requests that a client may send at once before that limit counts."
    )
    trusted_proxies: Networks | None = Field(
        default=None,
        description=(
            "Addresses and networks of reverse proxies (10.0.0.7,10.1.0.0/16): of a request from "
            "one of them X-Forwarded-For says who the client is and X-Forwarded-Proto by which "
            "scheme it came. Unset believes these headers of nobody."
        ),
    )
    tls_cert: Path | None = Field(
        default=None, description="Certificate chain, PEM; with SEMSR_TLS_KEY it turns HTTPS on."
    )
    tls_key: Path | None = Field(default=None, description="Private key of it, PEM, not encrypted.")
    drain_s: Annotated[float, Field(ge=0)] = Field(
        default=5.0,
        description=(
            "After SIGTERM: seconds during which /readyz already says 503 but requests are still "
            "served, so that load balancers can turn away first. SIGINT does not wait."
        ),
    )
    shutdown_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=30.0,
        description="Longest time in seconds from the end of the drain to the end of the process.",
    )
    cache_dir: Path | None = Field(
        default_factory=user_cache_dir,
        description=(
            "Where auto remembers its choice; unset takes semsr in the user's cache folder "
            "(XDG_CACHE_HOME or ~/.cache)."
        ),
    )
    plan_cache: Path | None = Field(
        default_factory=lambda: _in_cache("plans"),
        description=(
            "Folder of TensorRT plans, filled by `semsr bundle build-plans`; unset takes plans in "
            "semsr's folder in the user's cache folder."
        ),
    )
    scan_roots: Annotated[tuple[str, ...], NoDecode] | None = Field(
        default=None,
        description=(
            "Folders and prefixes of object stores (/data/lots,s3://fab/lots) that scans of POST "
            "/scans may read and write; nothing outside. Unset turns them off."
        ),
    )
    scan_pause: str = Field(
        default="",
        description=(
            "Times of day, local time, at which those scans pause: 07:00-19:00, several with "
            "commas, also over midnight."
        ),
    )
    scan_state: Path | None = Field(
        default_factory=_scan_state,
        description=(
            "Folder of what those scans have done: their list (SQLite) and a journal each. It must "
            "outlive the process, and be one for all replicas with SEMSR_SCAN_DATABASE. Unset "
            "takes semsr/service in the user's state folder (XDG_STATE_HOME or ~/.local/state)."
        ),
    )
    scan_database: SecretStr | None = Field(
        default=None,
        description=(
            "PostgreSQL that keeps their list for several replicas: postgresql://user@host/name "
            "(extra postgres; the password also by PGPASSFILE). Unset takes SQLite."
        ),
    )
    scan_keep_days: Annotated[float, Field(gt=0, le=3650)] = Field(
        default=30.0, description="Days after which a scan that has ended is forgotten."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log level that is written."
    )
    log_requests_per_s: Annotated[int, Field(ge=1)] = Field(
        default=100,
        description=(
            "Most lines a second for requests that went well; the next line says how many were "
            "left out (`skipped`). Everything else is always logged."
        ),
    )
    traces_endpoint: Annotated[str, Field(pattern=r"^https?://[^/]+/.+")] | None = Field(
        default=None,
        description=(
            "Where OpenTelemetry traces go, by OTLP over HTTP: the whole address, such as "
            "http://collector:4318/v1/traces (extra tracing). Unset makes none. Certificates, "
            "headers and the like have their standard names, OTEL_EXPORTER_OTLP_…"
        ),
    )
    traces_sample_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        default=1.0,
        description=(
            "Share of the requests that are traced. One that brings a traceparent is traced if its "
            "caller's trace is."
        ),
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="json, console, or auto: console on a terminal, else json."
    )

    @field_validator("bundles", mode="before")
    @classmethod
    def _parse_bundles(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        bundles: dict[str, str] = {}
        for part in value.split(","):
            name, is_pair, folder = part.strip().partition("=")
            if not is_pair or not folder or not _MODEL_NAME.fullmatch(name) or name in bundles:
                raise ValueError(
                    f"{part.strip()!r} is no NAME=FOLDER with a name of its own (letters, digits, "
                    "._-, at most 64)"
                )
            bundles[name] = folder
        return bundles

    @field_validator("scan_roots", mode="before")
    @classmethod
    def _parse_roots(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        roots = tuple(part.strip().rstrip("/") for part in value.split(","))
        for root in roots:
            if not _SCAN_ROOT.fullmatch(root) or ".." in root.split("/"):
                raise ValueError(
                    f"{root or '/'!r} is no root of scans; expected an absolute folder below / or "
                    "scheme://bucket/prefix"
                )
        return roots

    @field_validator("scan_pause")
    @classmethod
    def _check_pause(cls, value: str) -> str:
        PauseWindows(value)
        return value

    @field_validator("scan_database")
    @classmethod
    def _check_database(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _POSTGRES.match(value.get_secret_value()):
            raise ValueError("expected postgresql://user@host/name")
        return value

    @model_validator(mode="after")
    def _check_scan_state(self) -> "Settings":
        if self.scan_roots and self.scan_state is None:
            raise ValueError("SEMSR_SCAN_ROOTS needs SEMSR_SCAN_STATE: there is no home folder")
        return self

    @model_validator(mode="after")
    def _check_one_source(self) -> "Settings":
        if self.bundles is not None and "bundle" in self.model_fields_set:
            raise ValueError("SEMSR_BUNDLE and SEMSR_BUNDLES are both set; set one of them")
        return self

    def model_paths(self) -> dict[str, Path]:
        """Bundle folders by name of the model, the default one first; "" is named by its bundle."""
        return {"": self.bundle} if self.bundles is None else dict(self.bundles)
