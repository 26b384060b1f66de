"""From measured tiles to verdicts: summaries with intervals, comparisons, targets."""
