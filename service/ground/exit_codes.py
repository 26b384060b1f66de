"""The exit codes of the service, as `docs/operations.md` lists them."""

# Stopped by SIGINT or SIGTERM, also while it was still loading.
EXIT_OK = 0
# A fault of the service itself; the log has its trace.
EXIT_FAULT = 1
# A setting is wrong, unknown, or names something that cannot be used.
EXIT_CONFIGURATION = 2
# The models cannot be loaded, or can no longer be served.
EXIT_FAILED = 3
# The address is in use or cannot be had.
EXIT_ADDRESS = 4
# A second signal ended it at once.
EXIT_FORCED = 5
