"""The command `semsr`: one subcommand per job, each importing its folder only when it runs.

Tables and results go to stdout (`--json` for machines: a list of rows with plain keys), progress
and logs to stderr. Exit codes: 0 done, 1 the job failed, 2 wrong arguments or settings,
130 stopped.
"""

import argparse
import importlib.metadata
import io
import os
import sys
from collections.abc import Callable, Sequence

from semsr.commands import (
    align,
    api_key,
    bundle,
    compare,
    compare_models,
    demo,
    evaluate,
    evaluate_trust,
    export,
    internal_sr,
    reference_sr,
    scan,
    serve,
    simulate,
    train,
    train_detector,
    translate,
    upscale,
)
from semsr.commands.options import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    CommandParser,
    UsageError,
)
from semsr.error_text import error_text, missing_package

COMMANDS = (
    serve,
    demo,
    upscale,
    scan,
    api_key,
    bundle,
    align,
    train,
    evaluate,
    evaluate_trust,
    compare,
    compare_models,
    export,
    simulate,
    internal_sr,
    reference_sr,
    train_detector,
    translate,
    # Folders above the command line add theirs (`bench`): pyproject.toml, entry points.
    *(
        command.load()
        for command in importlib.metadata.distribution("semsr").entry_points.select(
            group="semsr.commands"
        )
    ),
)


# Their errors carry messages for people.
_PACKAGES = {
    "bundle_format",
    "engines",
    "models",
    "export",
    "training",
    "service",
    "loadtests",
    "semsr",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    # A file name that the terminal's encoding cannot hold must not end a command in the middle.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        # The service checks its own settings, and logs what is wrong with them.
        if options.command != "serve":
            _check_variables()
        return run(options)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except UsageError as error:
        sys.stderr.write(f"semsr: {error}\n")
        return EXIT_USAGE
    except Exception as error:
        if os.environ.get("SEMSR_TRACEBACK"):
            raise
        if problems := _setting_problems(error):
            sys.stderr.write("".join(f"semsr: {problem}\n" for problem in problems))
            return EXIT_USAGE
        sys.stderr.write(f"semsr {options.command}: {_message(error)}\n")
        return EXIT_USAGE if isinstance(error, ImportError) else EXIT_FAILED


def _check_variables() -> None:
    """Refuse unknown `SEMSR_…` variables: a mistyped one must not be ignored silently.

    Raises:
        UsageError: A variable is unknown; the message suggests the nearest known one.
    """
    if not any(name.upper().startswith("SEMSR_") for name in os.environ):
        return
    from service.hosting.setting_problems import unknown_settings

    if unknown := unknown_settings(os.environ):
        raise UsageError("; ".join(unknown))


def _setting_problems(error: Exception) -> list[str]:
    """Describe settings that are out of bounds, if they caused the error."""
    from pydantic import ValidationError

    if not (isinstance(error, ValidationError) and error.title == "Settings"):
        return []
    from service.hosting.setting_problems import value_problems

    return value_problems(error)


def _message(error: Exception) -> str:
    """Return an error's message if it is written for people, else report it as a bug of semsr."""
    if isinstance(error, ImportError):
        return missing_package(error)
    is_ours = type(error).__module__.partition(".")[0] in _PACKAGES
    if is_ours or isinstance(error, OSError | ValueError | RuntimeError):
        return error_text(error)
    return (
        f"unexpected {type(error).__name__}: {error_text(error)}; please report it with what "
        "SEMSR_TRACEBACK=1 shows"
    )


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
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
