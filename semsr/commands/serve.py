"""`semsr serve`: run the service until it is stopped."""

import argparse
import os
import sys
from typing import NoReturn

from semsr.commands.options import ENGINES, Commands, add_command


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "serve",
        help="serve a bundle over HTTP until stopped",
        description="Serve a bundle over HTTP until SIGINT (Ctrl-C) or SIGTERM. Options override "
        "the settings\nof the same names; docs/configuration.md lists all of them.",
        examples=[
            "semsr serve",
            "semsr serve --bundle bundles/default --host 0.0.0.0 --port 8080 --engine onnx",
        ],
    )
    parser.add_argument("--bundle", help="bundle to serve (default: SEMSR_BUNDLE)")
    parser.add_argument("--host", help="address to listen on (default: SEMSR_HOST, or 127.0.0.1)")
    parser.add_argument("--port", help="TCP port, 0 for a free one (default: SEMSR_PORT, or 8000)")
    parser.add_argument(
        "--engine", choices=ENGINES, help="engine to run it with (default: SEMSR_ENGINE)"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> NoReturn:
    # Set up first: a signal while the service loads is a normal stop, not a failure.
    from engines.process import end_on_signals, run_and_end

    end_on_signals()
    if sys.stderr.isatty():
        sys.stderr.write("Starting the service: it loads the model, then says where to find it.\n")
    from service.__main__ import main as serve

    for name in ("bundle", "host", "port", "engine"):
        value = getattr(options, name)
        if value is not None:
            os.environ[f"SEMSR_{name.upper()}"] = value
    run_and_end(serve)
