"""Longer or other traces out of one: the trace over and over, a bootstrap of it, several traces as one."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from planner.errors import WorkloadError
from planner.shaping.hashes import renamed
from planner.traces.trace import IntArray, ReadCounts, Trace, concatenate

BLOCK = 32
"""Successive requests that stay together, so that bursts and the bond between gap and lengths stay."""


def loop(trace: Trace, count: int, seed: int = 0) -> Trace:
    """``count`` requests: the trace over and over, each lap in its own order of gaps and lengths kept together.

    Lap 0 is the trace itself. Later laps shuffle blocks of 32 successive requests (seeded), so that bursts and the
    bond between gap and lengths stay while no lap repeats another. Row ids are renumbered from 0.
    """
    generator = np.random.default_rng([seed, 0x10095])
    rows = len(trace)
    blocks = [np.arange(start, min(start + BLOCK, rows)) for start in range(0, rows, BLOCK)]
    order: list[IntArray] = [np.arange(rows)]
    while rows and sum(len(part) for part in order) < count:
        order.append(np.concatenate([blocks[int(i)] for i in generator.permutation(len(blocks))]))
    return _rearranged(trace, np.concatenate(order)[:count], "loop", count, seed)


def resample(trace: Trace, count: int, seed: int = 0) -> Trace:
    """A bootstrap of ``count`` requests: blocks of 32 successive ones, gaps and lengths together, drawn with return.

    Rate, burstiness and lengths vary as they would between days like this one. Row ids are renumbered from 0.
    """
    if count < 1:
        raise WorkloadError(f"resample {count}: must be at least 1")
    generator = np.random.default_rng([seed, 0xB007])
    starts = generator.integers(0, max(len(trace), 1), -(-count // BLOCK))
    index = (starts[:, None] + np.arange(BLOCK)).ravel()[:count] % max(len(trace), 1)
    return _rearranged(trace, index, "resample", count, seed)


def _rearranged(trace: Trace, index: IntArray, name: str, count: int, seed: int) -> Trace:
    """Rows of a trace one after another, each its own gap behind the one before it."""
    rows = len(trace)
    if rows < 2:
        raise WorkloadError(f"{trace.header.source}: {rows} request cannot be repeated; at least 2 are needed")
    gaps = np.diff(trace.arrival_ns, prepend=trace.arrival_ns[0])
    gaps[0] = round(float(trace.arrival_ns[-1] - trace.arrival_ns[0]) / (rows - 1))
    looped = trace.take_rows(index, name=name, count=count, seed=seed)
    arrival = np.cumsum(gaps[index])
    return replace(looped, arrival_ns=arrival - arrival[0], row_id=np.arange(len(index), dtype=np.int64))


def merge(traces: Sequence[Trace], *, by_clock: bool = False) -> Trace:
    """Several traces as one, all begun together or, ``by_clock``, each at its own time of day and date.

    Prefixes are shared within a trace only. A request without a tenant gets its file's name, so that it can be told
    whose it is. Row ids are renumbered from 0. Raises WorkloadError for a clock that a trace does not tell.
    """
    if len(traces) == 1:
        return traces[0]
    origins = [trace.header.origin_ns for trace in traces]
    if by_clock and not all(origins):
        names = ", ".join(trace.header.source for trace in traces if not trace.header.origin_ns)
        raise WorkloadError(f"merge by clock: {names} tells no date; leave --align at start")
    zero = min(origins) if by_clock else 0
    parts = [
        replace(
            renamed(_owned(trace), np.full(len(trace), number)),
            arrival_ns=trace.arrival_ns + (origin - zero if by_clock else 0),
        )
        for number, (trace, origin) in enumerate(zip(traces, origins, strict=True))
    ]
    steps = [{"source": one.header.source, "transforms": list(one.header.transforms)} for one in traces]
    header = replace(
        traces[0].header,
        source=" + ".join(trace.header.source for trace in traces),
        source_sha256="",
        reader="merge",
        origin_ns=zero,
        counts=_summed([trace.header.counts for trace in traces]),
        transforms=({"name": "merge", "of": steps},),
    )
    whole = concatenate(parts, header)
    merged = whole.rows(np.argsort(whole.arrival_ns, kind="stable"))
    return replace(merged, row_id=np.arange(len(merged), dtype=np.int64))


def _summed(counts: Sequence[ReadCounts]) -> ReadCounts:
    lines, header, blank, accepted, quarantined = (
        sum(getattr(one, name) for one in counts) for name in ("lines", "header", "blank", "accepted", "quarantined")
    )
    return ReadCounts(lines, header, blank, accepted, quarantined)


def _owned(trace: Trace) -> Trace:
    tenant = trace.column("tenant")
    names = np.full(len(trace), trace.header.source, dtype=object)
    if isinstance(tenant, np.ndarray):
        names = np.where(tenant == None, names, tenant)  # noqa: E711 — elementwise
    missing = {name: mask for name, mask in trace.missing.items() if name != "tenant"}
    return replace(trace, columns={**trace.columns, "tenant": names}, missing=missing)
