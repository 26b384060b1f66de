"""What each path of the service is: its label in metrics, who may ask for it, its log level."""

# Paths become metric labels, so only known ones may; everything else is counted together.
ROUTES = frozenset(
    {
        "/superresolve",
        "/superresolve/batch",
        "/model",
        "/scans",
        "/livez",
        "/readyz",
        "/metrics",
        "/openapi.json",
    }
)
# What changes the service needs an admin's key. Prefixes: a pattern may end where the router's goes
# on, as `.*` does at a line's end.
ADMIN_PATHS = ("/v2/repository/models/", "/admin/")
# Asked every few seconds as long as the service runs: not in the log.
QUIET = frozenset({"/livez", "/readyz", "/metrics"})
# Their traces would hide the others.
UNTRACED = QUIET | {"/v2/health/live", "/v2/health/ready"}
# What probes and Prometheus ask, who have no key, and the page, which asks people for one.
_OPEN = UNTRACED | {"/"}
_OPEN_FOLDER = "/page/"


def is_open(path: str) -> bool:
    """Whether a path is served without a key and outside quotas."""
    return path in _OPEN or path.startswith(_OPEN_FOLDER)


def label(path: str) -> str:
    """Name a path in metrics; models' names must not become labels."""
    if path in ROUTES:
        return path
    if path.startswith("/scans/"):
        # A client that follows a scan does so for hours.
        return "/scans/events" if path.endswith("/events") else "/scans"
    if path.startswith("/v2/"):
        return "/v2/models/infer" if path.endswith("/infer") else "/v2"
    return "/admin" if path.startswith("/admin/") else "other"
