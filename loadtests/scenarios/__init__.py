"""The scenarios of `python -m loadtests`, one file each; every one returns a `Result`."""
