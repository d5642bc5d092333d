"""Trends within a window: deriv, predict_linear, double_exponential_smoothing."""

import numpy as np

from collector.model.errors import QueryError
from collector.model.series import BoolArray, Float64Array, Int64Array
from collector.promql.windows import Block

Answer = tuple[Float64Array, BoolArray]


def deriv(block: Block) -> Answer:
    """Slope per second of the least-squares line through each window."""
    slope, _ = _lines(block, block.times_ms[np.minimum(block.first, len(block.times_ms) - 1)])
    return slope, block.counts >= 2


def predict_linear(block: Block, times_ms: Int64Array, ahead_s: Float64Array) -> Answer:
    """Value of that line ``ahead_s`` seconds after each step of ``times_ms``."""
    slope, intercept = _lines(block, times_ms)
    return slope * ahead_s[:, None] + intercept, block.counts >= 2


def _lines(block: Block, zero_ms: Int64Array) -> tuple[Float64Array, Float64Array]:
    """Slope per second and value at ``zero_ms[step]``, each (steps, series), from centred sums."""
    shape = (len(block.first), len(block.labels))
    slope, intercept = np.zeros(shape), np.zeros(shape)
    for step in np.flatnonzero(block.counts >= 2):
        window = slice(block.first[step], block.last[step])
        times_s = (block.times_ms[window] - zero_ms[step]) / 1000
        values = block.values[window]
        centre_s, centre = times_s.mean(), values.mean(axis=0)
        from_centre = times_s - centre_s
        rise = from_centre @ (values - centre) / (from_centre @ from_centre)
        constant = (values == values[0]).all(axis=0)
        if constant.any():
            infinite = np.isinf(values[0])
            rise = np.where(constant, np.where(infinite, np.nan, 0.0), rise)
            centre = np.where(constant, np.where(infinite, np.nan, values[0]), centre)
        slope[step] = rise
        intercept[step] = centre - rise * centre_s
    return slope, intercept


def double_exponential_smoothing(block: Block, smoothing: Float64Array, trend: Float64Array) -> Answer:
    """Holt's linear method; raises QueryError for factors outside (0, 1)."""
    for name, factors in (("smoothing", smoothing), ("trend", trend)):
        wrong = factors[(factors <= 0) | (factors >= 1)]
        if len(wrong):
            raise QueryError(f"invalid {name} factor. Expected: 0 < {name[0]}f < 1, got: {wrong[0]:f}", "execution")
    result = np.zeros((len(block.first), len(block.labels)))
    for step in np.flatnonzero(block.counts >= 2):
        samples = block.values[block.first[step] : block.last[step]]
        level = older = samples[0]
        slope = samples[1] - samples[0]
        for position in range(1, len(samples)):
            before = level
            if position > 1:
                slope = trend[step] * (level - older) + (1 - trend[step]) * slope
            level = smoothing[step] * samples[position] + (1 - smoothing[step]) * (level + slope)
            older = before
        result[step] = level
    return result, block.counts >= 2
