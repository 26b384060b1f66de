"""`python -m service`: settings, one process or a pool of them, an exit code that means something.

0  stopped as asked          3  the models could not, or can no longer, be served
1  a fault of the service    4  the address is in use
2  a setting is wrong        5  stopped by a second signal
"""

from engines.process import end_on_signals, run_and_end

# Before anything that takes time is imported: a signal ends the process with 0 from here on.
end_on_signals()

import os  # noqa: E402 (as said above)
import sys  # noqa: E402

import structlog  # noqa: E402
from pydantic import ValidationError  # noqa: E402

from service.ground.exit_codes import EXIT_CONFIGURATION  # noqa: E402
from service.ground.logs import configure_logs  # noqa: E402
from service.hosting.setting_problems import unknown_settings, value_problems  # noqa: E402
from service.settings import Settings  # noqa: E402

log = structlog.get_logger()


def main() -> int:
    """Read the settings from the environment and serve; returns the exit code."""
    try:
        settings = Settings()
    except ValidationError as error:
        sys.stderr.writelines(f"{problem}\n" for problem in value_problems(error))
        return EXIT_CONFIGURATION
    unknown = unknown_settings(os.environ)
    if unknown:
        sys.stderr.writelines(f"{problem}\n" for problem in unknown)
        return EXIT_CONFIGURATION
    process = "supervisor" if settings.mode == "pool" else None
    configure_logs(settings.log_level, settings.log_format, process=process)
    bundles = ",".join(map(str, settings.model_paths().values()))
    log.info("starting", mode=settings.mode, engine=settings.engine, bundle=bundles)
    # What follows imports most of the service, a second or two: settings are answered before it.
    from service.http.startup import run

    return run(settings)


if __name__ == "__main__":
    run_and_end(main)
