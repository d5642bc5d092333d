"""Take a part of a trace: a window of time, the first requests, those of a model or tenant, a share of the sessions."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from planner.errors import WorkloadError
from planner.traces.trace import BoolArray, IntArray, Ragged, Trace

_NS = 1_000_000_000


def window(trace: Trace, start_s: float, end_s: float | None) -> Trace:
    """Requests that arrive in [start, end) seconds of the trace; arrivals count from ``start_s`` afterwards.

    Raises WorkloadError when the window is empty or backwards.
    """
    shown = f"window {start_s:g}:{'' if end_s is None else f'{end_s:g}'}"
    if not 0 <= start_s < (float("inf") if end_s is None else end_s):
        raise WorkloadError(f"{shown}: start must be at least 0 and before end (seconds)")
    if "arrival times" in trace.absent:
        raise WorkloadError(f"{shown}: {trace.header.source} has no arrival times")
    start_ns = round(start_s * _NS)
    first = int(np.searchsorted(trace.arrival_ns, start_ns, side="left"))
    last = len(trace) if end_s is None else int(np.searchsorted(trace.arrival_ns, round(end_s * _NS), side="left"))
    if first >= last:
        raise WorkloadError(
            f"{shown} holds no request; {trace.header.source} has arrivals "
            f"from {trace.arrival_ns[0] / _NS:g} to {trace.arrival_ns[-1] / _NS:g} s"
        )
    cut = trace.take_rows(np.arange(first, last), name="window", start_s=start_s, end_s=end_s)
    return replace(
        cut,
        arrival_ns=cut.arrival_ns - start_ns,
        header=replace(cut.header, origin_ns=cut.header.origin_ns + start_ns),
    )


def named(trace: Trace, column: str, wanted: Collection[str]) -> BoolArray:
    """(rows,) whether a request's ``model`` or ``tenant`` is one of ``wanted``."""
    return np.array([value in wanted for value in _texts(trace, column)], dtype=np.bool_)


def take(trace: Trace, count: int) -> Trace:
    """The first ``count`` requests. Raises WorkloadError when ``count`` is below 1."""
    if count < 1:
        raise WorkloadError(f"max requests {count}: must be at least 1")
    return trace.take_rows(np.arange(min(count, len(trace))), name="take", count=count)


def only(trace: Trace, column: str, wanted: Collection[str]) -> Trace:
    """Requests whose ``model`` or ``tenant`` is one of ``wanted``. Raises WorkloadError when there is none."""
    kept = named(trace, column, wanted)
    if not kept.any():
        there = sorted({value for value in _texts(trace, column) if value is not None})
        told = f"it has {', '.join(there[:8])}" + (" …" if len(there) > 8 else "") if there else "it names none"
        raise WorkloadError(f"{column} {', '.join(wanted)}: no request of {trace.header.source}; {told}")
    return trace.take_rows(np.flatnonzero(kept), name="only", column=column, wanted=sorted(wanted))


def thin(trace: Trace, share: float, seed: int) -> Trace:
    """Each session with probability ``share``, whole or not at all; a request without one is its own session.

    Bursts and hours keep their place; the rate falls to ``share`` of itself. Raises WorkloadError when nothing is left.
    """
    if not 0 < share <= 1:
        raise WorkloadError(f"share {share:g}: must be above 0 and at most 1")
    kept = _chosen(trace, share, np.random.default_rng([seed, 0x7411]))
    if not kept.any():
        raise WorkloadError(f"share {share:g} of the {len(trace)} requests of {trace.header.source} leaves none")
    return trace.take_rows(np.flatnonzero(kept), name="thin", share=share, seed=seed)


def _chosen(trace: Trace, share: float, generator: np.random.Generator) -> BoolArray:
    draws = generator.random(len(trace)) < share
    where: dict[str, int] = {}
    first: IntArray = np.array(
        [row if name is None else where.setdefault(name, row) for row, name in enumerate(_texts(trace, "session_id"))]
    )
    chosen: BoolArray = draws[first]
    return chosen


def _texts(trace: Trace, column: str) -> list[str | None]:
    found = trace.column(column)
    return [None] * len(trace) if found is None or isinstance(found, Ragged) else found.tolist()
