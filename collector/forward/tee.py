"""A store that also passes on what it is given: first it is kept, then it is queued."""

from collections.abc import Iterable, Sequence

from collector.forward.remote_write import Samples
from collector.model.labels import Labels
from collector.model.series import Float64Array, Series
from collector.store import AppendResult, Store


class Tee:
    """Takes what the store takes; what the store refuses as a whole is not passed on."""

    def __init__(self, store: Store, destinations: Sequence[Samples]) -> None:
        self._store = store
        self._destinations = tuple(destinations)

    def append_scrape(self, group_key: str, layout: Sequence[Labels], timestamp_ms: int, values: Float64Array) -> None:
        """See ``Store.append_scrape``."""
        self._store.append_scrape(group_key, layout, timestamp_ms, values)
        for destination in self._destinations:
            destination.scrape(group_key, layout, timestamp_ms, values)

    def mark_stale(self, group_key: str, timestamp_ms: int) -> None:
        """See ``Store.mark_stale``."""
        self._store.mark_stale(group_key, timestamp_ms)
        for destination in self._destinations:
            destination.stale(group_key, timestamp_ms)

    def append_series(self, series: Iterable[Series]) -> AppendResult:
        """See ``Store.append_series``; late samples are passed on too, for the destination to judge."""
        taken = list(series)
        result = self._store.append_series(taken)
        for destination in self._destinations:
            destination.series(taken)
        return result

    def set_metadata(self, metric: str, type: str, help: str, unit: str) -> None:
        """See ``Store.set_metadata``."""
        self._store.set_metadata(metric, type, help, unit)
