"""Log lines of what clients change in the service: models and scans, with who and the outcome."""

import contextlib
from collections.abc import Generator
from typing import Any

import structlog
from fastapi import Request

from service.ground.errors import ServiceError
from service.hosting.lifecycle import Lifecycle

log = structlog.get_logger()


@contextlib.contextmanager
def logged_action(
    request: Request, event: str, action: str, **named: object
) -> Generator[dict[str, Any]]:
    """Log an action when it has ended: done, refused, failed, or interrupted.

    Args:
        request: Request that asks for it.
        event: Name of the log event.
        action: Name of the action.
        named: Further fields of the line.

    Yields:
        The fields of the line, a dict, to which the caller may add.
    """
    fields: dict[str, Any] = {"action": action, **who(request), **named}
    outcome = "interrupted"
    try:
        yield fields
        outcome = "done"
    except ServiceError as error:
        outcome = "refused"
        fields |= {"problem": error.code, "detail": str(error)}
        raise
    except Exception:
        outcome = "failed"
        raise
    finally:
        log.info(event, outcome=outcome, **fields)


@contextlib.contextmanager
def logged_change(
    request: Request, lifecycle: Lifecycle, action: str, model: str, **named: object
) -> Generator[dict[str, Any]]:
    """Log a change of a model's version, before it begins and when it has ended.

    A bundle whose runtime crashes may end the process, so the first line must not come too late.
    """
    serving = lifecycle.models.get(model)
    before = None if serving is None else serving.bundle.version
    named |= {"model": model[:200], "version_before": before}
    log.info("model_action", outcome="begun", action=action, **who(request), **named)
    with logged_action(request, "model_action", action, **named) as fields:
        yield fields


def who(request: Request) -> dict[str, Any]:
    """Return the fields that say who sends a request: client, address, and the request's id.

    The client is the name of its API key, or None where the service has no keys.
    """
    state = request.scope["state"]
    return {
        "client": state["facts"].get("client"),
        "address": request.client.host if request.client else None,
        "request_id": state["request_id"],
    }
