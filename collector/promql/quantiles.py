"""Quantiles of samples, NaN sorted lowest. Source: prometheus/promql/quantile.go, ``quantile``."""

import numpy as np

from collector.model.series import BoolArray, Float64Array, Int64Array


def quantile_of_rows(values: Float64Array, present: BoolArray, quantiles: Float64Array) -> Float64Array:
    """For each column of ``values`` (rows, columns), the quantile of its present rows; NaN where there are none."""
    ordered = np.sort(np.where(present, values, np.nan), axis=0)
    counts = present.sum(axis=0)
    nans = (present & np.isnan(values)).sum(axis=0)
    rank = quantiles * (counts - 1)
    lower = np.maximum(0, np.floor(np.where(np.isfinite(rank), rank, 0))).astype(np.int64)
    upper = np.minimum(counts - 1, lower + 1)
    weight = rank - np.floor(rank)
    result = _at(ordered, lower, nans) * (1 - weight) + _at(ordered, upper, nans) * weight
    result = np.where(quantiles < 0, -np.inf, np.where(quantiles > 1, np.inf, result))
    answer: Float64Array = np.where((counts == 0) | np.isnan(quantiles), np.nan, result)
    return answer


def _at(ordered: Float64Array, index: Int64Array, nans: Int64Array) -> Float64Array:
    """Element ``index`` of each column once its ``nans`` NaNs are moved from the end to the start."""
    row = np.clip(index - nans, 0, len(ordered) - 1)
    found = np.take_along_axis(ordered, row[None, :], axis=0)[0]
    return np.where(index < nans, np.nan, found)
