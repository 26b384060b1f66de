"""The command `semsr`: one subcommand per job, each importing its folder only when it runs.

Tables and results go to stdout (`--json` for machines: a list of rows with plain keys), progress
and logs to stderr. Exit codes: 0 done, 1 the job failed, 2 wrong arguments or settings,
130 stopped.
"""

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence

from semsr.commands import (
    api_key,
    bench,
    bundle,
    demo,
    evaluate,
    evaluate_trust,
    export,
    scan,
    serve,
    simulate,
    train,
    upscale,
)
from semsr.commands.options import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, UsageError

COMMANDS = (
    serve,
    demo,
    upscale,
    scan,
    api_key,
    bundle,
    bench,
    train,
    evaluate,
    evaluate_trust,
    export,
    simulate,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except UsageError as error:
        sys.stderr.write(f"semsr: {error}\n")
        return EXIT_USAGE
    except ImportError as error:
        sys.stderr.write(
            f"semsr {options.command}: {error}; this subcommand needs an extra, "
            "see the table of commands in README.md\n"
        )
        return EXIT_USAGE
    except Exception as error:
        if os.environ.get("SEMSR_TRACEBACK"):
            raise
        sys.stderr.write(f"semsr {options.command}: {type(error).__name__}: {error}\n")
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="semsr",
        description="Super-resolution of SEM tiles: train, export, serve.",
    )
    version = importlib.metadata.version("semsr")
    parser.add_argument("--version", action="version", version=f"semsr {version}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
