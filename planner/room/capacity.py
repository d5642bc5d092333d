"""The highest rate that a fleet sustains under its promise, found by simulation, with an interval.

The trace is played faster or slower (lengths and burstiness kept) until the promise just holds. Each seed plays its
own order of the trace and its own step noise, the same at every rate (common random numbers); the seeds' answers make
the interval of the search. How far the calibration may be off is searched for too: once for each of some models as
other evidence of the same engine might have given them, all under the random numbers of one seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

from planner.errors import CapacityError
from planner.room.means import MeanFigure, mean_figure
from planner.room.verdict import WARM_UP_RATIO, Verdict, judge
from planner.sim import Twin, play
from planner.slo import Slo
from planner.traces.trace import Trace
from planner.traces.workload import loop, speed, stats, take

MIN_REQUESTS = 3000
SEEDS = 4
MOST_SEEDS = 12
PRECISE_REQUESTS = 10_000  # shorter runs are too kind by up to a fifth: queues never fill
TOLERANCE = 0.01
CONFIDENCE = 0.95
LIKELY = 0.9
DRAWS = 9
"""Models as they might have been calibrated that are searched for the likely range,"""

DRAW_REQUESTS = 1000
"""on so many requests, the same for all: only how far they are from each other counts."""

_WIDE, _NARROW = 1.25, 1.03  # first step of a search from a rough guess, and from another seed's answer
_INTERPOLATED = 1.04  # rates so close together that what is used of the limit is a straight line between them
_LARGEST_SPAN = 24

FloatArray = npt.NDArray[np.float64]
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Point:
    """One simulated load: requests per second of the whole fleet and how it went."""

    requests_per_s: float
    seed: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Capacity:
    """Highest sustainable rate of a fleet, requests per second: mean over seeds and its confidence interval.

    ``low``/``high`` are None with one seed. ``likely_low``/``likely_high`` hold the real fleet's highest rate with 90%:
    the search's spread and that of the calibration, whose half-width alone is ``calibration_ratio`` of the rate (None
    where the model does not say). ``speed`` is the factor on the trace's own rate. ``bound_by`` names what breaks just
    above. ``points`` are all loads that were simulated, by rate. ``looped`` tells that the trace was repeated to have
    enough requests. ``mean_based`` is what sizing on means would say for the whole fleet.
    """

    replicas: int
    requests_per_s: float
    low: float | None
    high: float | None
    per_seed: tuple[float, ...]
    speed: float
    bound_by: str
    points: tuple[Point, ...]
    requests: int
    looped: bool
    mean_based: float | None
    mean_based_optimism_ratio: float | None
    outside_ratio: float
    likely_low: float | None = None
    likely_high: float | None = None
    calibration_ratio: float | None = None


def find_capacity(
    trace: Trace,
    twin: Twin,
    slo: Slo,
    *,
    requests: int = MIN_REQUESTS,
    seeds: int = SEEDS,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    precision: float | None = None,
    note: Note | None = None,
) -> Capacity:
    """Bisect the speed of ``trace`` for the highest rate at which ``twin`` keeps ``slo``.

    ``requests`` is the least number played per simulation; a shorter trace is repeated. With ``precision`` (a ratio),
    at least 10,000 are played, and seeds are added, up to 12, until the interval's half-width is no more than that.
    ``note`` is told the progress. Raises CapacityError when the promise breaks at any rate, or cannot be broken.
    """
    rate = stats(trace).mean_per_s
    means = mean_figure(trace, twin.model, twin.scheduler, slo)
    guess = means.requests_per_s * twin.replicas * 0.8 if means is not None else rate
    points: list[Point] = []
    answers: list[float] = []
    broken: list[Verdict] = []
    if precision is not None:
        requests = max(requests, PRECISE_REQUESTS)
    while len(answers) < seeds or (_too_wide(answers, precision) and len(answers) < MOST_SEEDS):
        index = len(answers)
        played = workload(trace, requests, seed + index)
        search = _Search(played, twin, slo, seed + index, points)
        low, high_verdict = search.bisect(guess, tolerance, _NARROW if answers else _WIDE)
        answers.append(low)
        broken.append(high_verdict)
        guess = float(np.mean(answers))
        if note is not None:
            note(f"seed {index + 1}: {low:.4g} requests/s, then {high_verdict.bound_by} breaks")
    mean = float(np.mean(answers))
    spread, calibration, likely = _half_width(answers), None, None
    if spread is not None:
        calibration = _calibration_deviation(trace, twin, slo, mean, min(requests, DRAW_REQUESTS), seed)
        likely = _likely_width(np.array(answers) / mean, calibration or 0.0)
    mean_based = means.requests_per_s * twin.replicas if means is not None else None
    return Capacity(
        replicas=twin.replicas,
        requests_per_s=mean,
        low=None if spread is None else max(mean - spread, 0.0),
        high=None if spread is None else mean + spread,
        per_seed=tuple(answers),
        speed=mean / rate,
        bound_by=_most_common([verdict.bound_by for verdict in broken]),
        points=tuple(sorted(points, key=lambda point: point.requests_per_s)),
        requests=max(requests, len(trace)),
        looped=len(trace) < requests,
        mean_based=mean_based,
        mean_based_optimism_ratio=mean_based / mean - 1 if mean_based is not None and mean > 0 else None,
        outside_ratio=max(verdict.outside_ratio for verdict in broken),
        likely_low=None if likely is None else mean * float(np.exp(-likely)),
        likely_high=None if likely is None else mean * float(np.exp(likely)),
        calibration_ratio=None if calibration is None else calibration * float(ndtri(0.5 + LIKELY / 2)),
    )


def _calibration_deviation(trace: Trace, twin: Twin, slo: Slo, guess: float, requests: int, seed: int) -> float | None:
    """Standard deviation of the logarithm of the rate by what the calibration leaves open; None where it is unknown.

    The model and each of its draws are searched on the same requests with the same random numbers. The draws spread as
    Student's t already.
    """
    if not twin.drawn:
        return None
    played = workload(take(trace, requests), requests, seed)

    def answer(fleet: Twin, near: float) -> float:
        return _Search(played, fleet, slo, seed, []).bisect(near, TOLERANCE, _NARROW)[0]

    base = answer(twin, guess)
    found = [answer(replace(twin, model=model), base) for model in twin.drawn[:DRAWS]]
    return float(np.sqrt(np.mean(np.log(np.array(found) / base) ** 2)))


def _likely_width(answers: FloatArray, calibration: float) -> float:
    """Half of the 90% interval of seeds' answers and ``calibration`` together (Welch and Satterthwaite, 1946)."""
    seeds = float(np.var(answers, ddof=1)) / len(answers)
    whole = seeds + calibration**2
    parts = seeds**2 / (len(answers) - 1) + calibration**4 / DRAWS
    freedom = whole**2 / parts if parts else 1e6
    return float(stdtrit(freedom, 0.5 + LIKELY / 2) * np.sqrt(whole))


def search(trace: Trace, twin: Twin, slo: Slo, *, guess: float, seed: int, tolerance: float) -> Capacity:
    """One search on a trace as it stands, for answers in a second: no repeats, no interval.

    Raises CapacityError as ``find_capacity`` does.
    """
    points: list[Point] = []
    low, broken = _Search(trace, twin, slo, seed, points).bisect(guess, tolerance)
    return Capacity(
        replicas=twin.replicas,
        requests_per_s=low,
        low=None,
        high=None,
        per_seed=(low,),
        speed=low / stats(trace).mean_per_s,
        bound_by=broken.bound_by,
        points=tuple(sorted(points, key=lambda point: point.requests_per_s)),
        requests=len(trace),
        looped=False,
        mean_based=None,
        mean_based_optimism_ratio=None,
        outside_ratio=broken.outside_ratio,
    )


def holds_at(trace: Trace, twin: Twin, slo: Slo, requests_per_s: float, *, requests: int, seed: int = 0) -> Verdict:
    """How the fleet does at one rate of the trace's shape."""
    return _Search(workload(trace, requests, seed), twin, slo, seed, []).at(requests_per_s)


def at_rate(trace: Trace, requests_per_s: float, requests: int, seed: int = 0) -> Trace:
    """The trace, repeated to at least ``requests``, at another rate."""
    played = workload(trace, requests, seed)
    return speed(played, requests_per_s / stats(played).mean_per_s)


def workload(trace: Trace, requests: int, seed: int) -> Trace:
    """The trace, repeated to at least ``requests``; with a seed above 0 its first lap too is in another order."""
    if seed == 0 and len(trace) >= requests:
        return trace
    count = max(requests, len(trace))
    if seed == 0:
        return loop(trace, count, seed)
    shuffled = loop(trace, len(trace) + count, seed)
    rows = np.arange(len(trace), len(trace) + count)
    lap = shuffled.take_rows(rows, name="lap", seed=seed)
    return replace(lap, arrival_ns=lap.arrival_ns - lap.arrival_ns[0], row_id=np.arange(count, dtype=np.int64))


class _Search:
    """Bisection for one seed."""

    def __init__(self, trace: Trace, twin: Twin, slo: Slo, seed: int, points: list[Point]) -> None:
        self._trace = trace
        self._twin = twin
        self._slo = slo
        self._seed = seed
        self._points = points
        self._rate = stats(trace).mean_per_s

    def at(self, requests_per_s: float) -> Verdict:
        """Simulate one rate."""
        shaped = speed(self._trace, requests_per_s / self._rate)
        played = play(shaped, self._twin, seed=self._seed, warm_up_ratio=WARM_UP_RATIO)
        verdict = judge(played, shaped.output_tokens, self._slo)
        self._points.append(Point(requests_per_s, self._seed, verdict))
        return verdict

    def bisect(self, guess: float, tolerance: float, step: float = _WIDE) -> tuple[float, Verdict]:
        """(highest rate that holds, how the lowest that broke went).

        Once two rates around it are close, it is read off the line between what each uses of the limit; where that
        cannot be, the rates are at most ``tolerance`` apart.
        """
        low, high, kept, broken = self._bracket(guess, step)
        while high / low > 1 + tolerance:
            if high / low <= _INTERPOLATED and 0.05 < kept.use_ratio < 1 < broken.use_ratio < 20:
                share = np.log(kept.use_ratio) / np.log(kept.use_ratio / broken.use_ratio)
                return float(low * (high / low) ** share), broken
            middle = float(np.sqrt(low * high))
            verdict = self.at(middle)
            if verdict.kept:
                low, kept = middle, verdict
            else:
                high, broken = middle, verdict
        return low, broken

    def _bracket(self, guess: float, step: float) -> tuple[float, float, Verdict, Verdict]:
        verdict = self.at(guess)
        if verdict.kept:
            low = guess
            for _ in range(_LARGEST_SPAN):
                kept, verdict = verdict, self.at(low * step)
                if not verdict.kept:
                    return low, low * step, kept, verdict
                low *= step
                step = min(step * step, _WIDE)
            raise CapacityError(
                f"the promise holds even at {low:.4g} requests/s: the step-time model shows no cost of more load"
            )
        high, broken = guess, verdict
        for attempt in range(_LARGEST_SPAN):
            low = high / (step if attempt < 3 else 2)
            verdict = self.at(low)
            if verdict.kept:
                return low, high, verdict, broken
            high, broken = low, verdict
            step = min(step * step, _WIDE)
        raise CapacityError(self._never(broken))

    def _never(self, verdict: Verdict) -> str:
        worst = max(verdict.checks, key=lambda check: (not check.kept and check.name != "Goodput", check.use_ratio))
        found = "requests that never end" if worst.value is None else f"{worst.value:.4g}"
        return f"the promise breaks at any rate: {worst.name} is {found}, its limit {worst.limit:.4g}"


def _half_width(answers: Sequence[float]) -> float | None:
    if len(answers) < 2:
        return None
    deviation = float(np.std(answers, ddof=1)) / len(answers) ** 0.5
    return float(deviation * stdtrit(len(answers) - 1, 0.5 + CONFIDENCE / 2))


def _too_wide(answers: Sequence[float], precision: float | None) -> bool:
    spread = _half_width(answers)
    return precision is not None and (spread is None or spread > precision * float(np.mean(answers)))


def _most_common(names: Sequence[str]) -> str:
    return max(dict.fromkeys(names), key=list(names).count)


__all__ = ["Capacity", "MeanFigure", "Point", "at_rate", "find_capacity", "holds_at", "search", "workload"]
