"""Every kind of scene by name; the first step of the simulator."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from training.simulator.layout import Canvas, Scene
from training.simulator.scenes.contacts import dense_holes, sparse_holes
from training.simulator.scenes.films import blank_film
from training.simulator.scenes.granular import granular
from training.simulator.scenes.gratings import dense_lines, iso_lines
from training.simulator.scenes.sram import sram

SCENES: Mapping[str, Callable[[Canvas, np.random.Generator], Scene]] = MappingProxyType(
    {
        "dense_lines": dense_lines,
        "iso_lines": iso_lines,
        "dense_holes": dense_holes,
        "sparse_holes": sparse_holes,
        "blank_film": blank_film,
        "sram": sram,
        "granular": granular,
    }
)
