"""From image files to batches: reading, hold-out, degradation, added structure, banks, samplers."""
