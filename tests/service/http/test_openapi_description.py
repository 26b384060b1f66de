"""The OpenAPI description: every route, every status, names for generated clients."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts

from service.http.access import hash_key
from service.http.paths import route_of
from tests.service.conftest import ServedApp

# Served to browsers and to clients' generators, and no part of the interface.
UNDESCRIBED = {"/", "/favicon.ico", "/page/{name:path}", "/docs", "/openapi.json"}
OPEN = {"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"}


@pytest.fixture
def app(serve: Callable[..., ServedApp]) -> ServedApp:
    """A service without keys."""
    return serve()


def described(app: ServedApp) -> dict[str, Any]:
    """The description."""
    return app.client.get("/openapi.json").json()


def operations(schema: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Each operation by method and path."""
    return {
        (method.upper(), path): operation
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }


def test_every_route_is_described(app: ServedApp) -> None:
    """But for the page and the description itself."""
    routes = {
        (method, route.path)
        for route in iter_route_contexts(app.api.routes)
        if route.methods and route.path not in UNDESCRIBED
        for method in route.methods or ()
    }
    hot = {
        ("POST", "/superresolve"),
        ("POST", "/superresolve/batch"),
        ("POST", "/decode"),
        ("POST", "/v2/models/{name}/infer"),
        ("POST", "/v2/models/{name}/versions/{version}/infer"),
    }
    assert routes | hot == set(operations(described(app)))


def test_operations_have_readable_names_of_their_own(app: ServedApp) -> None:
    """Generated clients call their functions so."""
    names = [operation["operationId"] for operation in operations(described(app)).values()]
    assert len(names) == len(set(names))
    assert [] == [name for name in names if not re.fullmatch(r"[a-z][a-z_]{3,30}", name)]
    assert {"superresolve", "superresolve_batch", "infer", "model_config", "submit_scan"} <= set(
        names
    )


def test_every_refusal_is_a_problem(app: ServedApp) -> None:
    """And the schema has no other error: FastAPI's own 422 is never answered here."""
    schema = described(app)
    for key, operation in operations(schema).items():
        for status, response in operation["responses"].items():
            if status >= "400":
                expected = {"schema": {"$ref": "#/components/schemas/Problem"}}
                assert {"application/problem+json": expected} == response["content"], key
    assert "HTTPValidationError" not in json.dumps(schema)


def test_what_is_not_open_may_be_refused_for_its_key_or_quota(app: ServedApp) -> None:
    """401 and 429 come before the route."""
    for (_, path), operation in operations(described(app)).items():
        assert (path not in OPEN) == ({"401", "429"} <= set(operation["responses"]))


def test_keys_are_asked_for_where_the_service_has_them(
    serve: Callable[..., ServedApp], tmp_path: Path
) -> None:
    """Everywhere but for probes; without keys by what an admin does alone."""
    for (_, path), operation in operations(described(serve())).items():
        assert route_of(path).is_admin == ("security" in operation)
    (tmp_path / "keys").write_text(f"line {hash_key('k')}\n", encoding="utf-8")
    app = serve(api_keys=tmp_path / "keys")
    app.client.headers["authorization"] = "Bearer k"
    for (_, path), operation in operations(described(app)).items():
        assert (path not in OPEN) == ("security" in operation)


def test_answers_that_are_not_json_are_not_called_json(app: ServedApp) -> None:
    """Metrics are text, probes of the protocol are empty, events are a stream."""
    found = operations(described(app))
    metrics = found["GET", "/metrics"]["responses"]["200"]["content"]
    assert ["text/plain"] == list(metrics)
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/{name}/ready"):
        assert "content" not in found["GET", path]["responses"]["200"]
    events = found["GET", "/scans/{scan}/events"]["responses"]["200"]["content"]
    assert ["text/event-stream"] == list(events)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/scans", "GET, POST"),
        ("/scans/0123456789abcdef", "DELETE, GET"),
        ("/superresolve", "POST"),
        ("/superresolve/batch", "POST"),
        ("/v2/models/identity/infer", "POST"),
        ("/v2/models/identity/versions/1/infer", "POST"),
        ("/v2/models/identity/config", "GET"),
        ("/page/app.js", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_answered_with_all_right_ones(
    app: ServedApp, path: str, allowed: str
) -> None:
    """RFC 9110: Allow lists what the path has, whichever route the router found first."""
    answer = app.client.request("PATCH", path)
    assert (405, allowed) == (answer.status_code, answer.headers["allow"])
    assert "application/problem+json" == answer.headers["content-type"]


def test_without_a_key_an_admin_route_asks_for_one(app: ServedApp) -> None:
    """401 where none is sent; 403 where one is sent that cannot be an admin's."""
    path = "/admin/models/identity/rollback"
    assert 401 == app.client.post(path).status_code
    answer = app.client.post(path, headers={"authorization": "Bearer x"})
    assert 403 == answer.status_code
