"""What can go wrong in the dashboard.

DashboardError
├── SettingsError   a setting cannot be used (exit code 2)
├── ViewError       the address asks for a view that does not exist
└── TwinError       headroom could not be worked out
"""


class DashboardError(Exception):
    """Root of all errors that the dashboard raises on purpose."""


class SettingsError(DashboardError):
    """A setting cannot be used; the message names it, its value and what is allowed."""


class TwinError(DashboardError):
    """The process that works out headroom failed; the message is its last line."""


class ViewError(DashboardError):
    """A query parameter of the page's address cannot be read; the message names it, its value and what is allowed."""
