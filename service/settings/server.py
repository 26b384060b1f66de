"""Settings of the server: address, processes, TLS, and who may use it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings

from service.ground.addresses import Host, Networks


class ServerSettings(BaseSettings):
    """Server, processes, and access."""

    host: Host = Field(
        default="127.0.0.1",
        description=(
            "Address or name to listen on; IPv6 with or without brackets. 0.0.0.0 listens on all "
            "interfaces, :: on those of IPv6 too."
        ),
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8000, description="TCP port; 0 selects a free port and logs it."
    )
    mode: Literal["single", "pool"] = Field(
        default="single",
        description=(
            "Process layout. single: one process does everything. pool: several front ends "
            "accept, decode, and encode; engines run in their own processes, which are restarted "
            "when they die."
        ),
    )
    front_ends: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None,
        description=(
            "pool: number of processes that accept requests. Unset: by the cores and GPUs, see "
            "operations.md: on the CPU one for every four cores, at most 4; on a GPU the cores "
            "without two for each engine process, at most 8 for each."
        ),
    )
    engine_processes: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1,
        description=(
            "pool: number of engine processes for each model. On the CPU, each gets its share of "
            "the cores; with SEMSR_DEVICE=cuda, they are spread over the GPUs, and more than there "
            "are GPUs share them; with cuda:N, all share this GPU."
        ),
    )
    front_end_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=30.0,
        description=(
            "pool: time in seconds after which an unresponsive front end is killed and restarted; "
            "its clients lose their connections."
        ),
    )
    drain_s: Annotated[float, Field(ge=0)] = Field(
        default=5.0,
        description=(
            "Time in seconds after SIGTERM during which /readyz already returns 503 but requests "
            "are still served, so that load balancers can first redirect traffic. SIGINT skips "
            "it."
        ),
    )
    shutdown_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=30.0,
        description="Time limit in seconds from the end of the drain to the end of the process.",
    )
    tls_cert: Path | None = Field(
        default=None,
        description="Certificate chain, PEM; together with SEMSR_TLS_KEY it enables HTTPS.",
    )
    tls_key: Path | None = Field(
        default=None, description="Private key of the certificate, PEM, unencrypted."
    )
    trusted_proxies: Networks | None = Field(
        default=None,
        description=(
            "Addresses and networks of reverse proxies (10.0.0.7,10.1.0.0/16). For requests from "
            "these, X-Forwarded-For identifies the client and X-Forwarded-Proto the scheme. "
            "Unset: these headers are ignored."
        ),
    )
    api_keys: Path | None = Field(
        default=None,
        description=(
            "File of API keys, one per line: NAME SHA256, or NAME SHA256 admin (`semsr api-key "
            "NAME` makes it). Unset: every client is served without a key. Health routes and "
            "/metrics need no key; loading and unloading models needs the key of an admin."
        ),
    )
    rate_limit_per_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description=(
            "Requests per second allowed for one client (identified by key, otherwise by "
            "address); excess requests get 429. Unset: no limit."
        ),
    )
    rate_limit_burst: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=64,
        description=(
            "Number of requests that a client may send at once before the rate limit applies."
        ),
    )
