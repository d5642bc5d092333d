"""What can go wrong in the engine.

EngineError
├── ModelError        a model directory, setting or prompt cannot be used by the model
├── WorkerLost        a process that shares the model has ended: nothing can be computed any more
├── SettingsError     a setting of the server cannot be used (exit code 2)
├── ExperimentError   an experiment's trace or option cannot be used (exit code 2)
├── QueueFull         too many requests wait already (429)
├── Stopping          the engine is shutting down and takes nothing new (503)
└── ApiError          a request over HTTP is refused; carries the status and OpenAI's error fields
"""


class EngineError(Exception):
    """Root of all errors that the engine raises on purpose."""


class ModelError(EngineError):
    """A model cannot be loaded or run; the message names directory, file, field, value and what is allowed."""


class WorkerLost(EngineError):
    """A process of a parallel model has ended, and the model with it; the message says which and how."""


class SettingsError(EngineError):
    """A setting cannot be used; the message names it, its value and what is allowed."""


class ExperimentError(EngineError):
    """A trace or an option of an experiment cannot be used; the message names it, its value and what is allowed."""


class QueueFull(EngineError):
    """The queue's limit is reached; ``retry_after_s`` is when it is worth trying again."""

    def __init__(self, waiting: int, limit: int, retry_after_s: int = 1) -> None:
        super().__init__(f"{waiting} requests wait already; max_queue is {limit}")
        self.retry_after_s = retry_after_s


class Stopping(EngineError):
    """The engine is shutting down."""


class ApiError(EngineError):
    """An HTTP request that is refused, in OpenAI's terms.

    status: HTTP status. kind: ``error.type``. param: path of the field at fault. code: ``error.code``.
    reason: value of the label under which the refusal is counted. retry_after_s: sent as ``Retry-After``.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        reason: str = "invalid",
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param
        self.code = code
        self.reason = reason
        self.retry_after_s = retry_after_s
