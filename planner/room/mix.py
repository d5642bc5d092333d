"""A load of the same request mix as a running service, drawn from its length histograms.

Prompt and output lengths are drawn independently and arrivals are Poisson: histograms say no more than that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from planner.traces.trace import Ragged, Trace, from_lengths
from probe_engine.sched import SchedulerConfig

FloatArray = npt.NDArray[np.float64]
_STREAM = 0x313


@dataclass(frozen=True, slots=True)
class LengthHistogram:
    """Upper bounds of buckets (the last may be infinite), the weight in each, and the mean where it is known."""

    bounds: FloatArray
    weights: FloatArray
    mean: float | None

    @classmethod
    def from_cumulative(cls, bounds: Sequence[float], counts: Sequence[float], mean: float | None) -> "LengthHistogram":
        """From Prometheus's cumulative buckets in any order."""
        order = np.argsort(bounds)
        upper = np.asarray(bounds, dtype=np.float64)[order]
        weights = np.diff(np.asarray(counts, dtype=np.float64)[order], prepend=0.0)
        return cls(upper, np.maximum(weights, 0.0), mean if mean is not None and np.isfinite(mean) else None)

    def draw(self, count: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """``count`` lengths, at least 1: evenly inside each bucket, then scaled so that the mean is the known one.

        Beyond the last finite bound a length is taken to be up to twice it.
        """
        upper = np.where(np.isfinite(self.bounds), self.bounds, 2 * _last_finite(self.bounds))
        lower = np.concatenate([[0.0], upper[:-1]])
        chosen = generator.choice(len(upper), size=count, p=self.weights / self.weights.sum())
        lengths = lower[chosen] + (upper[chosen] - lower[chosen]) * generator.random(count)
        if self.mean is not None and lengths.mean() > 0:
            lengths *= self.mean / lengths.mean()
        whole: npt.NDArray[np.int64] = np.maximum(np.rint(lengths), 1).astype(np.int64)
        return whole


@dataclass(frozen=True, slots=True)
class Mix:
    """What a service is asked: lengths of prompts and outputs, and the share of prompt tokens found in the cache."""

    prompts: LengthHistogram
    outputs: LengthHistogram
    cached_ratio: float = 0.0

    def trace(self, requests: int, rate_per_s: float, config: SchedulerConfig, seed: int) -> Trace:
        """``requests`` of this mix at ``rate_per_s``, none longer than the engine takes.

        Cached tokens are the same for all: every prompt begins with the blocks of one common prefix.
        """
        generator = np.random.default_rng([seed, _STREAM])
        longest = min(config.max_model_len, (config.num_blocks - 1) * config.block_size)
        arrival_s = np.cumsum(generator.exponential(1 / rate_per_s, requests))
        output = np.minimum(self.outputs.draw(requests, generator), max(longest // 2, 1))
        prompt = np.maximum(np.minimum(self.prompts.draw(requests, generator), longest - output), 1)
        trace = from_lengths(arrival_s, prompt, output, source="live mix")
        if self.cached_ratio <= 0 or not config.prefix_cache:
            return trace
        blocks = (trace.input_tokens * self.cached_ratio // config.block_size).astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(blocks)])
        common = Ragged(np.concatenate([np.arange(count, dtype=np.uint64) for count in blocks]), offsets)
        sizes = np.full(requests, config.block_size, dtype=np.int64)
        return replace(trace, columns={"prefix_hashes": common, "block_tokens": sizes})


def _last_finite(bounds: FloatArray) -> float:
    finite = bounds[np.isfinite(bounds)]
    return float(finite[-1]) if len(finite) else 1.0
