"""Settings of the service: built once at the start from `SEMSR_…` variables and passed down.

A module of this package holds one group of them; `docs/configuration.md` is made from the groups.
"""

import re
from collections.abc import Mapping

from pydantic import model_validator
from pydantic_settings import SettingsConfigDict

from service.settings.models import ModelSettings
from service.settings.reports import ReportSettings
from service.settings.requests import RequestSettings
from service.settings.scans import ScanSettings
from service.settings.server import ServerSettings
from service.settings.shadow import ShadowSettings

__all__ = ["GROUPS", "OTHER_VARIABLES", "Settings", "unknown_variables"]

GROUPS = (
    ServerSettings, ModelSettings, RequestSettings, ScanSettings, ShadowSettings, ReportSettings,
)  # fmt: skip

# Variables of the same prefix that other parts of the project read.
OTHER_VARIABLES = frozenset({"SEMSR_DATA", "SEMSR_VGG16", "SEMSR_TRACEBACK", "SEMSR_REQUIRE_TESTS"})
# Kubernetes sets these in every pod next to a Service called semsr.
_SERVICE_LINKS = re.compile(r"SEMSR_SERVICE_(HOST|PORT.*)|SEMSR_PORT_[0-9]+_.*")


class Settings(
    ServerSettings, ModelSettings, RequestSettings, ScanSettings, ShadowSettings, ReportSettings
):
    """Every setting, its default and its bounds."""

    model_config = SettingsConfigDict(
        env_prefix="SEMSR_", env_ignore_empty=True, frozen=True, extra="forbid"
    )

    @model_validator(mode="after")
    def _check_shadow(self) -> "Settings":
        if self.shadow_bundle is None:
            given = [name for name in ShadowSettings.model_fields if name in self.model_fields_set]
            if given:
                raise ValueError(
                    f"SEMSR_{given[0].upper()} is set, but SEMSR_SHADOW_BUNDLE is not; expected "
                    "the folder of the shadow's bundle"
                )
            return self
        if self.mode == "pool":
            raise ValueError(
                f"SEMSR_SHADOW_BUNDLE is {self.shadow_bundle} and SEMSR_MODE is pool; expected "
                "SEMSR_MODE=single, because a pool has no shadow"
            )
        names = list(self.bundles or {})
        if self.shadow_model is not None and self.shadow_model not in names:
            raise ValueError(
                f"SEMSR_SHADOW_MODEL is {self.shadow_model!r}; expected a name of SEMSR_BUNDLES "
                f"({', '.join(names) or 'which is not set'})"
            )
        return self


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """List `SEMSR_…` variables that no setting reads, so that a mistyped limit is reported.

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
