"""Synthetic arrivals that are fitted to a trace: its rate, the variation of its gaps, and its course over time.

``poisson`` keeps the rate; ``gamma`` and ``weibull`` the variation of gaps as well; ``diurnal`` the course of the rate
over time too, with gamma gaps inside it, which is what makes counts over minutes as uneven as they were.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import gammaln

from planner.errors import WorkloadError
from planner.traces.profile import Counts
from planner.traces.trace import IntArray, Quality, Trace

FloatArray = npt.NDArray[np.float64]
PATTERNS = ("poisson", "gamma", "weibull", "diurnal")
LOWEST_CV, HIGHEST_CV = 0.01, 30.0
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How requests arrive.

    ``cv`` is the coefficient of variation of gaps, taken in operational time (rate removed) where there is a profile.
    ``profile`` is (bins,) rates relative to the mean over ``bin_s`` seconds each, None where the rate is steady.
    ``dispersion`` is the variance over mean of counts in 1, 10 and 60 s of what was fitted.
    """

    pattern: str
    rate_per_s: float
    cv: float = 1.0
    bin_s: float = 0.0
    profile: FloatArray | None = None
    dispersion: tuple[float, ...] = ()


def parse_arrivals(text: str) -> tuple[str, float | None, float | None]:
    """``gamma``, ``gamma:5`` (per second) or ``gamma:5:2.5`` (and variation) to its parts. Raises WorkloadError."""
    pattern, *numbers = text.split(":")
    try:
        rate, cv = (*(float(one) for one in numbers), None, None)[:2]
        if pattern not in PATTERNS or len(numbers) > 2 or not all(0 < float(one) < 1e9 for one in numbers):
            raise ValueError
    except ValueError:
        raise WorkloadError(
            f"arrivals {text!r}: must be {', '.join(PATTERNS)}, with :RATE per second and :CV if they are not fitted"
        ) from None
    return pattern, rate, cv


def fit(trace: Trace, pattern: str, rate_per_s: float | None = None, cv: float | None = None) -> Arrivals:
    """Arrivals like those of a trace; ``rate_per_s`` and ``cv`` replace what would be fitted.

    Raises WorkloadError when the trace has no arrivals to fit and something must be fitted.
    """
    untimed = "arrival times" in trace.absent or trace.duration_s <= 0
    if untimed:
        if rate_per_s is None or pattern == "diurnal" or (cv is None and pattern != "poisson"):
            raise WorkloadError(
                f"arrivals {pattern}: {trace.header.source} has no arrival times to fit; "
                "name them, such as poisson:5 or gamma:5:2"
            )
        return Arrivals(pattern, rate_per_s, cv or 1.0)
    rate = (len(trace) - 1) / trace.duration_s
    seconds = Counts()
    seconds.add((trace.arrival_ns - trace.arrival_ns[0]) // _NS)
    dispersion = tuple(seconds.dispersion(bin_s) for bin_s in (1, 10, 60) if trace.duration_s >= bin_s)
    gaps = np.diff(trace.arrival_ns) / _NS
    bin_s, profile = 0.0, None
    if pattern == "diurnal":
        bin_s, profile = _profile(trace)
        gaps = np.diff(_operational(trace.arrival_ns - trace.arrival_ns[0], bin_s, profile))
    found = float(gaps.std() / gaps.mean()) if gaps.mean() > 0 else 1.0
    found = 1.0 if pattern == "poisson" else found
    return Arrivals(pattern, rate_per_s or rate, cv or found, bin_s, profile, dispersion)


def draw(arrivals: Arrivals, count: int, seed: int = 0) -> IntArray:
    """(count,) arrivals in ns from 0. Raises WorkloadError for a variation that no such gaps have."""
    generator = np.random.default_rng([seed, 0xA441])
    operational = np.cumsum(_unit_gaps(arrivals, count, generator)) / arrivals.rate_per_s
    if arrivals.profile is None:
        return np.rint(operational * _NS).astype(np.int64)
    reach = np.concatenate([[0.0], np.cumsum(arrivals.profile)]) * arrivals.bin_s
    lap, within = np.divmod(operational, reach[-1])
    edges = np.arange(len(reach)) * arrivals.bin_s
    seconds: FloatArray = lap * edges[-1] + np.interp(within, reach, edges)
    return np.rint(seconds * _NS).astype(np.int64)


def synthesise(trace: Trace, arrivals: Arrivals, count: int | None = None, seed: int = 0) -> Trace:
    """``count`` requests (as many as the trace has) with synthetic arrivals; the rest of each request is the trace's.

    More requests than the trace has are drawn from it with return, lengths of one request together.
    """
    rows = len(trace)
    wanted = rows if count is None else count
    if wanted < 1:
        raise WorkloadError(f"arrivals: {wanted} requests; at least 1 is needed")
    index = np.arange(rows)
    if wanted != rows:
        index = np.random.default_rng([seed, 0x70D4]).integers(0, rows, wanted)
    note = {"pattern": arrivals.pattern, "rate_per_s": arrivals.rate_per_s, "cv": arrivals.cv, "seed": seed}
    made = trace.take_rows(index, name="arrivals", **note)
    return replace(
        made,
        arrival_ns=draw(arrivals, wanted, seed),
        arrival_quality=np.full(wanted, Quality.SYNTHETIC, dtype=np.uint8),
        row_id=np.arange(wanted, dtype=np.int64),
        missing={name: mask for name, mask in made.missing.items() if name != "arrival_ns"},
    )


def _unit_gaps(arrivals: Arrivals, count: int, generator: np.random.Generator) -> FloatArray:
    """Gaps of mean 1 with the pattern's variation."""
    if arrivals.pattern == "poisson":
        return generator.exponential(1.0, count)
    if not LOWEST_CV <= arrivals.cv <= HIGHEST_CV:
        raise WorkloadError(f"arrivals: variation {arrivals.cv:g} of gaps; must be {LOWEST_CV:g} to {HIGHEST_CV:g}")
    if arrivals.pattern == "weibull":
        shape = weibull_shape(arrivals.cv)
        return generator.weibull(shape, count) / float(np.exp(gammaln(1 + 1 / shape)))
    shape = 1 / arrivals.cv**2
    return generator.gamma(shape, 1 / shape, count)


def weibull_shape(cv: float) -> float:
    """Shape of the Weibull distribution with this coefficient of variation."""

    def excess(shape: float) -> float:
        return float(np.exp(gammaln(1 + 2 / shape) - 2 * gammaln(1 + 1 / shape)) - 1 - cv**2)

    return float(brentq(excess, 0.08, 200.0))


def _profile(trace: Trace) -> tuple[float, FloatArray]:
    """(seconds of a bin, rates by bin relative to the mean): bins of at least a minute and about 50 requests."""
    duration = trace.duration_s
    bins = max(1, min(int(duration // 60), len(trace) // 50, 24 * 60))
    bin_s = duration / bins * (1 + 1e-12)
    where = np.minimum(((trace.arrival_ns - trace.arrival_ns[0]) / _NS / bin_s).astype(np.int64), bins - 1)
    counts = np.bincount(where, minlength=bins).astype(np.float64)
    return bin_s, counts / counts.mean()


def _operational(offset_ns: IntArray, bin_s: float, profile: FloatArray) -> FloatArray:
    """Arrivals in the time in which the rate is steady."""
    edges = np.arange(len(profile) + 1) * bin_s
    return np.interp(offset_ns / _NS, edges, np.concatenate([[0.0], np.cumsum(profile)]) * bin_s)
