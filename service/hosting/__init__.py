"""The models that are served: loaded, proven, replaced by another version, drained."""
