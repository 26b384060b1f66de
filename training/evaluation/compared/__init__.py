"""What is compared: bundles, checkpoints, baselines, and what a tile costs them."""
