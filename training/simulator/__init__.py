"""SEM scenes with known truth, seen by two capture modes of one simulated tool.

Flow: `scenes` picks a layout (`gratings`, `contacts`, `films`, all with `roughness`) -> `defects`
plants defects on demand -> `emission` turns height and material into electrons -> `capture` scans
them as *review* (HR) or *inspection* (LR) -> `tile` puts one tile together -> `dataset` writes
tiles, truth and an index. NumPy and SciPy only, no torch.
"""

from training.simulator.dataset import simulate

__all__ = ["simulate"]
