"""What an evaluation reads: benchmarks, and folders of real micrographs."""
