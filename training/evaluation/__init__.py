"""Measures methods against the simulator's truth and on real tiles, and reports in HTML and JSON.

Flow: `benchmark` reads the tiles and their truth -> `methods` renders every tile by every method ->
`measurement` reduces each picture to small figures (`detection`, `structure`, `background`,
`metrology`, `gradients`, `consistency`, `kernel_distance`), in several processes and through a
`cache` (`measuring`) -> `summary` puts the tiles of a method together, with intervals by
`bootstrap` -> `targets` judges, `seeds` compares -> `report` writes. `real_tiles` measures real
images and `own_tiles` a fab's own, where less is known. `run` is the entry. The package knows
methods only as functions: engines, bundles and the command line stay outside.
"""
