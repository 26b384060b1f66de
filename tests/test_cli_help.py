"""What every subcommand's `--help` holds, and what a misspelled word is answered with."""

import argparse
import shlex
from collections.abc import Iterator
from typing import get_args

import pytest

from semsr.cli import _parser, main
from semsr.commands.options import ENGINES, EXIT_FAILED, EXIT_USAGE
from service.scans.errors import ScanError
from service.settings import Settings


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and every parser below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from parsers(child)


ALL = list(parsers(_parser()))
COMMANDS = [
    parser
    for parser in ALL
    if not any(isinstance(a, argparse._SubParsersAction) for a in parser._actions)
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
        (["upscale", "a.png", "--out", "x", "--engine", "onxx"], "did you mean onnx?"),
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


def test_the_choices_of_engines_are_those_of_the_setting() -> None:
    """`--engine` takes what SEMSR_ENGINE takes."""
    assert get_args(Settings.model_fields["engine"].annotation) == ENGINES


@pytest.mark.parametrize("command", ["upscale a.png --out x", "demo", "bench", "scan a b"])
@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SEMSR_ENGNE", "onnx", "SEMSR_ENGNE: unknown setting; did you mean SEMSR_ENGINE?"),
        ("SEMSR_MAX_PIXELS", "0", "SEMSR_MAX_PIXELS: "),
    ],
)
def test_wrong_settings_are_named_before_anything_is_loaded(
    command: str,
    variable: str,
    value: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each command answers as `serve` does: one line, exit code 2, no word of pydantic's class."""

    def refuse(*_: object) -> None:
        raise AssertionError("something was started")

    monkeypatch.setenv(variable, value)
    monkeypatch.setattr("subprocess.Popen.__init__", refuse)

    assert EXIT_USAGE == main(command.split())
    error = capsys.readouterr().err
    assert error.startswith(f"semsr: {words}")
    assert 1 == len(error.splitlines())


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "a/b"),
            "a/b: No such file",
            EXIT_FAILED,
        ),
        (ScanError("the sink is full"), "semsr api-key: the sink is full\n", EXIT_FAILED),
        (ValueError("no batch fits"), "semsr api-key: no batch fits\n", EXIT_FAILED),
        (KeyError("x"), "unexpected KeyError: 'x'; please report it", EXIT_FAILED),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            "this needs the package torch, which is not installed; the development environment has "
            "it: make install-dev",
            EXIT_USAGE,
        ),
    ],
)
def test_errors_are_messages_for_people(
    error: Exception,
    text: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No class name before a message that was written for people, no errno, a path once."""

    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr("semsr.commands.api_key._run", fail)

    assert code == main(["api-key", "x"])
    shown = capsys.readouterr().err
    assert text in shown
    assert "Errno" not in shown
    assert "Error: " not in shown.replace("unexpected KeyError: ", "")
