"""Scans as jobs of the service: submitted over HTTP, kept in a database, run by one process each.

    POST /scans ──> store <──claim, heartbeat── jobs.ScanJobs ──> run ──> service.scans.Scan
                                                                               │ nightly tiles
                                                                               v
                                                              the upscaler that serves requests

Read `jobs.py` first. Every process of the service looks for work in the same list. A lease ensures
that one process owns a scan, and that another takes it over when that process dies.
"""
