"""The quiet routes: health and models, changes of models, nightly scans as jobs."""
