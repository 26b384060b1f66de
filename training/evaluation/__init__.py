"""Evaluation of methods on simulated and real tiles, with a report in HTML and JSON.

`folders` reads the tiles and their truth. The methods in `compared` render a picture of every tile.
`measures` reduces each picture to a few figures, and `sets` does so for a whole set of tiles, in
several processes and with a cache. `judging` computes each method's figures with intervals,
compares methods and judges targets. `report` writes the result. `figures` lists the report's
figures, `run` is the entry point, and `trust` measures a bundle's trust flags. Methods are plain
functions here: engines, bundles, a fab's detector and the command line are not imported.
"""
