"""Scans as jobs of the service: submitted over HTTP, kept in a database, run by one process each.

    POST /scans ──> store <──claim, heartbeat── jobs.ScanJobs ──> run ──> service.scans.Scan
                                                                               │ nightly tiles
                                                                               v
                                                              the upscaler that serves requests

Read `jobs.py` first. All processes of the service look for work in the same list. A lease ensures
that one process at a time owns a scan. If the owner dies, another process takes the scan over.
"""
