"""What every subcommand's `--help` holds, and what a misspelled word is answered with."""

import argparse
import shlex
from collections.abc import Iterator

import pytest

from semsr.cli import _parser, main
from semsr.commands.options import EXIT_USAGE


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and every parser below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from parsers(child)


ALL = list(parsers(_parser()))
# Other branches own their files.
PENDING = {f"semsr {name}" for name in ("serve", "scan")}
COMMANDS = [
    parser
    for parser in ALL
    if not any(isinstance(a, argparse._SubParsersAction) for a in parser._actions)
    and parser.prog not in PENDING
]


def options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """List what a parser takes, but for --help and --version."""
    kinds = argparse._HelpAction | argparse._VersionAction | argparse._SubParsersAction
    return [action for action in parser._actions if not isinstance(action, kinds)]


def name(parser: argparse.ArgumentParser) -> str:
    """Name a parser in the list of tests."""
    return parser.prog


@pytest.mark.parametrize("parser", COMMANDS, ids=name)
def test_every_argument_says_what_it_is(parser: argparse.ArgumentParser) -> None:
    """No argument is only a name."""
    assert [] == [action.dest for action in options(parser) if not action.help]


@pytest.mark.parametrize("parser", COMMANDS, ids=name)
def test_every_option_with_a_value_shows_its_default(parser: argparse.ArgumentParser) -> None:
    """What happens without the option is said, unless it is required."""
    formatter = parser.formatter_class(prog=parser.prog)
    silent = [
        action.dest
        for action in options(parser)
        if action.option_strings and action.nargs != 0 and not action.required
        if "default" not in (formatter._get_help_string(action) or "")
    ]

    assert [] == silent


@pytest.mark.parametrize("parser", COMMANDS, ids=name)
def test_every_example_parses(parser: argparse.ArgumentParser) -> None:
    """Each subcommand ends its help with a command line of its own that it accepts."""
    lines = [line.strip() for line in (parser.epilog or "").splitlines()]
    examples = [line for line in lines if line.startswith("semsr ")]

    assert examples
    for example in examples:
        words = shlex.split(example, comments=True)
        assert example.startswith(parser.prog) or parser.prog.endswith((" show", " service"))
        assert _parser().parse_args(words[1:]).run is not None


@pytest.mark.parametrize("parser", ALL, ids=name)
def test_help_prints(parser: argparse.ArgumentParser) -> None:
    """A per cent sign in a help text does not break it."""
    assert parser.prog in parser.format_help()


def test_help_of_subcommands_is_their_own() -> None:
    """`bench schedule` shows nothing of what only `bench engine` takes, and the reverse."""
    texts = {parser.prog: parser.format_help() for parser in ALL}

    assert "--cost-ms" in texts["semsr bench schedule"]
    assert "--cost-ms" not in texts["semsr bench engine"]
    assert "--no-peak" not in texts["semsr bench schedule"]
    assert "--lot" not in texts["semsr bench service"]
    assert "--compute-capability" not in texts["semsr bundle show"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["upscal"], "did you mean upscale?"),
        (["bench", "enigne"], "did you mean engine?"),
        (["bench", "--secnds", "4"], "did you mean --seconds?"),
        (["bundle", "build-plan", "x"], "did you mean build-plans?"),
        (["upscale", "a.png", "--out", "x", "--windw=0,1"], "did you mean --window?"),
        (["scan", "a", "b", "--format", "tif"], "did you mean tiff?"),
    ],
)
def test_a_misspelled_word_is_answered_with_the_nearest(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Subcommands, options and choices alike; the exit code is that of wrong use."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert EXIT_USAGE == ended.value.code
    assert words in capsys.readouterr().err
