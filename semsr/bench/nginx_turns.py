"""The service without a model, in turns with nginx handing out as many bytes."""

import contextlib
from collections.abc import Callable, Mapping, Sequence

from semsr.bench.load import LoadResult
from semsr.bench.nginx import nginx_path, running_nginx
from semsr.bench.rows import Row, load_row, mode_name, ratio_row
from semsr.bench.tile_load import TileLoad, address_of
from semsr.server_process import running_server

_NGINX = "nginx, the same bytes"

Loads = dict[str, LoadResult]


def measure_beside_nginx(
    load: TileLoad, modes: Mapping[str, Mapping[str, str]], rounds: int, step: Callable[[], object]
) -> list[Row]:
    """Measure.

    Args:
        load: What is sent.
        modes: Settings of each mode.
        rounds: Turns of each; the order changes from round to round.
        step: Called after each turn, and where nginx would have had one.
    """
    turns: dict[str, list[Loads]] = {mode: [] for mode in modes}
    nginx: list[Loads] = []
    with contextlib.ExitStack() as stack:
        addresses = {
            mode: address_of(
                stack.enter_context(running_server({**settings, "SEMSR_ENGINE": "identity"})).url
            )
            for mode, settings in modes.items()
        }
        nginx_address = None
        if nginx_path() is not None:
            nginx_address = stack.enter_context(running_nginx(b"\x80" * load.answer_bytes))

        def take_turn(mode: str | None) -> None:
            if mode is not None:
                turns[mode].append(load.by_each_client(addresses[mode]))
            elif nginx_address is not None:
                nginx.append(load.by_each_client(nginx_address, path="/answer"))
            step()

        for number in range(rounds):
            order = [*modes, None]
            for mode in order if number % 2 else reversed(order):
                take_turn(mode)

    yardsticks = _by_client(nginx)
    rows = [load_row(f"{_NGINX}{note}", loads) for note, loads in yardsticks.items()]
    for mode in modes:
        name = f"{mode_name(mode)}, {load.connections} connections"
        for note, loads in _by_client(turns[mode]).items():
            if not nginx:
                rows.append(load_row(f"{name}{note} (no nginx here)", loads, "identity"))
                continue
            pairs = [
                (ours.per_second, theirs.per_second)
                for ours, theirs in zip(loads, yardsticks[note], strict=True)
            ]
            row = load_row(f"{name}{note}", loads, "identity")
            rows.append({**row, **ratio_row(pairs, f"{_NGINX}{note}")})
    return rows


def _by_client(turns: Sequence[Loads]) -> dict[str, list[LoadResult]]:
    """The turns of each client."""
    return {note: [turn[note] for turn in turns] for note in (turns[0] if turns else {})}
