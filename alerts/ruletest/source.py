"""Series in memory that rules are evaluated over: what a test gives, and what the rules write.

This is the one place of alerts that evaluates PromQL itself, because a test has no server to ask.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from collector.model.answered import Answered, each_alone
from collector.model.labels import Labels
from collector.model.matchers import Matcher, all_match
from collector.model.series import Float64Array, Int64Array, Sample, Series, SeriesGroup
from collector.promql import Engine


class SyntheticSource:
    """A Prometheus in memory; it is both a Querier (for the engine) and a Source (for groups of rules).

    ``values`` are points by series, one for each ``interval_s`` from 0 on, None where there is no point. What lies
    after ``until_ms`` is not seen yet; None shows all. Written samples are appended and must not go back in time.
    """

    def __init__(
        self, values: Mapping[Labels, Sequence[float | None]], interval_s: float, engine: Engine | None = None
    ) -> None:
        self.until_ms: int | None = None
        self._engine = engine or Engine()
        self._given: dict[Labels, tuple[Int64Array, Float64Array]] = {}
        self._written: dict[Labels, tuple[list[int], list[float]]] = {}
        self._found: dict[tuple[Matcher, ...], list[Labels]] = {}
        grids: dict[int, Int64Array] = {}
        for labels, points in values.items():
            numbers = [place for place, point in enumerate(points) if point is not None]
            if len(numbers) == len(points):
                times = grids.setdefault(len(points), _times_ms(range(len(points)), interval_s))
            else:
                times = _times_ms(numbers, interval_s)
            self._given[labels] = times, np.array([points[number] for number in numbers], dtype=np.float64)

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> Sequence[SeriesGroup]:
        """Series that satisfy every matcher, as ``Querier`` promises."""
        end_ms = end_ms if self.until_ms is None else min(end_ms, self.until_ms)
        given: dict[int, list[Labels]] = {}
        groups: list[SeriesGroup] = []
        for labels in self._matching(tuple(matchers)):
            if labels in self._given:
                given.setdefault(id(self._given[labels][0]), []).append(labels)
            else:
                groups.append(self._written_group(labels, start_ms, end_ms))
        for members in given.values():
            times = self._given[members[0]][0]
            inside = slice(*np.searchsorted(times, [start_ms, end_ms + 1]))
            values = np.column_stack([self._given[labels][1][inside] for labels in members])
            groups.append(SeriesGroup(tuple(members), times[inside], values))
        return groups

    def query(self, expr: str, time_s: float | None = None) -> Sequence[Sample]:
        """Evaluate at one moment, as ``Source`` promises."""
        result = self._engine.instant(self, expr, round((time_s or 0.0) * 1000))
        return [Sample(one.labels, int(one.timestamps_ms[-1]), float(one.values[-1])) for one in result.series]

    def query_range(self, expr: str, start_s: float, end_s: float, step_s: float) -> Sequence[Series]:
        """Evaluate at every step."""
        return self._engine.range(self, expr, round(start_s * 1000), round(end_s * 1000), round(step_s * 1000)).series

    def query_all(self, exprs: Sequence[str], time_s: float) -> Sequence[Answered]:
        """Evaluate each at one moment, as ``Source`` promises."""
        return each_alone(self.query, exprs, time_s)

    def write(self, series: Iterable[Series]) -> None:
        """Append samples; one at a moment that is there already is left out, as a store would refuse it."""
        for one in series:
            if one.labels in self._given:
                continue
            if one.labels not in self._written:
                self._written[one.labels] = ([], [])
                self._found.clear()
            times, values = self._written[one.labels]
            for time_ms, value in zip(one.timestamps_ms.tolist(), one.values.tolist(), strict=True):
                if not times or time_ms > times[-1]:
                    times.append(time_ms)
                    values.append(value)

    def _matching(self, matchers: tuple[Matcher, ...]) -> list[Labels]:
        found = self._found.get(matchers)
        if found is None:
            everything = [*self._given, *self._written]
            found = self._found[matchers] = [labels for labels in everything if all_match(matchers, labels)]
        return found

    def _written_group(self, labels: Labels, start_ms: int, end_ms: int) -> SeriesGroup:
        times, values = self._written[labels]
        inside = slice(bisect_left(times, start_ms), bisect_right(times, end_ms))
        column = np.array(values[inside], dtype=np.float64).reshape(-1, 1)
        return SeriesGroup((labels,), np.array(times[inside], dtype=np.int64), column)


def _times_ms(numbers: Iterable[int], interval_s: float) -> Int64Array:
    return np.rint(np.array(list(numbers), dtype=np.float64) * interval_s * 1000).astype(np.int64)
