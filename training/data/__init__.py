"""Training data: image files, hold-out, degradation, added structure, banks, and samplers."""
