"""What can go wrong with signals.

CollectorError
└── SignalError
    ├── UnknownSignal   no signal has this name
    ├── SignalAbsent    the source does not hold the signal; ``status`` says why
    └── DocumentError   a YAML document (dialect, rule file) cannot be read; says file, line and column
"""

from typing import TYPE_CHECKING

from collector.model.errors import CollectorError

if TYPE_CHECKING:
    from collector.signals.status import NotExposed, SwitchedOff


class SignalError(CollectorError):
    """A question about a signal that cannot be answered; the message names signal, value and what is allowed."""


class UnknownSignal(SignalError):
    """No signal has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no signal is called {name!r}; collector.signals.SIGNALS lists them")
        self.name = name


class SignalAbsent(SignalError):
    """The source does not hold this signal; ``status`` is ``NotExposed`` or ``SwitchedOff``."""

    def __init__(self, signal: str, status: "NotExposed | SwitchedOff") -> None:
        super().__init__(f"signal {signal}: {status}")
        self.signal = signal
        self.status = status


class DocumentError(SignalError):
    """A YAML document cannot be read; ``line`` and ``column`` are 1-based."""

    def __init__(self, path: str, line: int, column: int, reason: str) -> None:
        super().__init__(f"{path}:{line}:{column}: {reason}")
        self.path = path
        self.line = line
        self.column = column
        self.reason = reason
