"""How a request is refused.

ApiError   an HTTP status, Prometheus's errorType and a message

The other errors of the collector become one of these by ``as_api_error``.
"""

from collector.model.errors import CollectorError, IngestError, QueryError, StoreError

STATUS_OF_KIND = {"bad_data": 400, "execution": 422, "timeout": 503, "canceled": 503, "not_found": 404}


class ApiError(Exception):
    """A request that is refused; ``kind`` is Prometheus's ``errorType``."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


def bad_parameter(name: str, reason: str) -> ApiError:
    """400 in Prometheus's words."""
    return ApiError(400, "bad_data", f'invalid parameter "{name}": {reason}')


def as_api_error(error: CollectorError | ApiError) -> ApiError:
    """What the API answers where ``error`` was raised."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueryError):
        return ApiError(STATUS_OF_KIND.get(error.kind, 422), error.kind, str(error))
    if isinstance(error, IngestError):
        return ApiError(400, "bad_data", str(error))
    if isinstance(error, StoreError):
        return ApiError(503, "unavailable", str(error))
    return ApiError(500, "internal", str(error))
