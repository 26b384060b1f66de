"""`semsr accept`: two own folders of images to an accepted bundle, one file a stage.

Stages in their order, each in the file of its name: `checking` (the images), `splitting` (training
and held-out), `planning` (degradation, start weights, steps), `training_run`, `exporting`,
`judging` (on held-out tiles), `reporting`. `stages.py` runs them and skips what `record.py` knows
as finished. Everything that a stage writes is a function of its inputs, without times, so that a
killed and repeated command ends with the same bits.
"""
