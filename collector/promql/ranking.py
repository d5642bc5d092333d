"""Aggregations that keep some series of each group: topk, bottomk, limitk, limit_ratio."""

from collections.abc import Sequence

import numpy as np

from collector.model.errors import QueryError
from collector.model.labels import Labels
from collector.model.series import BoolArray, Float64Array, Int64Array
from collector.promql.aggregate import group
from collector.promql.frame import Frame, compact, take
from collector.promql.xxhash import xxhash64

_MOST = float(1 << 63)
_LARGEST_HASH = float((1 << 64) - 1)


def rank(op: str, frame: Frame, grouping: Sequence[str], by_exclusion: bool, parameter: Float64Array) -> Frame:
    """``op by|without (grouping) (parameter, frame)``; raises QueryError where a parameter is not a count or ratio.

    A vector of one step comes out in rank order; ties and limits go to the series that come first.
    """
    wanted = _ratios(parameter) if op == "limit_ratio" else _counts(parameter)
    if not frame.labels:
        return frame
    groups = group(frame, grouping, by_exclusion)
    present = np.zeros(frame.present.shape, dtype=np.bool_)
    rows: list[int] = []
    for members in groups.members():
        here = frame.present[members]
        if op == "limit_ratio":
            present[members] = here & _drawn([frame.labels[row] for row in members], wanted)
            rows += members.tolist()
            continue
        keys = _keys(op, frame.values[members])
        places = _places(here, keys)
        present[members] = here & (places < wanted[None, :])
        rows += members[np.argsort(places[:, 0], kind="stable")].tolist() if frame.steps == 1 else members.tolist()
    return compact(take(frame.changed(frame.values, present), rows))


def _counts(parameter: Float64Array) -> Float64Array:
    if np.isnan(parameter).any():
        raise QueryError("Parameter value is NaN", kind="execution")
    if (np.abs(parameter) >= _MOST).any():
        raise QueryError(f"Scalar value {parameter.max():g} overflows int64", kind="execution")
    return np.trunc(parameter)


def _ratios(parameter: Float64Array) -> Float64Array:
    if np.isnan(parameter).any():
        raise QueryError("Ratio value is NaN", kind="execution")
    return np.clip(parameter, -1.0, 1.0)


def _keys(op: str, values: Float64Array) -> Float64Array:
    """Ascending sort keys, best first; NaN is worst."""
    if op == "limitk":
        return np.zeros(values.shape)
    return -values if op == "topk" else values


def _places(here: BoolArray, keys: Float64Array) -> Int64Array:
    """Rank of each row in its column, 0 for the best; rows that are absent come last."""
    order = np.lexsort((np.broadcast_to(np.arange(len(keys))[:, None], keys.shape), keys, ~here), axis=0)
    places = np.empty(order.shape, dtype=np.int64)
    np.put_along_axis(places, order, np.broadcast_to(np.arange(len(keys))[:, None], order.shape), axis=0)
    return places


def _drawn(labels: Sequence[Labels], ratios: Float64Array) -> BoolArray:
    """Whether each series (rows) is in the sample of each ratio (columns); r and r - 1 share no series."""
    offsets = np.array([_offset(one) for one in labels])[:, None]
    positive = offsets < ratios[None, :]
    negative = offsets >= 1.0 + ratios[None, :]
    return np.where(ratios[None, :] >= 0, positive, negative)


def _offset(labels: Labels) -> float:
    """A number from 0 to 1 that depends on the label set only: Prometheus's hash of it (``stringlabels``)."""
    return xxhash64(b"".join(_sized(text) for pair in labels for text in pair)) / _LARGEST_HASH


def _sized(text: str) -> bytes:
    data = text.encode()
    size = len(data)
    return (bytes([size]) if size < 255 else b"\xff" + size.to_bytes(3, "little")) + data
