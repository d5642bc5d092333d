"""What the scheduler refuses.

SchedulerError
├── ConfigError      a limit makes no sense by itself or beside another
└── RequestRefused   a request could never be served within the limits
"""


class SchedulerError(Exception):
    """Root of all errors that the scheduler raises on purpose."""


class ConfigError(SchedulerError):
    """A field of ``SchedulerConfig`` cannot be used; the message names it, its value and what is allowed."""


class RequestRefused(SchedulerError):
    """A request that can never run, told at ``add()`` and not found out later.

    ``limit`` names the field of ``SchedulerConfig`` (or of the request) that stands in the way.
    """

    def __init__(self, message: str, limit: str) -> None:
        super().__init__(message)
        self.limit = limit
