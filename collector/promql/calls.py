"""The functions of PromQL: which arguments each evaluates, and what becomes of the labels.

The numbers themselves are computed in ``rates``, ``over_time``, ``regression``, ``elementwise`` and ``histograms``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from collector.model.labels import METRIC_NAME, Labels, derived, from_mapping, get
from collector.model.series import BoolArray, Float64Array, Int64Array
from collector.promql import extended, histograms, over_time, rates, regression
from collector.promql.ast import Call, Expr, MatrixSelector, VectorSelector
from collector.promql.elementwise import CALENDAR, MATH, Elementwise, round_to
from collector.promql.enrich import Wanted, enrich
from collector.promql.frame import Frame, Scalar, compact, empty, merged, stack, take, without_names
from collector.promql.printer import open_metrics_number
from collector.promql.relabel import check_label_name, joiner, natural_key, replacer
from collector.promql.windows import RangeFunction, apply

if TYPE_CHECKING:
    from collector.promql.evaluator import Evaluator

Handler = Callable[["Evaluator", Call, Int64Array], Frame | Scalar | str]

_COUNTER_SUFFIXES = ("_total", "_sum", "_count", "_bucket")


def _over_windows(evaluator: Evaluator, expr: Expr, times: Int64Array, function: RangeFunction) -> Frame:
    return without_names(apply(evaluator.windows(expr, times), function))


def _simple(name: str) -> Handler:
    function = over_time.SIMPLE[name]

    def call(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
        frame = apply(evaluator.windows(expr.args[0], times), lambda block, _: function(block))
        return frame if name in over_time.KEEPS_NAME else without_names(frame)

    return call


def _extrapolated(counter: bool, per_second: bool) -> Handler:
    def call(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
        classic = not evaluator.query.left_open
        windows = evaluator.windows(expr.args[0], times)
        frame = apply(
            windows,
            lambda block, every: (
                extended.rise(block, every, counter=counter, per_second=per_second)
                if every.extension
                else rates.extrapolated(block, every, counter=counter, per_second=per_second, classic=classic)
            ),
        )
        for name in derived(frame.labels, "names", lambda: _names(frame.labels)) if counter else ():
            if name and not name.endswith(_COUNTER_SUFFIXES):
                evaluator.query.notes.inform(
                    f'metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "{name}"',
                    expr.args[0].position,
                )
        return without_names(frame)

    return call


def _names(labels: tuple[Labels, ...]) -> frozenset[str]:
    return frozenset(get(one, METRIC_NAME) for one in labels)


def _instant_change(per_second: bool) -> Handler:
    return lambda evaluator, expr, times: _over_windows(
        evaluator, expr.args[0], times, lambda block, _: rates.instant_change(block, per_second=per_second)
    )


def _quantile_over_time(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
    quantiles = evaluator.numbers(expr.args[0], times)
    frame = _over_windows(
        evaluator, expr.args[1], times, lambda block, _: over_time.quantile_over_time(block, quantiles)
    )
    if frame.labels:
        evaluator.warn_of_quantiles(quantiles, expr.args[0].position)
    return frame


def _predict_linear(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
    ahead_s = evaluator.numbers(expr.args[1], times)
    return _over_windows(
        evaluator, expr.args[0], times, lambda block, _: regression.predict_linear(block, times, ahead_s)
    )


def _smoothing(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
    smoothing, trend = (evaluator.numbers(argument, times) for argument in expr.args[1:3])
    return _over_windows(
        evaluator,
        expr.args[0],
        times,
        lambda block, _: regression.double_exponential_smoothing(block, smoothing, trend),
    )


def _absent_labels(expr: Expr) -> Labels:
    """What the equality matchers of a selector say about a series that isn't there."""
    selector = expr.selector if isinstance(expr, MatrixSelector) else expr
    found: dict[str, str] = {}
    seen: set[str] = set()
    for matcher in selector.matchers if isinstance(selector, VectorSelector) else ():
        if matcher.name == METRIC_NAME:
            continue
        if matcher.op == "=" and matcher.name not in seen:
            found[matcher.name] = matcher.value
            seen.add(matcher.name)
        else:
            found.pop(matcher.name, None)
    return from_mapping(found)


def _absence(expr: Expr, frame: Frame) -> Frame:
    missing: BoolArray = np.logical_not(frame.present.any(axis=0, keepdims=True))
    return compact(Frame((_absent_labels(expr),), np.ones(missing.shape), missing))


def _absent(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
    return _absence(expr.args[0], evaluator.frame(expr.args[0], times))


def _absent_over_time(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
    present = over_time.SIMPLE["present_over_time"]
    return _absence(expr.args[0], apply(evaluator.windows(expr.args[0], times), lambda block, _: present(block)))


def _changed(frame: Frame, values: Float64Array) -> Frame:
    return without_names(frame.changed(values))


def _math(function: Elementwise) -> Handler:
    def call(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
        frame = evaluator.frame(expr.args[0], times)
        return _changed(frame, function(frame.values))

    return call


def _calendar(function: Elementwise) -> Handler:
    def call(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
        if expr.args:
            frame = evaluator.frame(expr.args[0], times)
            return _changed(frame, function(frame.values))
        return _vector(function(times / 1000))

    return call


def _vector(values: Float64Array) -> Frame:
    shown = values[None, :]
    return Frame(((),), shown, np.ones(shown.shape, dtype=np.bool_))


def _round(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
    frame = evaluator.frame(expr.args[0], times)
    nearest = evaluator.numbers(expr.args[1], times) if len(expr.args) > 1 else np.ones(len(times))
    return _changed(frame, round_to(frame.values, nearest[None, :]))


def _clamp(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
    frame = evaluator.frame(expr.args[0], times)
    bounds = [evaluator.numbers(argument, times)[None, :] for argument in expr.args[1:]]
    low = bounds[0] if expr.function != "clamp_max" else np.array([[-np.inf]])
    high = bounds[-1] if expr.function != "clamp_min" else np.array([[np.inf]])
    values = np.maximum(low, np.minimum(high, frame.values))
    return without_names(compact(frame.changed(values, frame.present & ~(low > high))))


def _histogram(evaluator: Evaluator, expr: Call, times: Int64Array, position: int) -> tuple[Frame, histograms.Remarks]:
    frame = evaluator.frame(expr.args[position], times)
    return frame, histograms.Remarks(evaluator.query.notes, expr.args[position].position)


def _histogram_quantile(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
    quantiles = evaluator.numbers(expr.args[0], times)
    evaluator.warn_of_quantiles(quantiles, expr.args[0].position)
    frame, remarks = _histogram(evaluator, expr, times, 1)
    return without_names(histograms.over_histograms(frame, _quantile_of(quantiles), remarks, monotonic=True))


def _quantile_of(quantiles: Float64Array) -> histograms.Estimate:
    return lambda buckets, columns: histograms.quantile(buckets, quantiles[columns])


def _histogram_quantiles(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
    """One series for each histogram and quantile, told apart by a label."""
    name = evaluator.text(expr.args[1])
    check_label_name(name, False, "histogram_quantiles")
    frame, remarks = _histogram(evaluator, expr, times, 0)
    found: list[Frame] = []
    for argument in expr.args[2:]:
        quantiles = evaluator.numbers(argument, times)
        evaluator.warn_of_quantiles(quantiles, argument.position)
        estimated = histograms.over_histograms(frame, _quantile_of(quantiles), remarks, monotonic=True)
        for quantile in np.unique(quantiles):
            here = (quantiles == quantile) | (np.isnan(quantiles) & np.isnan(quantile))
            label = {name: open_metrics_number(float(quantile))}
            labels = tuple(from_mapping(dict(one) | label) for one in estimated.labels)
            found.append(Frame(labels, estimated.values, estimated.present & here, estimated.drops))
    return without_names(merged(compact(stack(found, len(times)))))


def _histogram_fraction(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
    lower, upper = (evaluator.numbers(argument, times) for argument in expr.args[:2])
    frame, remarks = _histogram(evaluator, expr, times, 2)

    def estimate(buckets: histograms.Buckets, columns: histograms.Columns) -> Float64Array:
        return histograms.fraction(buckets, lower[columns], upper[columns])

    return without_names(histograms.over_histograms(frame, estimate, remarks, monotonic=False))


def _info(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
    selector = expr.args[1] if len(expr.args) > 1 else None
    wanted = Wanted.of(selector.matchers if isinstance(selector, VectorSelector) else None)
    base = evaluator.frame(expr.args[0], times)
    matchers = wanted.selector(base)
    infos = empty(len(times))
    if matchers is not None:
        infos = evaluator.select(VectorSelector(matchers), times, sample_times=True)
    return enrich(base, infos, wanted)


def _label_replace(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
    target, replacement, source, pattern = (evaluator.text(argument) for argument in expr.args[1:])
    change = replacer(target, replacement, source, pattern)
    check_label_name(target, not evaluator.query.left_open, "destination")
    return _relabelled(evaluator.frame(expr.args[0], times), target, change)


def _label_join(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
    target, separator, *sources = (evaluator.text(argument) for argument in expr.args[1:])
    check_label_name(target, not evaluator.query.left_open, "destination")
    for source in sources:
        check_label_name(source, not evaluator.query.left_open, "source")
    return _relabelled(evaluator.frame(expr.args[0], times), target, joiner(target, separator, sources))


def _relabelled(frame: Frame, target: str, change: Callable[[Labels], Labels | None]) -> Frame:
    """A series whose name is set keeps it."""
    changed = [change(labels) for labels in frame.labels]
    drops = frame.drops
    if drops is not None and target == METRIC_NAME:
        drops = drops & np.array([labels is None for labels in changed], dtype=np.bool_)
    labels = tuple(old if new is None else new for old, new in zip(frame.labels, changed, strict=True))
    return merged(Frame(labels, frame.values, frame.present, drops))


def _sort(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
    frame = evaluator.frame(expr.args[0], times)
    if len(times) > 1:
        return frame
    key = -frame.values[:, 0] if expr.function == "sort_desc" else frame.values[:, 0]
    return take(frame, np.argsort(key, kind="stable"))


def _sort_by_label(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
    frame = evaluator.frame(expr.args[0], times)
    names = [evaluator.text(argument) for argument in expr.args[1:]]
    if len(times) > 1:
        return frame

    def key(row: int) -> tuple[object, ...]:
        labels = frame.labels[row]
        return (*(natural_key(get(labels, name)) for name in names), labels)

    rows = sorted(range(len(frame.labels)), key=key, reverse=expr.function == "sort_by_label_desc")
    return take(frame, rows)


def _scalar(evaluator: Evaluator, expr: Call, times: Int64Array) -> Scalar:
    frame = evaluator.frame(expr.args[0], times)
    if not frame.labels:
        return Scalar(np.full(len(times), np.nan))
    values = np.where(frame.present, frame.values, 0.0)
    row = np.argmax(frame.present, axis=0)
    only = np.take_along_axis(values, row[None, :], axis=0)[0]
    return Scalar(np.where(frame.present.sum(axis=0) == 1, only, np.nan))


def _extreme(choose: np.ufunc) -> Handler:
    def call(evaluator: Evaluator, expr: Call, times: Int64Array) -> Scalar:
        return Scalar(choose.reduce([evaluator.numbers(argument, times) for argument in expr.args], axis=0))

    return call


def _timestamp(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
    argument = expr.args[0]
    if isinstance(argument, VectorSelector):
        return without_names(evaluator.select(argument, times, sample_times=True))
    frame = evaluator.frame(argument, times)
    return _changed(frame, np.broadcast_to(times / 1000, frame.values.shape))


def _of_query(value: Callable[[Evaluator], float]) -> Handler:
    return lambda evaluator, _, times: Scalar(np.full(len(times), value(evaluator)))


def _windowed(function: RangeFunction) -> Handler:
    return lambda evaluator, expr, times: _over_windows(evaluator, expr.args[0], times, function)


def _native_only(evaluator: Evaluator, expr: Call, times: Int64Array) -> Frame:
    """Functions of native histograms see none here; floats are left out, as in Prometheus."""
    evaluator.frame(expr.args[-1], times)
    return empty(len(times))


CALLS: dict[str, Handler] = {
    **{name: _simple(name) for name in over_time.SIMPLE},
    **{name: _math(function) for name, function in MATH.items()},
    **{name: _calendar(function) for name, function in CALENDAR.items()},
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max"), _clamp),
    **dict.fromkeys(("sort", "sort_desc"), _sort),
    **dict.fromkeys(("sort_by_label", "sort_by_label_desc"), _sort_by_label),
    **dict.fromkeys(
        ("histogram_avg", "histogram_count", "histogram_sum", "histogram_stddev", "histogram_stdvar"), _native_only
    ),
    "rate": _extrapolated(counter=True, per_second=True),
    "increase": _extrapolated(counter=True, per_second=False),
    "delta": _extrapolated(counter=False, per_second=False),
    "irate": _instant_change(per_second=True),
    "idelta": _instant_change(per_second=False),
    "resets": _windowed(
        lambda block, every: extended.count(block, every, falls=True) if every.extension else rates.resets(block)
    ),
    "changes": _windowed(
        lambda block, every: extended.count(block, every, falls=False) if every.extension else rates.changes(block)
    ),
    "deriv": _windowed(lambda block, _: regression.deriv(block)),
    "predict_linear": _predict_linear,
    "double_exponential_smoothing": _smoothing,
    "quantile_over_time": _quantile_over_time,
    "absent": _absent,
    "absent_over_time": _absent_over_time,
    "round": _round,
    "histogram_quantile": _histogram_quantile,
    "histogram_fraction": _histogram_fraction,
    "histogram_quantiles": _histogram_quantiles,
    "info": _info,
    "label_replace": _label_replace,
    "label_join": _label_join,
    "scalar": _scalar,
    "vector": lambda evaluator, expr, times: _vector(evaluator.numbers(expr.args[0], times)),
    "timestamp": _timestamp,
    "time": lambda _, __, times: Scalar(times / 1000),
    "min_of": _extreme(np.minimum),
    "max_of": _extreme(np.maximum),
    "pi": _of_query(lambda _: float(np.pi)),
    "start": _of_query(lambda evaluator: evaluator.query.start_ms / 1000),
    "end": _of_query(lambda evaluator: evaluator.query.end_ms / 1000),
    "range": _of_query(lambda evaluator: (evaluator.query.end_ms - evaluator.query.start_ms) / 1000),
    "step": _of_query(lambda evaluator: evaluator.query.step_ms / 1000),
}
"""Every function by name."""
