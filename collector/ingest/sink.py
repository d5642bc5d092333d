"""What ingest asks of whatever keeps the measurements: the store, or a tee before it."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from collector.model.exemplars import Exemplar
from collector.model.logs import LogRecord
from collector.model.series import Series
from collector.store import AppendResult


class MetricSink(Protocol):
    """Takes samples and metadata."""

    def append_series(self, series: Iterable[Series]) -> AppendResult:
        """Store samples of any series; late ones are counted. Raises StoreError."""
        ...

    def set_metadata(self, metric: str, type: str, help: str, unit: str) -> None:
        """Keep TYPE, HELP and UNIT of a metric family."""
        ...


class ExemplarSink(Protocol):
    """Takes exemplars."""

    def append_exemplars(self, exemplars: Sequence[Exemplar]) -> int:
        """Store exemplars and return how many were new. Raises StoreError."""
        ...


class LogSink(Protocol):
    """Takes log records."""

    def append(self, records: Sequence[LogRecord]) -> int:
        """Store records and return how many. Raises StoreError."""
        ...
