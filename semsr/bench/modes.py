"""The ways in which the service can run, side by side in one bench."""

from service.settings import Settings


def service_modes() -> dict[str, dict[str, str]]:
    """Name the modes of this version, with the variables that choose each.

    `SEMSR_FRONT_ENDS` and the like are left to the environment.
    """
    if "mode" not in Settings.model_fields:
        return {"single": {}}
    return {mode: {"SEMSR_MODE": mode} for mode in ("single", "pool")}
