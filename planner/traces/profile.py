"""What a trace asks of a server, worked out piece by piece: rates, burstiness, lengths, what prompts share.

Every figure is exact but the percentiles of gaps of a trace of more than a million requests, which are then read
from classes 0.1% wide. Memory grows with distinct lengths, busy seconds and distinct blocks, not with requests.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from planner.errors import WorkloadError
from planner.traces.prefixes import Prefixes, PrefixStats
from planner.traces.trace import BoolArray, Flag, IntArray, Quality, Ragged, Trace

FloatArray = npt.NDArray[np.float64]
_NS = 1_000_000_000
EXACT_GAPS = 1_000_000
_CLASS = np.log(1.001)


@dataclass(frozen=True, slots=True)
class LengthStats:
    """Token counts of one side of the requests; ``told`` is of how many the source says them, 0 makes all others 0."""

    mean: float
    p50: float
    p90: float
    p99: float
    min: int
    max: int
    zero: int
    sum: int
    told: int


@dataclass(frozen=True, slots=True)
class GapStats:
    """Seconds between arrivals; ``exact`` is whether the percentiles are, or read from classes 0.1% wide."""

    p50_s: float
    p99_s: float
    max_s: float
    exact: bool = True


@dataclass(frozen=True, slots=True)
class WorkloadStats:
    """What a trace asks: rates, burstiness and lengths; None where the source does not say.

    Peaks are the fullest 1 s and 60 s bins aligned to the first arrival, as rates. ``gap_cv`` is the population
    coefficient of variation of inter-arrival times; ``tie_ratio`` the share of gaps of zero; ``ticks`` the distinct
    moments and ``tick_s`` the gap between those, where arrivals are quantised; ``dispersion`` the variance over mean of
    counts in bins of so many seconds. ``unsorted_pairs`` are neighbours in the file of which the second came earlier,
    ``repeated`` requests that equal an earlier one in arrival and lengths.
    """

    rows: int
    duration_s: float
    first_s: float
    mean_per_s: float
    peak_1s_per_s: float
    peak_60s_per_s: float
    gap_cv: float | None
    tie_ratio: float
    dispersion_1s: float
    input_tokens: LengthStats
    output_tokens: LengthStats
    prefix_hashes: bool
    gaps: GapStats | None = None
    ticks: int = 0
    tick_s: float | None = None
    dispersion: dict[str, float] = field(default_factory=dict)
    prefix: PrefixStats | None = None
    sessions: int = 0
    turns_mean: float | None = None
    turns_max: int = 0
    unsorted_pairs: int = 0
    repeated: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    qualities: dict[str, int] = field(default_factory=dict)
    flagged: dict[str, int] = field(default_factory=dict)
    models: dict[str, int] = field(default_factory=dict)
    tenants: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)


class Counts:
    """How often each whole number was seen; cheapest where they come in ascending order."""

    def __init__(self) -> None:
        self._values: list[IntArray] = []
        self._counts: list[IntArray] = []

    @property
    def values(self) -> IntArray:
        """The distinct numbers, ascending."""
        self._values = [np.concatenate(self._values)] if self._values else [np.zeros(0, dtype=np.int64)]
        return self._values[0]

    @property
    def counts(self) -> IntArray:
        """How often each of ``values`` was seen."""
        self._counts = [np.concatenate(self._counts)] if self._counts else [np.zeros(0, dtype=np.int64)]
        return self._counts[0]

    def add(self, seen: IntArray) -> None:
        """Take more numbers in."""
        values, counts = np.unique(seen, return_counts=True)
        if len(values) and self._values and len(self._values[-1]) and values[0] == self._values[-1][-1]:
            self._counts[-1][-1] += counts[0]
            values, counts = values[1:], counts[1:]
        if not len(values):
            return
        if self._values and len(self._values[-1]) and values[0] < self._values[-1][-1]:
            every, weights = np.append(self.values, values), np.append(self.counts, counts)
            values, where = np.unique(every, return_inverse=True)
            counts = np.bincount(where, weights).astype(np.int64)
            self._values, self._counts = [], []
        self._values.append(values)
        self._counts.append(counts)

    @property
    def total(self) -> int:
        """How many were seen in all."""
        return int(self.counts.sum())

    def percentile(self, percent: float) -> float:
        """With linear interpolation between neighbours."""
        place = (self.total - 1) * percent / 100
        below = int(place)
        reach = np.cumsum(self.counts)
        low, high = (int(self.values[np.searchsorted(reach, rank, "right")]) for rank in (below, -(-place // 1)))
        part = place - below
        return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)

    def stats(self) -> LengthStats:
        """The numbers as token counts."""
        if not len(self.values):
            return LengthStats(0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0, 0)
        total = sum(int(v) * int(c) for v, c in zip(self.values.tolist(), self.counts.tolist(), strict=True))
        zero = int(self.counts[0]) if self.values[0] == 0 else 0
        p50, p90, p99 = (self.percentile(q) for q in (50, 90, 99))
        low, high = int(self.values[0]), int(self.values[-1])
        return LengthStats(total / self.total, p50, p90, p99, low, high, zero, total, self.total)

    def dispersion(self, bin_s: int) -> float:
        """Variance over mean of counts in bins of ``bin_s``; the values are seconds from the first arrival."""
        bins = int(self.values[-1] // bin_s) + 1
        mean = self.total / bins
        return float((self._binned(bin_s).astype(np.float64) ** 2).sum() / bins - mean**2) / mean

    def peak(self, bin_s: int) -> int:
        """The fullest bin of ``bin_s``."""
        return int(self._binned(bin_s).max())

    def _binned(self, bin_s: int) -> IntArray:
        """Counts of the bins of ``bin_s`` that hold any."""
        first = np.flatnonzero(np.diff(self.values // bin_s, prepend=-1))
        found: IntArray = np.add.reduceat(self.counts, first)
        return found

    def spread(self, bin_s: float) -> FloatArray:
        """Counts of all bins of ``bin_s`` from 0 on, empty ones too."""
        bins = (self.values // bin_s).astype(np.int64)
        return np.bincount(bins, self.counts).astype(np.float64)


class Profiler:
    """Takes pieces of a trace, in order of arrival, and answers with its statistics."""

    def __init__(self) -> None:
        self.rows = 0
        self.seconds = Counts()
        self.input, self.output, self._pairs = Counts(), Counts(), Counts()
        self._first_ns = self._last_ns = 0
        self._gap_sum = self._gap_squares = self._gap_max = 0.0
        self._gaps: list[FloatArray] = []
        self._gap_classes = Counts()
        self._ties = self._unsorted = self._repeated = 0
        self._last_line = -1
        self._prefixes = Prefixes()
        self._turns: Counter[str] = Counter()
        self._named: dict[str, Counter[str]] = {name: Counter() for name in ("model", "tenant", "status")}
        self._missing: Counter[str] = Counter()
        self._qualities: Counter[str] = Counter()
        self._flagged: Counter[str] = Counter()

    def add(self, piece: Trace) -> "Profiler":
        """Take the next piece in."""
        if not len(piece):
            return self
        if "arrival_ns" not in piece.missing:
            self._arrivals(piece)
        else:
            self._pairs.add(piece.input_tokens << 31 | piece.output_tokens)
        self.input.add(piece.input_tokens[_told(piece, "input_tokens")])
        self.output.add(piece.output_tokens[_told(piece, "output_tokens")])
        self._prefixes.add(piece)
        self._words(piece)
        self.rows += len(piece)
        return self

    def _arrivals(self, piece: Trace) -> None:
        at = piece.arrival_ns
        if not self.rows:
            self._first_ns = int(at[0])
        gaps_ns = np.diff(at, prepend=at[0] if not self.rows else self._last_ns)[0 if self.rows else 1 :]
        self._last_ns = int(at[-1])
        gaps = gaps_ns / _NS
        self._gap_sum += float(gaps.sum())
        self._gap_squares += float((gaps**2).sum())
        self._gap_max = max(self._gap_max, float(gaps.max(initial=0.0)))
        self._ties += int((gaps_ns == 0).sum())
        self.seconds.add((at - self._first_ns) // _NS)
        self._keep_gaps(gaps)
        order = np.argsort(piece.row_id, kind="stable")
        self._unsorted += int((np.diff(at[order]) < 0).sum())
        self._repeated += int(((piece.flags & np.uint32(Flag.DUPLICATE)) != 0).sum())

    def _keep_gaps(self, gaps: FloatArray) -> None:
        if (
            self._gaps is not None
            and sum(map(len, self._gaps)) + len(gaps) <= EXACT_GAPS
            and not self._gap_classes.total
        ):
            self._gaps.append(gaps)
            return
        every = np.concatenate([*self._gaps, gaps])
        self._gaps.clear()
        self._gap_classes.add(
            np.where(every > 0, np.ceil(np.log(np.maximum(every, 1e-9)) / _CLASS), -(10**6)).astype(np.int64)
        )

    def _words(self, piece: Trace) -> None:
        for name, mask in piece.missing.items():
            self._missing[name] += int(mask.sum())
        for code, count in zip(*np.unique(piece.arrival_quality, return_counts=True), strict=True):
            self._qualities[Quality(int(code)).name.lower()] += int(count)
        for flag in Flag:
            if count := int(((piece.flags & np.uint32(flag)) != 0).sum()):
                self._flagged[str(flag.name).lower()] += count
        for name, counter in self._named.items():
            counter.update(_texts(piece, name))
        self._turns.update(_texts(piece, "session_id"))

    def result(self) -> WorkloadStats:
        """The statistics of all that was taken in. Raises WorkloadError when that is nothing."""
        if not self.rows:
            raise WorkloadError("the trace holds no request")
        timed = self.seconds.total > 0
        duration = (self._last_ns - self._first_ns) / _NS
        gaps = self.rows - 1
        mean_gap = self._gap_sum / gaps if gaps else 0.0
        spread = max(self._gap_squares / gaps - mean_gap**2, 0.0) ** 0.5 if gaps else 0.0
        ticks = self.rows - self._ties if timed else 0
        windows = [w for w in (1, 10, 60, 600, 3600) if timed and (w == 1 or duration >= w)]
        tie_ratio = self._ties / gaps if gaps and timed else 0.0
        sessions = list(self._turns.values())
        return WorkloadStats(
            rows=self.rows,
            duration_s=duration,
            first_s=self._first_ns / _NS,
            mean_per_s=self.rows / duration if duration > 0 else float(self.rows if timed else 0),
            peak_1s_per_s=float(self.seconds.peak(1)) if timed else 0.0,
            peak_60s_per_s=self.seconds.peak(60) / 60 if timed else 0.0,
            gap_cv=spread / mean_gap if mean_gap > 0 else None,
            tie_ratio=tie_ratio,
            dispersion_1s=self.seconds.dispersion(1) if timed else 0.0,
            input_tokens=self.input.stats(),
            output_tokens=self.output.stats(),
            prefix_hashes=self._prefixes.blocks > 0,
            gaps=self._gap_stats() if gaps and timed else None,
            ticks=ticks,
            tick_s=duration / (ticks - 1) if ticks > 1 and tie_ratio > 0.2 else None,
            dispersion={f"{w}s": self.seconds.dispersion(w) for w in windows},
            prefix=self._prefixes.result() if self._prefixes.blocks else None,
            sessions=len(sessions),
            turns_mean=sum(sessions) / len(sessions) if sessions else None,
            turns_max=max(sessions, default=0),
            unsorted_pairs=self._unsorted,
            repeated=self._repeated + self._pairs.total - len(self._pairs.values),
            missing=_most(self._missing),
            qualities=_most(self._qualities),
            flagged=_most(self._flagged),
            models=_most(self._named["model"]),
            tenants=_most(self._named["tenant"]),
            statuses=_most(self._named["status"]),
        )

    def _gap_stats(self) -> GapStats:
        if self._gap_classes.total:
            p50, p99 = (float(np.exp((self._gap_classes.percentile(q) - 0.5) * _CLASS)) for q in (50, 99))
            return GapStats(p50, p99, self._gap_max, exact=False)
        p50, p99 = (float(v) for v in np.percentile(np.concatenate(self._gaps), [50, 99]))
        return GapStats(p50, p99, self._gap_max)


def stats(trace: Trace) -> WorkloadStats:
    """Describe a whole trace. Raises WorkloadError when it is empty."""
    if not len(trace):
        raise WorkloadError(f"{trace.header.source}: holds no request")
    return Profiler().add(trace).result()


def _told(piece: Trace, name: str) -> BoolArray:
    return ~piece.missing[name] if name in piece.missing else np.ones(len(piece), dtype=np.bool_)


def _texts(piece: Trace, name: str) -> list[str]:
    column = piece.column(name)
    return (
        [] if column is None or isinstance(column, Ragged) else [text for text in column.tolist() if text is not None]
    )


def _most(counter: Counter[str]) -> dict[str, int]:
    return {name: count for name, count in counter.most_common(12) if count}
