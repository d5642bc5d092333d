"""Seeded workloads of few parameters, for measurements that need many different ones."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from planner.traces.trace import Ragged, Trace, from_lengths

BLOCK_TOKENS = 16
FAMILIES = 4


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests for ``seconds``: rate, burstiness, lengths and shared prefixes.

    Gaps between arrivals are gamma of coefficient of variation ``gap_cv`` (1 is Poisson). Prompts and outputs are
    lognormal of these means and coefficients of variation. A share ``shared_ratio`` of the requests begins with the
    ``shared_tokens`` of one of four common prefixes.
    """

    name: str
    per_s: float
    seconds: float
    prompt: float = 128.0
    prompt_cv: float = 0.8
    output: float = 32.0
    output_cv: float = 0.8
    gap_cv: float = 1.0
    shared_ratio: float = 0.0
    shared_tokens: int = 192
    most_tokens: int = 1024

    def trace(self, seed: int) -> Trace:
        """The requests, the same for the same seed."""
        draw = np.random.default_rng(seed)
        count = max(int(self.per_s * self.seconds), 2)
        shape = self.gap_cv**-2
        gaps = draw.gamma(shape, 1.0 / (self.per_s * shape), count)
        prompts = _lengths(draw, self.prompt, self.prompt_cv, count, self.most_tokens // 2)
        outputs = _lengths(draw, self.output, self.output_cv, count, self.most_tokens // 2)
        shares = draw.random(count) < self.shared_ratio
        families = draw.integers(0, FAMILIES, count)
        prompts = np.where(shares, np.minimum(prompts + self.shared_tokens, self.most_tokens // 2), prompts)
        made = from_lengths(np.cumsum(gaps), prompts, outputs, source=self.name)
        if not shares.any():
            return made
        blocks = np.where(shares, np.minimum(self.shared_tokens, prompts) // BLOCK_TOKENS, 0)
        return replace(
            made,
            columns={
                "prefix_hashes": _prefixes(families, blocks),
                "block_tokens": np.full(count, BLOCK_TOKENS, dtype=np.int64),
            },
        )


def _lengths(draw: np.random.Generator, mean: float, cv: float, count: int, most: int) -> npt.NDArray[np.int64]:
    variance = np.log1p(cv**2)
    drawn = draw.lognormal(np.log(mean) - variance / 2, np.sqrt(variance), count)
    return np.clip(np.rint(drawn), 1, most).astype(np.int64)


def _prefixes(families: npt.NDArray[np.int64], blocks: npt.NDArray[np.int64]) -> Ragged:
    """Block ids of each request's prefix: those of its family, in order."""
    offsets = np.concatenate([[0], np.cumsum(blocks)])
    rows = [family * 100_000 + np.arange(count) for family, count in zip(families, blocks, strict=True)]
    return Ragged(np.concatenate(rows).astype(np.uint64), offsets)
