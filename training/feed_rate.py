"""Pseudo-pairs that a machine makes each second, without a network: `python -m training.feed_rate`.

A GPU waits for data if its steps per second times its batch size exceed this rate.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from training.config.recipe import Recipe, find_recipe, load_recipe
from training.data.bank_format import added_structure
from training.data.datasets import load_tools
from training.data.feed import Feed
from training.methods.inputs import Inputs, pair_sampler
from training.run.folder import RunDir
from training.run.preparation import bank_of, known_tool

LAST_STEP = 1_000_000_000


def feed_rate(
    recipe: Recipe, *, data_root: Path, workers: int, seconds: float, bank: Path | None = None
) -> float:
    """Measure the pseudo-pairs a second of a recipe.

    Args:
        recipe: Resolved recipe; its method plants.
        data_root: Folder that its paths are relative to.
        workers: Processes that make batches; 0 makes them in this one.
        seconds: Time to measure for, after the workers have started.
        bank: Bank to draw from, made first where absent; None plants each crop.

    Returns:
        Crops a second, degraded and ready for a step on the CPU.

    Raises:
        ConfigError: The recipe plants nothing.
    """
    options = recipe.optimization
    torch.set_num_threads(options.threads)
    tools = load_tools(recipe, data_root=data_root)
    with tempfile.TemporaryDirectory() as temporary:
        folder = RunDir(Path(temporary) / "run")
        folder.start(recipe, resume=False, bank=bank)
        known = [known_tool(tool, recipe=recipe, folder=folder) for tool in tools]
        opened = bank_of(recipe, tools, known, folder=folder, given=bank)
    feed = Feed(workers=workers)
    inputs = Inputs(
        recipe=recipe,
        tools=known,
        held_out=(),
        data_root=data_root,
        vgg16=None,
        device=torch.device("cpu"),
        feed=feed,
        bank=opened,
    )
    pairs = pair_sampler(
        inputs, scale=recipe.scale, batch_size=options.batch_size, added=added_structure(recipe)
    )
    # Each worker's first batches are not counted: they were made while others still started.
    warm_up = 2 * workers + 1
    with feed.running(0, LAST_STEP):
        started = time.perf_counter()
        step = 0
        while step <= warm_up or time.perf_counter() - started < seconds:
            feed.begin(step)
            pairs.batch(step)
            feed.end()
            step += 1
            if step == warm_up:
                started = time.perf_counter()
        return (step - warm_up) * options.batch_size / (time.perf_counter() - started)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rate of a recipe on this machine."""
    parser = argparse.ArgumentParser(prog="python -m training.feed_rate", description=__doc__)
    parser.add_argument("recipe", help="TOML file, or the name of a shipped recipe")
    parser.add_argument("--data", type=Path, required=True, help="data folder")
    parser.add_argument("--workers", type=int, nargs="+", default=[0], help="numbers to try")
    parser.add_argument("--seconds", type=float, default=20.0, help="time for each (default: 20)")
    parser.add_argument("--bank", type=Path, help="bank to draw from (default: none)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    recipe = load_recipe(find_recipe(options.recipe), overrides=options.set)
    for workers in options.workers:
        rate = feed_rate(
            recipe,
            data_root=options.data,
            workers=workers,
            seconds=options.seconds,
            bank=options.bank,
        )
        sys.stdout.write(f"{workers} workers: {rate:.1f} crops/s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
