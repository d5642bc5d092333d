"""What can go wrong in the collector.

CollectorError
├── ConfigError       a setting or configuration file cannot be used (exit code 2)
├── ExpositionError   a scraped line cannot be read
├── IngestError       an OTLP or remote-write body cannot be read
├── QueryError        a PromQL text cannot be parsed or evaluated
│   └── LimitError    ... because it asks for more than a limit allows
├── StoreError        the data directory cannot be opened, read or written
└── SourceError       a Prometheus-compatible server cannot be reached or answered an error
"""


class CollectorError(Exception):
    """Root of all errors that the collector raises on purpose."""


class ConfigError(CollectorError):
    """A setting cannot be used; the message names field, value, what is allowed and where."""


class ExpositionError(CollectorError):
    """A line of a metrics page cannot be read.

    ``line`` is 1-based within the page.
    """

    def __init__(self, line: int, text: str, reason: str) -> None:
        super().__init__(f"line {line}: {reason}: {text!r}")
        self.line = line
        self.text = text
        self.reason = reason


class IngestError(CollectorError):
    """A pushed body cannot be read; nothing of it was stored unless the message says so."""


class QueryError(CollectorError):
    """A PromQL expression is invalid or cannot be evaluated.

    ``kind`` is the Prometheus API's ``errorType``: ``bad_data``, ``execution`` or ``timeout``.
    """

    def __init__(self, message: str, kind: str = "bad_data") -> None:
        super().__init__(message)
        self.kind = kind


class LimitError(QueryError):
    """A query asks for more than a limit allows; the message names the limit and its setting."""

    def __init__(self, message: str, kind: str = "execution") -> None:
        super().__init__(message, kind=kind)


class StoreError(CollectorError):
    """The data directory cannot be opened, read or written."""


class SourceError(CollectorError):
    """A Prometheus-compatible server could not answer.

    ``kind`` is ``unreachable``, ``timeout`` or the server's own ``errorType``.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind
