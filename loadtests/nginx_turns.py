"""The service without a model, in turns with nginx serving as many bytes."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from loadtests.clients import OWN, TileLoad, by_each_client
from loadtests.closed_loop import LoadResult
from loadtests.exchange import Address
from loadtests.nginx import ANSWER_PATH, nginx_path, running_nginx
from loadtests.results import Row
from loadtests.rows import load_row, mode_name, ratio_row
from loadtests.target import MODES, running_service

_NGINX = "nginx, the same bytes"

Loads = dict[str, LoadResult]


def compare_with_nginx(load: TileLoad, rounds: int, step: Callable[[], object]) -> list[Row]:
    """Compare every mode with nginx.

    Args:
        load: Load of a turn.
        rounds: Turns of each; the order changes from round to round.
        step: Callback after each turn, also in place of nginx's where it is not installed.
    """
    turns: dict[str, list[Loads]] = {mode: [] for mode in MODES}
    nginx: list[Loads] = []
    with contextlib.ExitStack() as stack:
        addresses = {
            mode: stack.enter_context(
                running_service(load.bundle.path, {**settings, "SEMSR_ENGINE": "identity"})
            ).address
            for mode, settings in MODES.items()
        }
        nginx_address = None
        if nginx_path() is not None:
            nginx_address = stack.enter_context(running_nginx(b"\x80" * load.raw.answer_bytes))

        def loads(address: Address, *, path: str) -> Loads:
            return by_each_client(
                address,
                replace(load.raw, path=path),
                connections=load.connections,
                seconds=load.seconds,
            )

        def take_turn(mode: str | None) -> None:
            if mode is not None:
                turns[mode].append(loads(addresses[mode], path=load.raw.path))
            elif nginx_address is not None:
                nginx.append(loads(nginx_address, path=ANSWER_PATH))
            step()

        for number in range(rounds):
            order = [*MODES, None]
            for mode in order if number % 2 else reversed(order):
                take_turn(mode)

    baselines = _by_client(nginx)
    rows = [load_row(f"{_NGINX}{note}", loads) for note, loads in baselines.items()]
    for mode in MODES:
        name = f"{mode_name(mode)}, {load.connections} connections"
        for note, results in _by_client(turns[mode]).items():
            if not nginx:
                rows.append(load_row(f"{name}{note} (no nginx here)", results, "identity"))
                continue
            pairs = [
                (ours.per_second, theirs.per_second)
                for ours, theirs in zip(results, baselines[note], strict=True)
            ]
            row = load_row(f"{name}{note}", results, "identity")
            rows.append({**row, **ratio_row(pairs, f"{_NGINX}{note}")})
    return rows


def _by_client(turns: Sequence[Loads]) -> dict[str, list[LoadResult]]:
    """Return the turns of each client, by its note in the name of a row."""
    return {
        "" if client == OWN else f", by {client}": [turn[client] for turn in turns]
        for client in (turns[0] if turns else {})
    }
