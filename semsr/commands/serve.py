"""`semsr serve`: the service, until it is stopped."""

import argparse
import os
import sys
from typing import NoReturn

from semsr.commands.options import Commands


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = commands.add_parser("serve", help="serve a bundle over HTTP until stopped")
    parser.add_argument("--bundle", help="bundle to serve (SEMSR_BUNDLE)")
    parser.add_argument("--host", help="address to listen on (SEMSR_HOST)")
    parser.add_argument("--port", help="TCP port, 0 for a free one (SEMSR_PORT)")
    parser.add_argument(
        "--engine", help="auto, onnx, openvino, tensorrt, torch or identity (SEMSR_ENGINE)"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> NoReturn:
    # First of all: a signal while the service loads is a stop as asked, not a failure.
    from service.process import end_on_signals, run_and_end

    end_on_signals()
    if sys.stderr.isatty():
        sys.stderr.write("Starting the service: it loads the model, then says where to find it.\n")
    from service.__main__ import main as serve

    for name in ("bundle", "host", "port", "engine"):
        value = getattr(options, name)
        if value is not None:
            os.environ[f"SEMSR_{name.upper()}"] = value
    run_and_end(serve)
