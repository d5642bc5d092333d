"""Whether a simulated load keeps the promise, and what breaks first when it does not."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.sim import Played
from planner.slo import Slo

FloatArray = npt.NDArray[np.float64]

WARM_UP_RATIO = 0.1
COOL_DOWN_RATIO = 0.05
KV_FULL_RATIO = 0.97


@dataclass(frozen=True, slots=True)
class Check:
    """One clause of the promise: its limit, what was found, and by how much the limit is used (above 1: broken).

    ``value`` is None when nothing was there to measure.
    """

    name: str
    limit: float
    value: float | None
    use_ratio: float

    @property
    def kept(self) -> bool:
        """Whether the clause holds."""
        return self.use_ratio <= 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """All clauses at one load; ``kv_peak_ratio`` and ``preemptions`` tell whether the KV cache was the limit."""

    checks: tuple[Check, ...]
    kv_peak_ratio: float
    preemptions: int
    outside_ratio: float

    @property
    def kept(self) -> bool:
        """Whether the whole promise holds."""
        return all(check.kept for check in self.checks)

    @property
    def use_ratio(self) -> float:
        """By how much the clause that uses most of its limit uses it; above 1 the promise is broken."""
        return max(check.use_ratio for check in self.checks)

    @property
    def bound_by(self) -> str:
        """The latency clause that uses most of its limit; "KV cache" when the cache was full meanwhile."""
        if self.kv_peak_ratio >= KV_FULL_RATIO:
            return "KV cache"
        return max(self.checks, key=lambda check: check.use_ratio if check.name != "Goodput" else 0.0).name

    def value(self, name: str) -> float | None:
        """What was found for a clause."""
        return next(check.value for check in self.checks if check.name == name)


def judge(played: Played, output_tokens: npt.NDArray[np.int64], slo: Slo) -> Verdict:
    """Hold a simulation against a promise.

    The first 10% and last 5% of the requests are left out: the fleet fills up and drains there. Percentiles are taken
    over all others (for gaps, ``play`` was told to leave them out); a request that never ended counts as late without
    bound, and against success and goodput.
    """
    rows = len(played.due_s)
    cut = slice(int(rows * WARM_UP_RATIO), rows - int(rows * COOL_DOWN_RATIO))
    ended = ~np.isnan(played.last_token_s[cut])
    ttft = np.where(ended, played.first_token_s[cut] - played.due_s[cut], np.inf)
    e2e = np.where(ended, played.last_token_s[cut] - played.due_s[cut], np.inf)
    good = met(played, output_tokens, slo)[cut]
    checks = (
        _at_most("TTFT p95", slo.ttft_p95_s, float(np.quantile(ttft, 0.95, method="higher"))),
        _at_most("ITL p95", slo.itl_p95_s, weighted_quantile(*played.gaps(), 0.95)),
        _at_most("E2E p95", slo.e2e_p95_s, float(np.quantile(e2e, 0.95, method="higher"))),
        _at_least("Success", slo.success_ratio, float(ended.mean())),
        _at_least("Goodput", slo.goodput_ratio, float(good.mean())),
    )
    return Verdict(
        checks=checks,
        kv_peak_ratio=max(log.kv_peak_ratio for log in played.logs),
        preemptions=int(played.preemptions.sum()),
        outside_ratio=played.outside_ratio,
    )


def met(played: Played, output_tokens: npt.NDArray[np.int64], slo: Slo) -> npt.NDArray[np.bool_]:
    """Whether each request, (rows,), ended within every latency of the promise."""
    first, last, due = played.first_token_s, played.last_token_s, played.due_s
    with np.errstate(divide="ignore", invalid="ignore"):
        tpot = np.where(output_tokens > 1, (last - first) / (output_tokens - 1), 0.0)
        good = (first - due <= slo.ttft_p95_s) & (tpot <= slo.itl_p95_s) & (last - due <= slo.e2e_p95_s)
    return np.asarray(good & ~np.isnan(last))


def weighted_quantile(values: FloatArray, weights: FloatArray, q: float) -> float | None:
    """Smallest value below or at which a share ``q`` of the weight lies; None without weight."""
    if not len(values) or not weights.sum():
        return None
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][min(int(np.searchsorted(reached, q * reached[-1])), len(values) - 1)])


def _at_most(name: str, limit: float, value: float | None) -> Check:
    if value is None:
        return Check(name, limit, None, 0.0)
    return Check(name, limit, value if np.isfinite(value) else None, value / limit)


def _at_least(name: str, limit: float, value: float) -> Check:
    """Use of an allowance for misses: shares missed over shares that may be missed."""
    allowed, missed = 1.0 - limit, 1.0 - value
    if missed <= 1e-12:
        return Check(name, limit, value, 0.0)
    return Check(name, limit, value, missed / allowed if allowed > 0 else float("inf"))
