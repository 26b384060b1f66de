"""SEM scenes with known truth, seen by two capture modes of one simulated tool.

Flow: `scenes` make a layout of heights and materials -> `defects` are planted into it -> `emission`
turns it into electrons -> `capture` scans them, with `scan_faults`, as *review* (HR) or
*inspection* (LR) -> `tile` puts one tile together by one of `recipes` -> `benchmark` writes
`splits` with their truth, `loose_tiles` single tiles (`pictures`). NumPy, SciPy, Pillow and
tifffile only, no torch.
"""

from training.simulator.benchmark import write_benchmark
from training.simulator.loose_tiles import simulate_tiles
from training.simulator.recipes import TileRecipe, draw_recipe
from training.simulator.tile import SimulatedTile, simulate_tile

__all__ = [
    "SimulatedTile",
    "TileRecipe",
    "draw_recipe",
    "simulate_tile",
    "simulate_tiles",
    "write_benchmark",
]
