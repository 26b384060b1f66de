"""Measures methods against the simulator's truth and on real tiles, and reports in HTML and JSON.

Flow: `folders` reads the tiles and their truth -> the methods that are `compared` render every tile
-> `measures` reduce each picture to small figures, for `sets` of tiles, in several processes and
through a cache -> `judging` sums up the tiles of a method, with intervals, compares methods and
judges targets -> `report` writes. `figures` lists every figure of the report, `run` is the entry,
`trust` measures the trust flags of a bundle. The package knows methods only as functions: engines,
bundles, a fab's detector and the command line stay outside.
"""
