"""Measures methods against the simulator's truth and on real tiles, and reports in HTML and JSON.

Flow: `benchmark` reads the tiles and their truth -> `methods` renders every tile by every method ->
`measurement` reduces each picture to small figures (`detection`, `structure`, `background`,
`metrology`, `gradients`, `consistency`, `kernel_distance`), in several processes and through a
`cache` (`measuring`) -> `summary` puts the tiles of a method together, with intervals by
`bootstrap` -> `targets` judges, `seeds` and `comparison` compare -> `report` and `tables` write.
`real_tiles` measures real images (`real_targets` judges them) and `own_tiles` a fab's own, where
less is known; both ask `edge_grain` and `outlines`. `run` is the entry. The package knows methods
only as functions: engines, bundles, a fab's detector and the command line stay outside.
"""
