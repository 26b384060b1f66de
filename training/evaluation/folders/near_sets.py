"""Near sets: aligned pairs of a benchmark with little domain gap, without defects.

They stand for a tool's own pairs (thesis of Chakraborty 2022, appendix B): a slow and a fast scan
of the same field, equal in tone, different in sharpness and noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from training.evaluation.folders.benchmark import Benchmark, BenchmarkError, Tile


@dataclass(frozen=True, kw_only=True)
class NearSplit:
    """One value of `--split`.

    Attributes:
        scale: HR pixels per LR pixel.
        splits: Splits of the benchmark; each becomes a set of the report. None of them is trained
            on by a shipped recipe.
    """

    scale: int
    splits: tuple[str, ...]


NEAR_SPLITS: Mapping[str, NearSplit] = MappingProxyType(
    {
        "near_x4": NearSplit(scale=4, splits=("x4_244", "cucmp_x4_validation")),
        "near_x2": NearSplit(scale=2, splits=("x2_232", "cucmp_x2_validation")),
    }
)
"""Values of `--split` that judge near sets."""


def near_sets(benchmark: Benchmark, near: NearSplit) -> dict[str, tuple[Tile, ...]]:
    """List the tiles of each split that the benchmark has.

    Raises:
        BenchmarkError: The benchmark has none of the splits.
    """
    found = {name: benchmark.pairs(name) for name in near.splits if name in benchmark.split_sizes}
    if not any(found.values()):
        wanted = " or ".join(near.splits)
        raise BenchmarkError(
            f"{benchmark.path} has no near set; expected {wanted} (semsr simulate --splits "
            f"{','.join(near.splits)}), it has {', '.join(benchmark.split_sizes)}"
        )
    return found
