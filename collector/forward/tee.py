"""A store that also passes on what it is given: first it is kept, then it is queued."""

from collections.abc import Iterable, MutableMapping, Sequence

from collector.forward.remote_write import Samples
from collector.model.exemplars import Exemplar
from collector.model.labels import Labels
from collector.model.series import Float64Array, Int64Array, Series
from collector.model.write_shape import WrittenMetadata
from collector.store import AppendResult, Store


class Tee:
    """Takes what the store takes; what the store refuses as a whole is not passed on.

    ``destinations`` may change meanwhile; ``described`` is where they look metadata up, by family.
    """

    def __init__(
        self, store: Store, destinations: Sequence[Samples], described: MutableMapping[str, WrittenMetadata]
    ) -> None:
        self._store = store
        self._destinations = destinations
        self._described = described

    def append_scrape(self, group_key: str, layout: Sequence[Labels], timestamp_ms: int, values: Float64Array) -> None:
        """See ``Store.append_scrape``."""
        self._store.append_scrape(group_key, layout, timestamp_ms, values)
        for destination in tuple(self._destinations):
            destination.scrape(group_key, layout, timestamp_ms, values)

    def mark_stale(self, group_key: str, timestamp_ms: int) -> None:
        """See ``Store.mark_stale``."""
        self._store.mark_stale(group_key, timestamp_ms)
        for destination in tuple(self._destinations):
            destination.stale(group_key, timestamp_ms)

    def append_series(self, series: Iterable[Series]) -> AppendResult:
        """See ``Store.append_series``; late samples are passed on too, for the destination to judge."""
        taken = list(series)
        result = self._store.append_series(taken)
        for destination in tuple(self._destinations):
            destination.series(taken)
        return result

    def append_batch(self, layout: Sequence[Labels], timestamps_ms: Int64Array, values: Float64Array) -> AppendResult:
        """See ``Store.append_batch``."""
        result = self._store.append_batch(layout, timestamps_ms, values)
        if self._destinations:
            rows = len(values) if values.ndim > 1 else 1
            times, columns = timestamps_ms.reshape(rows, -1), values.reshape(rows, -1)
            series = [Series(labels, times[:, i], columns[:, i]) for i, labels in enumerate(layout)]
            for destination in tuple(self._destinations):
                destination.series(series)
        return result

    def append_exemplars(self, exemplars: Iterable[Exemplar]) -> int:
        """See ``Store.append_exemplars``."""
        taken = list(exemplars)
        kept = self._store.append_exemplars(taken)
        for destination in tuple(self._destinations):
            destination.exemplars(taken)
        return kept

    def set_metadata(self, metric: str, type: str, help: str, unit: str) -> None:
        """See ``Store.set_metadata``."""
        self._store.set_metadata(metric, type, help, unit)
        self._described[metric] = WrittenMetadata(metric, type, help, unit)
