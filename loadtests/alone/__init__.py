"""Benches without the service: engines, codec, scheduler, and scans in one process."""
