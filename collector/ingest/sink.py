"""What ingest asks of whatever keeps the measurements: the store, or a tee before it."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from collector.model.exemplars import Exemplar
from collector.model.labels import Labels
from collector.model.logs import LogRecord
from collector.model.series import Float64Array, Int64Array, Series
from collector.store import AppendResult


class MetricSink(Protocol):
    """Takes samples, exemplars and metadata. Every method may raise StoreError."""

    def append_series(self, series: Iterable[Series]) -> AppendResult:
        """Store samples of any series; those that cannot be kept are counted."""
        ...

    def append_batch(self, layout: Sequence[Labels], timestamps_ms: Int64Array, values: Float64Array) -> AppendResult:
        """The same for different series with equally many samples: (series,), or (rows, series)."""
        ...

    def append_exemplars(self, exemplars: Iterable[Exemplar]) -> int:
        """Store exemplars and return how many were kept."""
        ...

    def set_metadata(self, metric: str, type: str, help: str, unit: str) -> None:
        """Keep TYPE, HELP and UNIT of a metric family."""
        ...


class LogSink(Protocol):
    """Takes log records."""

    def append(self, records: Sequence[LogRecord]) -> int:
        """Store records and return how many. Raises StoreError."""
        ...
