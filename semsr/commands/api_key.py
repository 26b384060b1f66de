"""`semsr api-key`: make a key for a client of the service, and the line of the key file for it."""

import argparse
import sys

from semsr.commands.options import Commands, UsageError, add_command


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "api-key",
        help="make an API key; append the second line to the file SEMSR_API_KEYS",
        examples=["semsr api-key line-3", "semsr api-key operator --admin"],
    )
    parser.add_argument("name", help="name of the client, as it appears in the log")
    parser.add_argument("--admin", action="store_true", help="may also load and unload models")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from service.http.access import KeyFileError, check_client_name, hash_key, new_key

    try:
        check_client_name(options.name)
    except KeyFileError as error:
        raise UsageError(str(error)) from error
    key = new_key()
    role = " admin" if options.admin else ""
    sys.stdout.write(f"{key}\n{options.name} {hash_key(key)}{role}\n")
    sys.stderr.write("the first line is the key, for the client; it is not stored\n")
    return 0
