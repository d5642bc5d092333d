"""Delta temporality as cumulative: what each series counted since it was first seen.

A sum begins anew when this process does, which readers see as a counter's reset, as with any restarted process.
"""

from dataclasses import dataclass

from collector.model.labels import Labels

MAX_SERIES = 100_000
"""Most series whose deltas are summed; beyond them points are refused."""

FORGET_NS = 3_600_000_000_000
"""A series without deltas for an hour makes room for others."""

Shape = tuple[float, ...]
"""Bounds of a histogram, or nothing of a plain sum."""


@dataclass(slots=True)
class _Sum:
    time_ns: int
    shape: Shape
    values: dict[float | str, float]


class Deltas:
    """Sums by series. Not for several threads at once."""

    def __init__(self, max_series: int = MAX_SERIES) -> None:
        self._max_series = max_series
        self._sums: dict[Labels, _Sum] = {}

    def add(
        self, series: Labels, time_ns: int, values: dict[float | str, float], shape: Shape = ()
    ) -> dict[float | str, float]:
        """The sums after one more delta; where the shape changed they begin anew.

        ``values`` are a bucket's count by its bound, or other figures by name; what is absent counts as nothing.
        ValueError where the delta is not after the last one of its series, or of one series too many.
        """
        known = self._sums.get(series)
        if known is None:
            self._make_room(time_ns)
            known = self._sums[series] = _Sum(0, shape, {})
        if time_ns <= known.time_ns:
            raise ValueError("a delta is not after the last one of its series")
        if known.shape != shape:
            known.values, known.shape = {}, shape
        known.time_ns = time_ns
        for key, more in values.items():
            known.values[key] = known.values.get(key, 0.0) + more
        return known.values

    def _make_room(self, time_ns: int) -> None:
        if len(self._sums) < self._max_series:
            return
        old = [series for series, one in self._sums.items() if one.time_ns < time_ns - FORGET_NS]
        for series in old:
            del self._sums[series]
        if not old:
            raise ValueError(f"deltas of {self._max_series} series are summed; more are not (deltas max_series)")
