"""Methods that are compared: bundles, checkpoints, baselines; and the cost of a tile."""
