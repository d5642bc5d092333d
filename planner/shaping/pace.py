"""Change when requests arrive: play faster, scale the rate with bursts kept, spread what stands on one tick."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from planner.errors import WorkloadError
from planner.shaping.hashes import renamed
from planner.traces.trace import IntArray, Quality, Trace

_NS = 1_000_000_000
QUANTISED_TIES = 0.2


def speed(trace: Trace, factor: float) -> Trace:
    """Play ``factor`` times as fast: every arrival divided by it, to the nearest ns; lengths and order are kept."""
    if not (factor > 0 and np.isfinite(factor)):
        raise WorkloadError(f"speed {factor:g}: must be a number above 0")
    played = trace.take_rows(np.arange(len(trace)), name="speed", factor=factor)
    return replace(played, arrival_ns=np.rint(trace.arrival_ns / factor).astype(np.int64))


def scale_rate(trace: Trace, factor: float, seed: int = 0) -> Trace:
    """``factor`` times as many requests in the same time, bursts and daily course kept.

    Merging copies would smooth bursts and dropping single requests would thin them out. Here every stretch of time of
    about 50 requests (at least a minute) is played ``factor`` times as fast, and repeated, begun at a random place,
    until it fills its time: gaps keep their distribution, and so their coefficient of variation, at a scale of
    1/``factor``. A factor below 1 plays a random part of each stretch as slowly. Copies share prefixes among
    themselves, not with one another. Row ids are renumbered.
    """
    if not (0 < factor <= 1000):
        raise WorkloadError(f"rate {factor:g}: must be above 0 and at most 1000")
    _check_timed(trace, "rate")
    stretch_ns = round(max(60.0, 50 * trace.duration_s / max(len(trace), 1)) * _NS)
    generator = np.random.default_rng([seed, 0x4A7E])
    rows, arrivals, laps = [], [], []
    edges = np.flatnonzero(np.diff(trace.arrival_ns // stretch_ns, prepend=-1))
    for first, last in zip(edges, [*edges[1:], len(trace)], strict=True):
        begin_ns = int(trace.arrival_ns[first] // stretch_ns) * stretch_ns
        within = (trace.arrival_ns[first:last] - begin_ns) / stretch_ns
        for lap in range(int(np.ceil(factor))):
            shift = 0.0 if lap == 0 and factor >= 1 else float(generator.random())
            moved = (within - shift) % 1.0
            kept = np.flatnonzero(moved < min(1.0, factor - lap))
            rows.append(first + kept)
            arrivals.append(begin_ns + np.rint((lap + moved[kept]) / factor * stretch_ns).astype(np.int64))
            laps.append(np.full(len(kept), lap))
    index, arrival_ns, lap_of = (np.concatenate(part) for part in (rows, arrivals, laps))
    if not len(index):
        raise WorkloadError(f"rate {factor:g}: leaves none of the {len(trace)} requests of {trace.header.source}")
    order = np.lexsort((lap_of, arrival_ns))
    scaled = trace.take_rows(index[order], name="scale_rate", factor=factor, seed=seed)
    return renumbered(renamed(scaled, lap_of[order]), arrival_ns[order])


def dequantise(trace: Trace, seed: int = 0) -> Trace:
    """Spread the requests of each tick evenly at random over the time until the next one; their order is kept.

    Raises WorkloadError when arrivals do not stand on ticks.
    """
    _check_timed(trace, "de-quantise")
    ticks, first, counts = np.unique(trace.arrival_ns, return_index=True, return_counts=True)
    ties = 1 - len(ticks) / len(trace)
    if ties <= QUANTISED_TIES or len(ticks) < 2:
        raise WorkloadError(f"de-quantise: arrivals of {trace.header.source} are not on ticks (ties {ties:.1%})")
    width_ns = int(np.median(np.diff(ticks)))
    room_ns = np.minimum(np.diff(ticks, append=ticks[-1] + width_ns), width_ns)
    offset = np.random.default_rng([seed, 0xDE0A]).random(len(trace)) * np.repeat(room_ns, counts)
    arrival_ns = trace.arrival_ns + np.floor(_sorted_within(offset, np.repeat(first, counts))).astype(np.int64)
    spread = trace.take_rows(np.arange(len(trace)), name="dequantise", tick_s=width_ns / _NS, seed=seed)
    quality = np.full(len(trace), Quality.SYNTHETIC, dtype=np.uint8)
    return replace(spread, arrival_ns=arrival_ns, arrival_quality=quality)


def renumbered(trace: Trace, arrival_ns: IntArray) -> Trace:
    """With new arrivals, already in order, and row ids from 0."""
    return replace(trace, arrival_ns=arrival_ns, row_id=np.arange(len(trace), dtype=np.int64))


def _sorted_within(values: npt.NDArray[np.float64], group: IntArray) -> npt.NDArray[np.float64]:
    """Values ascending within each group of neighbours."""
    found: npt.NDArray[np.float64] = values[np.lexsort((values, group))]
    return found


def _check_timed(trace: Trace, option: str) -> None:
    if "arrival times" in trace.absent:
        raise WorkloadError(f"{option}: {trace.header.source} has no arrival times; --arrivals makes some")
    if len(trace) < 2:
        raise WorkloadError(f"{option}: {trace.header.source} has {len(trace)} request; at least 2 are needed")
