"""`python -m loadtests SCENARIO`: runs a scenario, prints its table, updates the docs if asked."""

import argparse
import sys
from pathlib import Path

from loadtests import locust_run
from loadtests.results import Result, publish
from loadtests.scenarios import (
    ceiling,
    engine_kill,
    low_load,
    metrics_cost,
    online,
    overload,
    peers,
    scan,
    scan_cluster,
    throughput,
)
from loadtests.target import bundle_path

# Modules with `add(parser)` and `run(options)`, in the order of docs/measurements/benchmarks.md.
SCENARIOS = (
    throughput,
    low_load,
    overload,
    online,
    engine_kill,
    metrics_cost,
    peers,
    ceiling,
    scan,
    scan_cluster,
)


def _parser() -> argparse.ArgumentParser:
    bundle = argparse.ArgumentParser(add_help=False)
    bundle.add_argument("--bundle", type=Path, help="bundle to serve (default: SEMSR_BUNDLE)")
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--json", action="store_true", help="print JSON, not the table")
    output.add_argument(
        "--page",
        type=Path,
        metavar="FILE",
        help="page to write the table into, at its place, with the JSON next to it",
    )
    parser = argparse.ArgumentParser(
        prog="python -m loadtests",
        description="Load the service and measure it; see docs/measurements/benchmarks.md. "
        "SEMSR_… variables reach the service.",
    )
    scenarios = parser.add_subparsers(dest="scenario", required=True, metavar="SCENARIO")
    for module in SCENARIOS:
        name = module.__name__.rpartition(".")[2].replace("_", "-")
        words = (module.__doc__ or "").partition("\n")[0].removesuffix(".")
        scenario = scenarios.add_parser(
            name, parents=[bundle, output], help=words, description=words
        )
        module.add(scenario)
        scenario.set_defaults(run=module.run, draw=getattr(module, "draw", None))
    locust = scenarios.add_parser(
        "locust", parents=[bundle], help="Locust's users against a service; no table"
    )
    locust_run.add(locust)
    locust.set_defaults(run=locust_run.run)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a scenario."""
    options = _parser().parse_args(arguments)
    options.bundle = bundle_path(options.bundle)
    try:
        result: Result | int = options.run(options)
    except (RuntimeError, ValueError) as error:
        print(f"{options.scenario}: {error}", file=sys.stderr)
        return 1
    if isinstance(result, int):  # Locust has its exit code and no table
        return result
    print(result.as_json() if options.json else result.as_markdown())
    if options.page is not None:
        picture = None
        if options.draw is not None:
            picture = f"images/{options.scenario}.png"
            options.draw(result, options.page.parent / picture)
        publish(result, options.page, picture=picture)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
