"""`semsr bench schedule`: one engine, or several cards, in simulated time."""

import argparse
from collections.abc import Mapping

from loadtests.command_options import add_json, add_plot, check_packages, check_positive
from semsr.commands.options import Commands, UsageError, add_command, print_rows

_SCHEDULE = "the scheduler in simulated time: latency against load"


def add_schedule(what: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        what,
        "schedule",
        help=f"simulate {_SCHEDULE}",
        examples=[
            "semsr bench schedule --cost-ms 1=180 4=720",
            "semsr bench schedule --cost-ms 1=0.67 8=3.2 --cards 2 1 1 --seconds 5",
        ],
    )
    parser.add_argument(
        "--cost-ms",
        nargs="+",
        required=True,
        metavar="N=MS",
        help="milliseconds of a batch of N tiles, 1=… among them (semsr bench engine measures it)",
    )
    parser.add_argument(
        "--load",
        type=float,
        nargs="+",
        default=[0.2, 0.5, 0.8, 0.95, 1.5, 3.0],
        metavar="SHARE",
        help="online load as a share of what the engine can do, or all cards with one slot each",
    )
    parser.add_argument(
        "--slots", type=int, default=1, metavar="N", help="batches that the engine runs at once"
    )
    parser.add_argument(
        "--budget-ms",
        type=float,
        metavar="MS",
        help="latency budget of online tiles in milliseconds (default: three of the largest "
        "batches)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=15.0,
        metavar="S",
        help="simulated time of each load in seconds, at least that of 2000 tiles",
    )
    parser.add_argument(
        "--cards",
        type=float,
        nargs="+",
        metavar="SPEED",
        help="simulate an engine process on each of several cards, with these speeds as multiples "
        "of that of --cost-ms (default: one engine, without front ends, in two classes)",
    )
    parser.add_argument(
        "--per-card",
        type=int,
        default=1,
        metavar="N",
        help="--cards: engine processes that share a card",
    )
    parser.add_argument(
        "--card-share",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="--cards: share of a batch's time in which it has the card to itself",
    )
    add_plot(parser)
    add_json(parser)
    parser.set_defaults(run=_bench_schedule)


def _bench_schedule(options: argparse.Namespace) -> int:
    check_positive(options, "seconds", "slots")
    check_packages(options)
    costs = dict(_cost(text) for text in options.cost_ms)
    if 1 not in costs:
        raise UsageError("--cost-ms needs the cost of one tile at least, such as --cost-ms 1=180")
    from loadtests.alone.schedule import bench_schedule, draw_outcomes, format_outcomes, rows

    budget_s = 3 * max(costs.values()) if options.budget_ms is None else options.budget_ms / 1e3
    if options.cards is not None:
        return _bench_cards(options, costs, budget_s)
    outcomes = bench_schedule(
        costs,
        shares=options.load,
        # Enough tiles for a 99th percentile, regardless of the engine.
        seconds=max(options.seconds, 2000 * costs[1]),
        slots=options.slots,
        budget_s=budget_s,
    )
    if options.plot is not None:
        draw_outcomes(outcomes, options.plot)
    print_rows(rows(outcomes), format_outcomes(outcomes), as_json=options.json)
    return 0


def _bench_cards(options: argparse.Namespace, costs: Mapping[int, float], budget_s: float) -> int:
    check_positive(options, "per_card", "card_share")
    if min(options.cards) <= 0:
        raise UsageError(f"--cards is {min(options.cards):g}; expected more than 0")
    if options.card_share > 1:
        raise UsageError(f"--card-share is {options.card_share:g}; expected at most 1")
    if options.plot is not None:
        raise UsageError("--plot draws one engine, without --cards")
    from loadtests.alone.card_simulation import bench_cards
    from loadtests.alone.cards import CardLoad, format_outcomes, rows

    loads = [
        CardLoad(
            speeds=options.cards,
            share=share,
            per_card=options.per_card,
            slots=options.slots,
            card_share=options.card_share,
            seconds=max(options.seconds, 2000 * costs[1] / sum(options.cards)),
            budget_s=budget_s,
        )
        for share in options.load
    ]
    outcomes = bench_cards(costs, loads)
    print_rows(rows(outcomes), format_outcomes(outcomes), as_json=options.json)
    return 0


def _cost(text: str) -> tuple[int, float]:
    try:
        size, ms = text.split("=")
        return int(size), float(ms) / 1e3
    except ValueError as error:
        raise UsageError(f"--cost-ms is {text!r}; expected one such as 4=720") from error
