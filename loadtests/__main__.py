"""`python -m loadtests SCENARIO`: one scenario, its table on stdout, and into the docs if asked."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from loadtests.results import Result, publish
from loadtests.target import bundle_path


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--bundle", type=Path, help="bundle to serve (default: SEMSR_BUNDLE)")
    shared.add_argument("--json", action="store_true", help="print JSON, not the table")
    shared.add_argument(
        "--page",
        type=Path,
        metavar="FILE",
        help="also write the table into its place there, and the JSON beside it",
    )
    parser = argparse.ArgumentParser(
        prog="python -m loadtests",
        description="Load the service and measure it; see docs/benchmarks.md. "
        "SEMSR_… variables reach the service.",
    )
    scenarios = parser.add_subparsers(dest="scenario", required=True, metavar="SCENARIO")

    def add(
        name: str, run: Callable[[argparse.Namespace], Result], words: str
    ) -> argparse.ArgumentParser:
        scenario = scenarios.add_parser(name, parents=[shared], help=words, description=words)
        scenario.set_defaults(run=run)
        return scenario

    throughput = add("throughput", _throughput, "beside nginx and beside the engine alone")
    throughput.add_argument(
        "--seconds", type=float, default=15.0, help="of each measurement, in six turns"
    )
    throughput.add_argument("--connections", type=int, default=16)

    low = add("low-load", _low_load, "what the service adds to the engine's time for one tile")
    low.add_argument("--turns", type=int, default=40, help="of five tiles each")

    overload = add("overload", _overload, "three times the capacity, open loop")
    overload.add_argument("--seconds", type=float, default=60.0)
    overload.add_argument("--times", type=float, default=3.0, help="of the capacity")

    online = add("online", _online, "online latency with and without nightly saturation")
    online.add_argument("--seconds", type=float, default=60.0, help="of each round")
    online.add_argument("--rounds", type=int, default=3)
    online.add_argument("--load", type=float, nargs="+", default=[0.2, 0.5])

    kill = add("engine-kill", _engine_kill, "kill the engine process of the mode `pool`")
    kill.add_argument("--kills", type=int, default=10)
    kill.add_argument("--period", type=float, default=6.0, help="seconds between kills")

    cost = add("metrics-cost", _metrics_cost, "what recording and scraping metrics cost")
    cost.add_argument("--seconds", type=float, default=5.0, help="of each turn")
    cost.add_argument("--rounds", type=int, default=12, help="pairs of turns, two at least")
    cost.add_argument("--connections", type=int, default=16)

    peers = add("peers", _peers, "other serving products with the same model")
    peers.add_argument("--seconds", type=float, default=8.0)
    peers.add_argument("--connections", type=int, default=16)
    peers.add_argument("--peer", nargs="+", default=[], help="some of them only")

    ceiling = add("ceiling", _ceiling, "what the open-loop generator itself carries")
    ceiling.add_argument("--rate", type=float, nargs="+", default=[500, 1000, 2000, 3000, 4000])
    ceiling.add_argument("--seconds", type=float, default=8.0)
    ceiling.add_argument("--workers", type=int, default=1)

    scan = add("scan", _scan, "a nightly scan beside what its cores and its disk allow")
    scan.add_argument("--engine", default="auto", help="of the real model (default: the fastest)")
    scan.add_argument("--tiles", type=int, default=20_000, help="npy, without a model")
    scan.add_argument("--pictures", type=int, default=500, help="PNG, with the real model")
    scan.add_argument("--scratch", type=Path, help="folder on the disk to be measured")

    scan_cluster = add("scan-cluster", _scan_cluster, "one scan on Ray clusters of this machine")
    scan_cluster.add_argument("--tiles", type=int, default=2000)
    scan_cluster.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4])
    scan_cluster.add_argument("--scratch", type=Path, help="folder for lot and outputs")

    locust = scenarios.add_parser("locust", help="locust's users against a service; no table")
    locust.add_argument("classes", nargs="*", metavar="USER", help="PipelineUser, NightlyUser, …")
    locust.add_argument("--url", help="of a running service; without one it is started")
    locust.add_argument("--bundle", type=Path, help="bundle to serve (default: SEMSR_BUNDLE)")
    locust.add_argument("--users", type=int, default=20)
    locust.add_argument("--seconds", type=float, default=30.0)

    return parser


def _throughput(options: argparse.Namespace) -> Result:
    from loadtests.scenarios.throughput import run

    return run(options.bundle, seconds=options.seconds, connections=options.connections)


def _low_load(options: argparse.Namespace) -> Result:
    from loadtests.scenarios.low_load import run

    return run(options.bundle, turns=options.turns)


def _overload(options: argparse.Namespace) -> Result:
    from loadtests.scenarios.overload import run

    return run(options.bundle, seconds=options.seconds, times=options.times)


def _online(options: argparse.Namespace) -> Result:
    from loadtests.scenarios.online import run

    return run(options.bundle, seconds=options.seconds, rounds=options.rounds, shares=options.load)


def _engine_kill(options: argparse.Namespace) -> Result:
    from loadtests.scenarios.engine_kill import run

    return run(options.bundle, kills=options.kills, period_s=options.period)


def _metrics_cost(options: argparse.Namespace) -> Result:
    from loadtests.scenarios.metrics_cost import run

    return run(
        options.bundle,
        seconds=options.seconds,
        rounds=options.rounds,
        connections=options.connections,
    )


def _peers(options: argparse.Namespace) -> Result:
    from loadtests.scenarios.peers import run

    return run(
        options.bundle,
        seconds=options.seconds,
        connections=options.connections,
        names=options.peer,
    )


def _ceiling(options: argparse.Namespace) -> Result:
    from loadtests.scenarios.ceiling import run

    return run(options.bundle, rates=options.rate, seconds=options.seconds, workers=options.workers)


def _scan(options: argparse.Namespace) -> Result:
    from loadtests.scenarios.scan import run

    return run(
        options.bundle,
        engine=options.engine,
        tiles=options.tiles,
        pictures=options.pictures,
        scratch=options.scratch,
    )


def _scan_cluster(options: argparse.Namespace) -> Result:
    from loadtests.scenarios.scan_cluster import run

    return run(options.bundle, tiles=options.tiles, nodes=options.nodes, scratch=options.scratch)


def _locust(options: argparse.Namespace) -> int:
    from loadtests.locust_run import run_locust

    return run_locust(
        url=options.url,
        bundle=options.bundle,
        users=options.users,
        seconds=options.seconds,
        classes=options.classes,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run a scenario."""
    options = _parser().parse_args(arguments)
    options.bundle = bundle_path(options.bundle)
    try:
        if options.scenario == "locust":
            return _locust(options)
        result: Result = options.run(options)
    except (RuntimeError, ValueError) as error:
        print(f"{options.scenario}: {error}", file=sys.stderr)
        return 1
    print(result.as_json() if options.json else result.as_markdown())
    if options.page is not None:
        picture = None
        if options.scenario == "peers":
            from loadtests.scenarios.peers import draw

            picture = f"images/{options.scenario}.png"
            draw(result, options.page.parent / picture)
        publish(result, options.page, picture=picture)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
