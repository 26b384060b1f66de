"""The quiet routes: health and what is served, models on order, nightly scans as jobs."""
