"""The paths of the service: label in metrics, access, and logging of each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Route:
    """A path, or all paths below one.

    Attributes:
        path: The path itself; with a slash at its end every path below it (except for `/`).
        label: Label in metrics; the names of models and scans must not become labels.
        ending: End of the paths below that this route means.
        is_open: Whether it needs no API key and no quota: for probes and Prometheus, which have no
            key, and for the page, which asks people for theirs.
        is_admin: Whether it changes the service and needs an admin's key. A prefix, because a
            pattern may end where the router's continues, as `.*` does at a line's end.
        is_quiet: Whether it is left out of the log: requested every few seconds.
        runs_model: Whether its answers count as the model's requests, where they name a model.
        is_probe: Whether load balancers request it: answered to HEAD too, and not traced, because
            its traces would hide the others.
    """

    path: str
    label: str
    ending: str = ""
    is_open: bool = False
    is_admin: bool = False
    is_quiet: bool = False
    is_probe: bool = False
    runs_model: bool = True


HOT_PATH = "/superresolve"

ROUTES = (
    Route(HOT_PATH, HOT_PATH),
    Route("/superresolve/batch", "/superresolve/batch"),
    Route("/decode", "/decode", runs_model=False),
    Route("/model", "/model"),
    Route("/openapi.json", "/openapi.json"),
    Route("/livez", "/livez", is_open=True, is_quiet=True, is_probe=True),
    Route("/readyz", "/readyz", is_open=True, is_quiet=True, is_probe=True),
    Route("/metrics", "/metrics", is_open=True, is_quiet=True, is_probe=True),
    Route("/v2/health/live", "/v2", is_open=True, is_probe=True),
    Route("/v2/health/ready", "/v2", is_open=True, is_probe=True),
    Route("/v2/repository/models/", "/v2", is_admin=True),
    Route("/v2/", "/v2/models/infer", ending="/infer"),
    Route("/v2/", "/v2"),
    Route("/admin/", "/admin", is_admin=True),
    Route("/scans", "/scans"),
    # A client may follow a scan for hours.
    Route("/scans/", "/scans/events", ending="/events"),
    Route("/scans/", "/scans"),
    Route("/", "other", is_open=True),
    Route("/page/", "other", is_open=True),
    Route("/favicon.ico", "other", is_open=True),
)
_OTHER = Route("", "other")
_EXACT = {route.path: route for route in ROUTES if route.path == "/" or route.path[-1] != "/"}
_FOLDERS = tuple(route for route in ROUTES if route.path not in _EXACT)


def route_of(path: str) -> Route:
    """Return the route that a path belongs to; the first of `ROUTES` that fits."""
    exact = _EXACT.get(path)
    if exact is not None:
        return exact
    for route in _FOLDERS:
        if path.startswith(route.path) and path.endswith(route.ending):
            return route
    return _OTHER
