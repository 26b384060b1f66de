"""Settings of the scans of `POST /scans`."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from service.ground.pause_windows import PauseWindows
from service.settings.user_folders import user_state_dir

_SCAN_ROOT = re.compile(
    r"/[^\x00-\x1f]+|(?!file:)[a-z][a-z0-9+.-]*://[^\x00-\x1f/:]+[^\x00-\x1f:]*"
)
_POSTGRES = re.compile(r"postgres(ql)?://.")


class ScanSettings(BaseSettings):
    """Nightly scans."""

    scan_roots: Annotated[tuple[str, ...], NoDecode] | None = Field(
        default=None,
        description=(
            "Folders and object-store prefixes (/data/lots,s3://fab/lots) that scans of POST "
            "/scans may read and write; everything else is forbidden. Unset: scans are disabled."
        ),
    )
    scan_pause: str = Field(
        default="",
        description=(
            "Local times of day at which scans of POST /scans pause, such as 07:00-19:00. Several "
            "are separated by commas; a range may span midnight."
        ),
    )
    scan_state: Path | None = Field(
        default_factory=lambda: user_state_dir("service"),
        description=(
            "Folder for the state of scans: their list (SQLite) and the journal of each. It must "
            "outlive the process; with SEMSR_SCAN_DATABASE, all replicas must share it. Unset: "
            "semsr/service in the user's state folder (XDG_STATE_HOME or ~/.local/state)."
        ),
    )
    scan_database: SecretStr | None = Field(
        default=None,
        description=(
            "PostgreSQL database for the list of scans of several replicas: "
            "postgresql://user@host/name (extra postgres; the password may come from PGPASSFILE). "
            "Unset: SQLite."
        ),
    )
    scan_keep_days: Annotated[float, Field(gt=0, le=3650)] = Field(
        default=30.0,
        description="Time in days after which a scan that has ended is deleted from the list.",
    )

    @field_validator("scan_roots", mode="before")
    @classmethod
    def _parse_roots(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        roots = tuple(part.strip().rstrip("/") for part in value.split(","))
        for root in roots:
            if not _SCAN_ROOT.fullmatch(root) or ".." in root.split("/"):
                raise ValueError(
                    f"{root or '/'!r} cannot be a root of scans; expected an absolute folder below "
                    "/ or scheme://bucket/prefix"
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
    def _check_scan_state(self) -> "ScanSettings":
        if self.scan_roots and self.scan_state is None:
            raise ValueError("SEMSR_SCAN_ROOTS needs SEMSR_SCAN_STATE: there is no home folder")
        return self
