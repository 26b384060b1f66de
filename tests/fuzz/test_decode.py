"""Damaged files of every kind before both of our readers and a strict decoder.

The quick tests take a fixed number of cases, the same in every run: each sample cut at every border
of its structure, without each part and with each part twice, and a few dozen times damaged at
random. The slow one goes on with new seeds for `FUZZ_SECONDS` (an hour), from
`FUZZ_SEED` on. A failure names sample, seed and damage, and leaves the file behind.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.fuzz.corpus import CORPUS
from tests.fuzz.mutations import Mutant, borders, mutant, parts_lost
from tests.fuzz.readers import RAW, fault_before_strict, fault_between_readers
from tests.fuzz.sample import Sample

QUICK_SEEDS = 15
SLOW_SEEDS = 20
FIRST_SLOW_SEED = 1_000
HOUR_S = 3600.0

Check = Callable[[Sample, bytes], str | None]
OTHERS = {
    sample.media_type: [other for other in CORPUS if other.media_type == sample.media_type]
    for sample in CORPUS
}


def cases(sample: Sample, seeds: range) -> Iterator[tuple[str, Mutant]]:
    """Yield what a case is called, and the damaged file."""
    if 0 in seeds:
        for found in (*borders(sample), *parts_lost(sample)):
            yield found.story, found
    for seed in seeds:
        found = mutant(sample, seed, OTHERS[sample.media_type])
        yield f"seed {seed}: {found.story}", found


def fail_at_a_fault(sample: Sample, seeds: range, check: Check, folder: Path) -> int:
    """Check the cases of a sample; fail at the first fault, with its file left behind.

    Returns:
        The number of cases.
    """
    number = 0
    for name, damaged in cases(sample, seeds):
        number += 1
        fault = check(sample, damaged.body)
        if fault is not None:
            path = folder / f"fault-{sample.name.replace('/', '-')}-{number}"
            path.write_bytes(damaged.body)
            pytest.fail(f"{sample.name}, {name}: {fault}\n  the file: {path}")
    return number


@pytest.mark.parametrize("sample", CORPUS, ids=lambda sample: sample.name)
def test_training_and_service_read_equal_greys_or_both_refuse(
    sample: Sample, tmp_path: Path
) -> None:
    """There is one truth: no model learns from greys that the service would not give it."""

    def check(sample: Sample, body: bytes) -> str | None:
        return fault_between_readers(sample, body, tmp_path)

    assert fail_at_a_fault(sample, range(QUICK_SEEDS), check, tmp_path) > QUICK_SEEDS


@pytest.mark.parametrize(
    "sample",
    [sample for sample in CORPUS if sample.media_type != RAW],
    ids=lambda sample: sample.name,
)
def test_no_picture_differs_from_the_strict_decoders(sample: Sample, tmp_path: Path) -> None:
    """What a strict decoder refuses is refused, and what is read has its greys."""
    assert fail_at_a_fault(sample, range(QUICK_SEEDS), fault_before_strict, tmp_path) > QUICK_SEEDS


@pytest.mark.slow
def test_an_hour_of_new_damage_finds_no_fault(tmp_path: Path) -> None:
    """The same as the quick tests, over as many seeds as there is time for."""

    def check(sample: Sample, body: bytes) -> str | None:
        between = fault_between_readers(sample, body, tmp_path)
        return between or fault_before_strict(sample, body)

    budget_s = float(os.environ.get("FUZZ_SECONDS", HOUR_S))
    first = int(os.environ.get("FUZZ_SEED", FIRST_SLOW_SEED))
    started_s, number = time.monotonic(), 0
    for start in count(first, SLOW_SEEDS):
        for sample in CORPUS:
            number += fail_at_a_fault(sample, range(start, start + SLOW_SEEDS), check, tmp_path)
            if time.monotonic() - started_s > budget_s:
                last = start + SLOW_SEEDS - 1
                sys.stdout.write(f"{number} cases, seeds {first} to {last}\n")  # see `pytest -rP`
                assert number >= SLOW_SEEDS
                return
