"""Binary operators between two vectors: which series meet, and what the results are called.

Source: prometheus/promql/engine.go, ``VectorBinop``, ``resultMetric``, ``VectorAnd``, ``VectorOr``, ``VectorUnless``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from collector.model.errors import QueryError
from collector.model.labels import METRIC_NAME, Labels, from_mapping, get, keep, without
from collector.model.series import BoolArray, Float64Array
from collector.promql.ast import Binary, Matching
from collector.promql.frame import METADATA_LABELS, Frame, compact, dropped_names, empty, merged, stack
from collector.promql.operators import ARITHMETIC, combine
from collector.promql.printer import quote

Signature = Callable[[Labels], Labels]


def signature(matching: Matching, ignored: Sequence[str] = (METRIC_NAME,)) -> Signature:
    """The labels by which two series meet; ``ignored`` goes for matchings without ``on``."""
    if matching.on:
        return lambda labels: keep(labels, matching.labels)
    dropped = (*ignored, *matching.labels)
    return lambda labels: without(labels, dropped)


def combine_sets(op: str, left: Frame, right: Frame, matching: Matching) -> Frame:
    """``and``, ``or``, ``unless``."""
    sign = signature(matching, METADATA_LABELS)
    numbers: dict[Labels, int] = {}
    left_rows = [numbers.setdefault(sign(labels), len(numbers)) for labels in left.labels]
    right_rows = [numbers.setdefault(sign(labels), len(numbers)) for labels in right.labels]
    source, rows = (left, left_rows) if op == "or" else (right, right_rows)
    seen = np.zeros((len(numbers), left.steps), dtype=np.bool_)
    for row, number in enumerate(rows):
        seen[number] |= source.present[row]
    if op == "or":
        rest = compact(right.changed(right.values, right.present & ~seen[right_rows]))
        return merged(stack([left, rest], left.steps))
    found = seen[left_rows] if left_rows else left.present
    return compact(left.changed(left.values, left.present & (found if op == "and" else ~found)))


def combine_vectors(expr: Binary, left: Frame, right: Frame, classic: bool = False) -> Frame:
    """Arithmetic and comparison; raises QueryError where more series meet than the matching allows.

    ``classic`` is Prometheus 2.42: a comparison counts only the pairs that it keeps, and atan2 keeps the name.
    """
    matching = expr.matching or Matching()
    swapped = matching.cardinality == "one-to-many"
    many, one = (right, left) if swapped else (left, right)
    pairs = _pair(many, one, matching, swapped)
    if not len(pairs.present):
        return empty(left.steps)
    ends = (pairs.one, pairs.many) if swapped else (pairs.many, pairs.one)
    values, holds = combine(expr.op, *ends, expr.return_bool)
    present = pairs.present if holds is None else pairs.present & holds
    if matching.cardinality == "one-to-one":
        _refuse_overlap(pairs.signatures, present if classic else pairs.present)
    delayed = many.drops is not None
    drops_name = (expr.return_bool and not delayed) or (expr.op in ARITHMETIC and not (classic and expr.op == "atan2"))
    name = _namer(matching, drops_name)
    labels = tuple(name(many_labels, one_labels) for many_labels, one_labels in pairs.labels)
    message = "multiple matches for labels: grouping labels must ensure unique matches"
    drops = pairs.drops | expr.return_bool if delayed else None
    return compact(merged(Frame(labels, values, present, drops), message))


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Series that meet: values of both and presence (pairs, steps), labels of both, and the signature they share."""

    many: Float64Array
    one: Float64Array
    present: BoolArray
    labels: Sequence[tuple[Labels, Labels]]
    signatures: Sequence[Labels]
    drops: BoolArray


def _pair(many: Frame, one: Frame, matching: Matching, swapped: bool) -> _Pairs:
    sign = signature(matching)
    many_signs = [sign(labels) for labels in many.labels]
    one_rows: dict[Labels, list[int]] = {}
    for row, labels in enumerate(one.labels):
        one_rows.setdefault(sign(labels), []).append(row)
    fill_one, fill_many = matching.fill_right, matching.fill_left
    if swapped:
        fill_one, fill_many = fill_many, fill_one
    active: BoolArray = np.logical_and(many.present.any(axis=0), one.present.any(axis=0))
    if fill_one is not None or fill_many is not None:
        active = np.ones_like(active)
    _refuse_duplicates(one, one_rows, active, "left" if swapped else "right")
    met = [(row, other) for row, key in enumerate(many_signs) for other in one_rows.get(key, ())]
    rows = np.array([row for row, _ in met], dtype=np.int64)
    others = np.array([other for _, other in met], dtype=np.int64)
    pairs = _Pairs(
        many.values[rows],
        one.values[others],
        many.present[rows] & one.present[others],
        [(many.labels[row], one.labels[other]) for row, other in met],
        [many_signs[row] for row, _ in met],
        dropped_names(many)[rows],
    )
    if fill_one is not None:
        pairs = _joined(pairs, _unmet_many(many, many_signs, one, one_rows, fill_one))
    if fill_many is not None:
        pairs = _joined(pairs, _unmet_one(many, many_signs, one, one_rows, fill_many))
    return pairs


def _unmet_many(
    many: Frame, many_signs: Sequence[Labels], one: Frame, one_rows: dict[Labels, list[int]], filling: float
) -> _Pairs:
    """Series of the many side wherever nothing on the one side meets them."""
    met = np.array([one.present[one_rows.get(key, [])].any(axis=0) for key in many_signs])
    present = many.present & ~met.reshape(many.present.shape)
    labels = list(zip(many.labels, many_signs, strict=True))
    return _Pairs(many.values, np.full(many.values.shape, filling), present, labels, many_signs, dropped_names(many))


def _unmet_one(
    many: Frame, many_signs: Sequence[Labels], one: Frame, one_rows: dict[Labels, list[int]], filling: float
) -> _Pairs:
    """Series of the one side wherever nothing on the many side meets them."""
    met: dict[Labels, BoolArray] = {}
    for row, key in enumerate(many_signs):
        met[key] = met.get(key, np.zeros(many.steps, dtype=np.bool_)) | many.present[row]
    rows = [(row, key) for key, members in one_rows.items() for row in members]
    index = np.array([row for row, _ in rows], dtype=np.int64)
    present = one.present[index]
    for position, (_, key) in enumerate(rows):
        if key in met:
            present[position] &= ~met[key]
    labels = [(key, one.labels[row]) for row, key in rows]
    no_drops = np.zeros(len(rows), dtype=np.bool_)
    signs = [key for _, key in rows]
    return _Pairs(np.full(present.shape, filling), one.values[index], present, labels, signs, no_drops)


def _joined(first: _Pairs, second: _Pairs) -> _Pairs:
    return _Pairs(
        np.concatenate([first.many, second.many]),
        np.concatenate([first.one, second.one]),
        np.concatenate([first.present, second.present]),
        [*first.labels, *second.labels],
        [*first.signatures, *second.signatures],
        np.concatenate([first.drops, second.drops]),
    )


def _refuse_duplicates(one: Frame, one_rows: dict[Labels, list[int]], active: BoolArray, side: str) -> None:
    for key, rows in one_rows.items():
        if len(rows) < 2:
            continue
        counts = one.present[rows].sum(axis=0)
        if (counts[active] > 1).any():
            step = int(np.flatnonzero(active & (counts > 1))[0])
            names = sorted(one.labels[row] for row in rows if one.present[row, step])[:2]
            raise QueryError(
                f"found duplicate series for the match group {_braced(key)} on the {side} hand-side of the operation: "
                f"[{', '.join(_braced(name) for name in names)}];many-to-many matching not allowed: "
                "matching labels must be unique on one side",
                kind="execution",
            )


def _braced(labels: Labels) -> str:
    return "{" + ", ".join(f"{name}={quote(value)}" for name, value in labels) + "}"


def _refuse_overlap(signatures: Sequence[Labels], present: BoolArray) -> None:
    """In a one-to-one match, a signature may have one result at each step."""
    if len(set(signatures)) == len(signatures):
        return
    taken: dict[Labels, BoolArray] = {}
    for row, key in enumerate(signatures):
        if key in taken and (taken[key] & present[row]).any():
            raise QueryError(
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                kind="execution",
            )
        taken[key] = taken[key] | present[row] if key in taken else present[row]


def _namer(matching: Matching, drops_name: bool) -> Callable[[Labels, Labels], Labels]:
    """Labels of a result from those of the many side and the one side."""
    dropped = METADATA_LABELS if drops_name else ()

    def name(many: Labels, one: Labels) -> Labels:
        labels = without(many, dropped) if dropped else many
        if matching.cardinality == "one-to-one":
            labels = keep(labels, matching.labels) if matching.on else without(labels, matching.labels)
        if not matching.include:
            return labels
        return from_mapping(dict(labels) | {included: get(one, included) for included in matching.include})

    return name
