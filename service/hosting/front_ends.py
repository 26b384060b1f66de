"""Number of front ends of a pool, by cores and GPUs; the reasons are in `docs/operations.md`."""

from service.settings import Settings

# On the CPU the engine needs the cores; a front end spends less than a millisecond on a raw tile.
_CPU_CORES_EACH, _MAX_ON_CPU = 4, 4

# An engine process on a GPU launches batches and passes tiles on: its event loop and its slots.
_CORES_OF_GPU_ENGINE = 2
# As many carried one engine process at the limit of its engine (docs/measurements/gpu.md).
_MAX_FOR_GPU_ENGINE = 8

_MAX = 64


def num_front_ends(settings: Settings, cores: int) -> int:
    """Return the number of front ends: the setting's, or else the one that fits the machine.

    Args:
        settings: The service's settings.
        cores: Number of cores that the service may use.
    """
    if settings.mode == "single":
        return 1
    if settings.front_ends is not None:
        return settings.front_ends
    if settings.device == "cpu":
        return max(1, min(_MAX_ON_CPU, cores // _CPU_CORES_EACH))
    engines = settings.engine_processes * len(settings.model_paths())
    left = cores - _CORES_OF_GPU_ENGINE * engines
    return max(1, min(_MAX, left, _MAX_FOR_GPU_ENGINE * engines))
