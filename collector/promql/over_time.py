"""The ``*_over_time`` functions: one number from all samples of a window."""

from collections.abc import Callable, Iterator

import numpy as np

from collector.model.series import BoolArray, Float64Array
from collector.promql.quantiles import quantile_of_rows
from collector.promql.segments import mean_runs, reduce_runs, sum_runs
from collector.promql.windows import Block

Answer = tuple[Float64Array, BoolArray]


def slices(block: Block) -> Iterator[tuple[int, Float64Array]]:
    """Every step whose window has samples, with those samples: (samples in the window, series)."""
    for step in np.flatnonzero(block.counts):
        yield int(step), block.values[block.first[step] : block.last[step]]


def _each(block: Block, function: Callable[[Float64Array], Float64Array]) -> Answer:
    result = np.zeros((len(block.first), len(block.labels)))
    for step, samples in slices(block):
        result[step] = function(samples)
    return result, block.counts > 0


def _sum(block: Block) -> Answer:
    return sum_runs(block.values, block.first, block.last), block.counts > 0


def _avg(block: Block) -> Answer:
    counts = block.counts[:, None]
    return mean_runs(block.values, block.first, block.last, counts), block.counts > 0


def _count(block: Block) -> Answer:
    counts = np.broadcast_to(block.counts[:, None].astype(np.float64), (len(block.first), len(block.labels)))
    return counts, block.counts > 0


def _min(block: Block) -> Answer:
    return reduce_runs(np.fmin, block.values, block.first, block.last), block.counts > 0


def _max(block: Block) -> Answer:
    return reduce_runs(np.fmax, block.values, block.first, block.last), block.counts > 0


def _last(block: Block) -> Answer:
    return block.values[np.maximum(block.last - 1, 0)], block.counts > 0


def _first(block: Block) -> Answer:
    return block.values[np.minimum(block.first, len(block.values) - 1)], block.counts > 0


def _present(block: Block) -> Answer:
    return np.ones((len(block.first), len(block.labels))), block.counts > 0


def _variance(samples: Float64Array) -> Float64Array:
    shifted = samples - samples[0]
    deviation = shifted - shifted.mean(axis=0)
    variance: Float64Array = (deviation * deviation).mean(axis=0)
    return variance


def _median(samples: Float64Array) -> Float64Array:
    return quantile_of_rows(samples, np.ones(samples.shape, dtype=np.bool_), np.full(samples.shape[1], 0.5))


def _mad(samples: Float64Array) -> Float64Array:
    deviation = _median(np.abs(samples - _median(samples)))
    return np.where(np.isnan(samples).any(axis=0), np.nan, deviation)


def _time_of_first(block: Block) -> Answer:
    times_s = block.times_ms[np.minimum(block.first, len(block.values) - 1)] / 1000
    return np.repeat(times_s[:, None], len(block.labels), axis=1), block.counts > 0


def _time_of_last(block: Block) -> Answer:
    times_s = block.times_ms[np.maximum(block.last - 1, 0)] / 1000
    return np.repeat(times_s[:, None], len(block.labels), axis=1), block.counts > 0


def _time_of(block: Block, best: Callable[[Float64Array], Float64Array]) -> Answer:
    """Time of the last sample that equals the window's extreme; of the last one where all are NaN."""
    result = np.zeros((len(block.first), len(block.labels)))
    for step, samples in slices(block):
        hits = samples == best(samples)
        rows = len(samples) - 1 - np.argmax(hits[::-1], axis=0)
        result[step] = block.times_ms[block.first[step] + rows] / 1000
    return result, block.counts > 0


SIMPLE: dict[str, Callable[[Block], Answer]] = {
    "sum_over_time": _sum,
    "avg_over_time": _avg,
    "count_over_time": _count,
    "min_over_time": _min,
    "max_over_time": _max,
    "last_over_time": _last,
    "first_over_time": _first,
    "present_over_time": _present,
    "stdvar_over_time": lambda block: _each(block, _variance),
    "stddev_over_time": lambda block: _each(block, lambda samples: np.sqrt(_variance(samples))),
    "mad_over_time": lambda block: _each(block, _mad),
    "ts_of_first_over_time": _time_of_first,
    "ts_of_last_over_time": _time_of_last,
    "ts_of_max_over_time": lambda block: _time_of(block, lambda samples: np.fmax.reduce(samples, axis=0)),
    "ts_of_min_over_time": lambda block: _time_of(block, lambda samples: np.fmin.reduce(samples, axis=0)),
}
"""Functions of the window alone. The names of ``last_over_time`` and ``first_over_time`` stay; others lose them."""

KEEPS_NAME = frozenset({"last_over_time", "first_over_time"})


def quantile_over_time(block: Block, quantiles: Float64Array) -> Answer:
    """The ``quantiles[step]`` quantile of each window."""
    result = np.zeros((len(block.first), len(block.labels)))
    for step, samples in slices(block):
        wanted = np.full(samples.shape[1], quantiles[step])
        result[step] = quantile_of_rows(samples, np.ones(samples.shape, dtype=np.bool_), wanted)
    return result, block.counts > 0
