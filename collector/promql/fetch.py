"""Selectors: one ``select`` per selector for the whole query, one ``searchsorted`` per group of series."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from collector.model.matchers import Matcher
from collector.model.series import Int64Array, SeriesGroup, is_stale
from collector.promql.ast import MatrixSelector, VectorSelector
from collector.promql.extended import interpolated
from collector.promql.frame import Frame, compact, stack
from collector.promql.query import Query
from collector.promql.windows import Layout, Windows, apply, over_groups

Read = Callable[[Sequence[Matcher], int, int], Iterable[SeriesGroup]]
"""``select`` of a Querier, or ``scan`` of one that reads piece by piece."""


def select_instant(query: Query, selector: VectorSelector, times_ms: Int64Array, sample_times: bool = False) -> Frame:
    """The latest sample within the lookback at every step; with ``sample_times``, its time in seconds instead."""
    moments = query.moments(times_ms, selector.offset_ms, selector.at)
    if selector.extension == "smoothed" and not sample_times:
        return _smoothed(query, selector, moments)
    groups = _select(query, selector, int(moments[0]) - query.lookback_ms, int(moments[-1]), len(moments))
    frames = [_latest(query, group, moments, sample_times) for group in groups if len(group.timestamps_ms)]
    frame = compact(stack(frames, len(times_ms)))
    query.budget.spend(frame.values.size, len(frame.labels))
    return frame


def select_windows(query: Query, selector: MatrixSelector, times_ms: Int64Array) -> Windows:
    """The samples of the range at every step."""
    inner = selector.selector
    ends = query.moments(times_ms, inner.offset_ms, inner.at)
    before_ms = query.lookback_ms if inner.extension else 0
    after_ms = query.lookback_ms if inner.extension == "smoothed" else 0
    groups = _select(query, inner, int(ends[0]) - selector.range_ms - before_ms, int(ends[-1]) + after_ms, len(ends))
    layout = Layout(ends, selector.range_ms, query.left_open, inner.extension, before_ms, after_ms)
    return over_groups(groups, layout, query.delayed_names)


def _select(query: Query, selector: VectorSelector, start_ms: int, end_ms: int, steps: int) -> Iterator[SeriesGroup]:
    """The groups, one read after the other, while what becomes of them over all ``steps`` is within the limits."""
    read: Read = getattr(query.querier, "scan", query.querier.select)  # isinstance() of a protocol takes 25 us
    series, before = 0, query.budget.held
    for group in read(selector.matchers, start_ms + query.left_open, end_ms):
        series += len(group.labels)
        query.budget.held = before
        query.budget.hold(group.values.size)
        query.budget.spend(group.values.size, series)
        query.budget.expect(series * steps)
        query.budget.check_time()
        yield group


def _latest(query: Query, group: SeriesGroup, moments: Int64Array, sample_times: bool) -> Frame:
    times = group.timestamps_ms
    index = np.searchsorted(times, moments, side="right") - 1
    found = np.maximum(index, 0)
    oldest = moments - query.lookback_ms
    recent = (index >= 0) & (times[found] > oldest if query.left_open else times[found] >= oldest)
    values = np.ascontiguousarray(group.values.take(found, axis=0).T)
    present = recent[None, :] & ~is_stale(values)
    if sample_times:
        values = np.broadcast_to(times[found] / 1000.0, values.shape)
    return Frame(group.labels, values, present, query.kept_names(len(group.labels)))


def _smoothed(query: Query, selector: VectorSelector, moments: Int64Array) -> Frame:
    """Values interpolated between the samples around every step, each within the lookback."""
    lookback_ms = query.lookback_ms
    groups = _select(query, selector, int(moments[0]) - lookback_ms, int(moments[-1]) + lookback_ms, len(moments))
    layout = Layout(moments, 0, query.left_open, "smoothed", lookback_ms, lookback_ms)
    frame = apply(over_groups(groups, layout, query.delayed_names), interpolated)
    query.budget.spend(frame.values.size, len(frame.labels))
    return frame
