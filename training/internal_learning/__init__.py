"""Super-resolution that learns from the tile itself, at inference time: for comparison, offline."""
