"""Nightly scans: whole lots of tiles from a source to a sink, durable and resumable.

    source ──list──> journal ──pending──> read ──> upscaler ──> sink ──> journal ──> manifest

Read `scan.py` first. This package imports neither HTTP nor a runtime. It imports the packages for
object stores, HDF5, Zarr and Parquet (extra `scan`) only when a scan needs them.
"""
