"""The id of the request whose tiles are being submitted, for the room below HTTP."""

from contextvars import ContextVar

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request in this task; empty for tiles of no request, such as those of a scan."""
