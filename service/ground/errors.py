"""Every error that the service returns to a client, as one tree of classes; without HTTP.

`service.http.problems` turns each error into one `application/problem+json` body. Below the routes,
the status of these classes is all that the service knows of HTTP.

    ServiceError
    ├── BadRequest            400 bad-request              a header or parameter cannot be read
    ├── InvalidImage          400 invalid-image            the bytes do not decode
    ├── Unauthorized          401 unauthorized             no API key, or an unknown one
    ├── Forbidden             403 forbidden                an API key that does not allow this
    ├── OutsideRoots          403 outside-roots            a scan outside the allowed folders
    ├── UnknownModel          404 unknown-model            no such model or version is served
    ├── UnknownScan           404 unknown-scan             no such scan
    ├── ScansOff              404 scans-off                the operator has allowed no folders
    ├── ShadowOff             404 shadow-off               the settings name no shadow
    ├── NotAcceptable         406 not-acceptable           no answer type that the client accepts
    ├── RequestTimeout        408 request-timeout          the body arrived too slowly
    ├── NothingKept           409 nothing-kept             no earlier version is kept
    ├── NoManifest            409 no-manifest              the scan has written none, or it is gone
    ├── ScanConflict          409 scan-conflict            not possible in its state
    ├── ImageTooLarge         413 image-too-large          body bytes or pixels beyond the limit
    ├── UnsupportedMediaType  415 unsupported-media-type   a content type that is not read here
    ├── UnsuitableImage       422 unsuitable-image         decodes, but wrong channels, type or size
    ├── LoadFailed            422 load-failed              the model to be loaded cannot be served
    ├── UnsuitableOrder       422 unsuitable-order         a JSON body that does not suit its route
    ├── UnsuitableScan        422 unsuitable-scan          a requested scan cannot be run
    ├── OverQuota             429 over-quota               this client sends more than it may
    ├── EngineFailed          500 engine-failed            details are logged, never returned
    ├── UnsupportedTransferCoding  501 unsupported-transfer-coding  the body is not sent as it is
    ├── QueueFull             503 queue-full               saturated: try again later
    ├── NotReady              503 not-ready                starting or draining
    └── DeadlineExceeded      504 deadline-exceeded        the client's deadline passed in the queue
"""

from collections.abc import Sequence


class ServiceError(Exception):
    """An error with an HTTP status, a stable code, and a message made for the client.

    Attributes:
        status: HTTP status code.
        code: Stable, machine-readable name; the last part of the problem's `type`.
        title: Short human summary, the same for every instance of a class.
        detail: Problem of this request, the value, and what was expected.
        retry_after_s: Seconds after which a retry makes sense, or None.
        fields: Fields of a JSON body and what is wrong with each, where that is known.
    """

    status = 500
    code = "internal-error"
    title = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        retry_after_s: float | None = None,
        fields: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.fields = tuple(fields)


class BadRequest(ServiceError):
    """A header or query parameter cannot be read."""

    status = 400
    code = "bad-request"
    title = "The request cannot be read"


class InvalidImage(ServiceError):
    """The body does not decode as the type that it claims to be."""

    status = 400
    code = "invalid-image"
    title = "The image cannot be decoded"


class Unauthorized(ServiceError):
    """The service requires API keys, and the request has no valid one."""

    status = 401
    code = "unauthorized"
    title = "No valid API key"


class Forbidden(ServiceError):
    """The API key does not allow this."""

    status = 403
    code = "forbidden"
    title = "Not allowed with this API key"


class OutsideRoots(ServiceError):
    """A scan would read or write outside the folders that the operator has allowed."""

    status = 403
    code = "outside-roots"
    title = "Outside the folders that are allowed"


class UnknownModel(ServiceError):
    """No model of that name and version is served."""

    status = 404
    code = "unknown-model"
    title = "No such model"


class UnknownScan(ServiceError):
    """No scan has that id."""

    status = 404
    code = "unknown-scan"
    title = "No such scan"


class ScansOff(ServiceError):
    """Scans are disabled: the operator has allowed no folders."""

    status = 404
    code = "scans-off"
    title = "Scans are off"


class ShadowOff(ServiceError):
    """The settings name no shadow model."""

    status = 404
    code = "shadow-off"
    title = "No shadow is configured"


class NotAcceptable(ServiceError):
    """None of the answer types that the client accepts can be produced."""

    status = 406
    code = "not-acceptable"
    title = "No acceptable answer type"


class RequestTimeout(ServiceError):
    """The body did not arrive in time."""

    status = 408
    code = "request-timeout"
    title = "The request took too long to arrive"


class NothingKept(ServiceError):
    """A rollback was requested, but no earlier version of the model is kept."""

    status = 409
    code = "nothing-kept"
    title = "There is nothing to roll back to"


class NoManifest(ServiceError):
    """The scan has written no manifest, or it is not in the sink any more."""

    status = 409
    code = "no-manifest"
    title = "No manifest"


class ScanConflict(ServiceError):
    """The scan's state, or another scan, does not allow this."""

    status = 409
    code = "scan-conflict"
    title = "Not possible for this scan now"


class ImageTooLarge(ServiceError):
    """The body or the decoded image is beyond a limit."""

    status = 413
    code = "image-too-large"
    title = "The image is too large"


class UnsupportedMediaType(ServiceError):
    """The content type is not one that the service reads."""

    status = 415
    code = "unsupported-media-type"
    title = "Unsupported content type"


class UnsuitableImage(ServiceError):
    """The body decodes, but its channels, data type or size do not suit."""

    status = 422
    code = "unsuitable-image"
    title = "The image does not suit"


class LoadFailed(ServiceError):
    """The model to be loaded cannot be served; the previous version still is."""

    status = 422
    code = "load-failed"
    title = "The model cannot be loaded"


class UnsuitableOrder(ServiceError):
    """A small JSON body does not match the schema of its route."""

    status = 422
    code = "unsuitable-order"
    title = "The body does not suit"


class UnsuitableScan(ServiceError):
    """A requested scan cannot be run."""

    status = 422
    code = "unsuitable-scan"
    title = "The scan cannot be run"


class OverQuota(ServiceError):
    """The client sends more requests than its quota allows."""

    status = 429
    code = "over-quota"
    title = "Too many requests from this client"


class EngineFailed(ServiceError):
    """The engine failed on the batch that held this tile."""

    status = 500
    code = "engine-failed"
    title = "The engine failed"


class UnsupportedTransferCoding(ServiceError):
    """The body is sent in a transfer coding other than chunked."""

    status = 501
    code = "unsupported-transfer-coding"
    title = "Unsupported transfer coding"


class QueueFull(ServiceError):
    """The service is saturated; the request was refused at once."""

    status = 503
    code = "queue-full"
    title = "The service is saturated"


class NotReady(ServiceError):
    """The service is starting or draining."""

    status = 503
    code = "not-ready"
    title = "The service is not ready"


class DeadlineExceeded(ServiceError):
    """The request's own deadline passed while it waited in the queue."""

    status = 504
    code = "deadline-exceeded"
    title = "The deadline passed in the queue"
