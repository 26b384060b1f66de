"""The measurements of `semsr bench`, one after the other."""

from pathlib import Path

from bundle_format.bundle import load_bundle
from semsr.bench.model_turns import measure_beside_engine
from semsr.bench.modes import service_modes
from semsr.bench.nginx_turns import measure_beside_nginx
from semsr.bench.rows import Row
from semsr.bench.tile_load import TileLoad
from semsr.progress import progress
from service.settings import Settings

ROUNDS = 6


def run_bench(*, bundle: Path | None, seconds: float, connections: int) -> list[Row]:
    """Run every measurement.

    What is compared takes short turns, and a ratio is the median of those of the turns with their
    quartiles: a machine that drifts, does so for both.

    Args:
        bundle: Bundle to serve; None takes the setting's.
        seconds: Length of each measurement, all of its turns together; longer where a turn would
            see too few answers of a slow model.
        connections: Connections of the throughput measurements.

    Returns:
        Rows with `name`, the measured figure and, where there is one, `ratio` to its `yardstick`.
    """
    settings = Settings()
    path = bundle or settings.bundle
    load = TileLoad(load_bundle(path), connections, seconds / ROUNDS)
    modes = {
        mode: {"SEMSR_BUNDLE": str(path), **settings} for mode, settings in service_modes().items()
    }
    with progress("bench", ROUNDS * (1 + 4 * len(modes)), unit="turn") as steps:
        steps.say("the service beside its engine")
        rows = measure_beside_engine(path, load, modes, ROUNDS, steps.update)
        steps.say("the service without a model, beside nginx")
        return [*rows, *measure_beside_nginx(load, modes, ROUNDS, steps.update)]
