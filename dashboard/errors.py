"""What can go wrong in the dashboard.

DashboardError
├── SettingsError   a setting cannot be used (exit code 2)
├── ViewError       the address asks for a view that does not exist
├── TwinError       headroom could not be worked out
├── AlertingError   the alerts process does not answer, or refuses
└── ActionRefused   what a button asks for is not done (4xx)
    └── JobRefused  too much work waits already
"""


class DashboardError(Exception):
    """Root of all errors that the dashboard raises on purpose."""


class SettingsError(DashboardError):
    """A setting cannot be used; the message names it, its value and what is allowed."""


class TwinError(DashboardError):
    """The process that works out headroom failed; the message is its last line."""


class ViewError(DashboardError):
    """A query parameter of the page's address cannot be read; the message names it, its value and what is allowed."""


class AlertingError(DashboardError):
    """The alerts process does not answer, or refuses; ``status`` is its HTTP status, None where there was no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ActionRefused(DashboardError):
    """What a button asks for is not done; the message says why, ``status`` is that of the HTTP answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class JobRefused(ActionRefused):
    """A computation is not taken on, since too many wait."""
