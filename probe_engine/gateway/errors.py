"""What the gateway refuses.

GatewayError
├── SettingsError   a setting cannot be used (exit code 2)
└── Refused         a request is not served; carries the status and OpenAI's error fields
"""


class GatewayError(Exception):
    """Root of all errors that the gateway raises on purpose."""


class SettingsError(GatewayError):
    """A setting cannot be used; the message names it, its value and what is allowed."""


class Refused(GatewayError):
    """A request that the gateway answers itself.

    reason: value of the label under which it is counted. retry_after_s: sent as ``Retry-After``, rounded up.
    """

    def __init__(
        self, status: int, message: str, *, kind: str, code: str, reason: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.headers: dict[str, str] = {}
