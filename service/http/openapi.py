"""The OpenAPI description: FastAPI's own for quiet routes, `operations` for the hot ones.

`/docs` shows it with Swagger UI from an installed package, never from the network: fabs are
air-gapped.
"""

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from service.http import operations
from service.http.paths import route_of
from service.http.schemas import PROBLEM, refusals
from service.http.v2 import operation as inference_operation

# Only this package's folder of Swagger UI files is used; importing it is not needed.
_ASSETS_PACKAGE = "fastapi_swagger"
_SECURITY = "apiKey"
# FastAPI's own description of a 422, which `service.http.problems` answers in another shape.
_FOREIGN_SCHEMAS = ("HTTPValidationError", "ValidationError")


def install(app: FastAPI, more_schemas: Mapping[str, Any], *, has_keys: bool) -> None:
    """Install the whole OpenAPI description of an app, and `/docs` with the files that show it.

    Args:
        app: The app with its routes.
        more_schemas: Schemas of bodies that routes read themselves.
        has_keys: Whether the service requires an API key.
    """

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app, more_schemas, has_keys=has_keys)
        return app.openapi_schema

    app.openapi = build  # FastAPI's documented way to extend the schema
    app.mount("/docs/assets", StaticFiles(directory=_assets()), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        # Behind a reverse proxy that strips a prefix, root_path is that prefix.
        root = str(request.scope.get("root_path", "")).rstrip("/")
        return get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title="semsr",
            swagger_js_url=f"{root}/docs/assets/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/docs/assets/swagger-ui.css",
            swagger_favicon_url=f"{root}/page/icon.svg",
        )


def _describe(app: FastAPI, more_schemas: Mapping[str, Any], *, has_keys: bool) -> dict[str, Any]:
    schema = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes
    )
    schema["paths"] = {
        "/superresolve": {"post": operations.superresolve()},
        "/superresolve/batch": {"post": operations.superresolve_batch()},
        "/decode": {"post": operations.decode()},
        **schema["paths"],
        "/v2/models/{name}/infer": {"post": inference_operation.infer(with_version=False)},
        "/v2/models/{name}/versions/{version}/infer": {
            "post": inference_operation.infer(with_version=True)
        },
    }
    for path, operation in _operations(schema):
        _correct(operation)
        _add_access(path, operation, has_keys=has_keys)
    components = schema.setdefault("components", {})
    components["securitySchemes"] = {
        _SECURITY: {"type": "http", "scheme": "bearer", "description": "Key of `semsr api-key`."}
    }
    schemas = components.setdefault("schemas", {})
    for name in _FOREIGN_SCHEMAS:
        schemas.pop(name, None)
    schemas["Problem"] = PROBLEM
    schemas.update(inference_operation.SCHEMAS)
    schemas.update(more_schemas)
    return schema


def _operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            yield path, operation


def _correct(operation: dict[str, Any]) -> None:
    """Correct FastAPI's defaults: its own 422, and parameters that may be null."""
    responses = operation["responses"]
    if _FOREIGN_SCHEMAS[0] in str(responses.get("422", "")):
        del responses["422"]
    for parameter in operation.get("parameters", []):
        choices: list[dict[str, Any]] = parameter["schema"].get("anyOf", [])
        kinds = [choice for choice in choices if choice.get("type") != "null"]
        if len(kinds) == 1:
            parameter["schema"] = {**parameter["schema"], **kinds[0]}
            del parameter["schema"]["anyOf"]


def _add_access(path: str, operation: dict[str, Any], *, has_keys: bool) -> None:
    """Add the answers of the middleware, which come before a route's."""
    route = route_of(path)
    if route.is_open:
        return
    for status, response in refusals(401, 429).items():
        operation["responses"].setdefault(str(status), response)
    if route.is_admin:
        operation["responses"].setdefault("403", refusals(403)[403])
    if route.is_admin or has_keys:
        operation["security"] = [{_SECURITY: []}]


def _assets() -> Path:
    spec = importlib.util.find_spec(_ASSETS_PACKAGE)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"the package {_ASSETS_PACKAGE!r} with Swagger UI is not installed")
    return Path(spec.origin).parent / "resources"
