"""A trace out of a run: the requests that a server was really sent and what it really gave."""

from collections.abc import Mapping

import numpy as np

from planner.errors import RunError
from planner.result import FloatArray, Run
from planner.steps.latency import scheduler_limits
from planner.traces.trace import Column, Quality, Ragged, ReadCounts, Trace, TraceHeader


def trace_of(run: Run, source: str) -> Trace:
    """Requests that ended well, at the times when they were sent, with the lengths that they turned out to have.

    What the server found in its prefix cache is found by the twin too: each prompt begins with as many blocks of one
    common prefix. Row ids are the run's, so that a simulation of this trace joins with it. Raises RunError when none
    ended well.
    """
    r = run.requests
    kept = np.nonzero((r.status == "ok") & ~np.isnan(r.sent_s) & (r.output_tokens > 0))[0]
    if not len(kept):
        raise RunError(f"{source}: no request ended well")
    kept = kept[np.argsort(r.sent_s[kept], kind="stable")]
    rows = len(kept)
    counts = ReadCounts(lines=rows, header=0, blank=0, accepted=rows, quarantined=0)
    return Trace(
        header=TraceHeader(source, "", "run", 1, origin_ns=0, zone="unstated", resolution_ns=1, counts=counts),
        row_id=r.row_id[kept],
        src_line=np.arange(1, rows + 1, dtype=np.int64),
        arrival_ns=np.rint(r.sent_s[kept] * 1e9).astype(np.int64),
        arrival_quality=np.full(rows, Quality.EXACT, dtype=np.uint8),
        input_tokens=r.input_tokens[kept],
        output_tokens=r.output_tokens[kept],
        flags=np.zeros(rows, dtype=np.uint32),
        columns=_cached(np.nan_to_num(r.cached_tokens[kept]), _block_size(run)),
    )


def _cached(tokens: FloatArray, block_size: int) -> dict[str, Column]:
    blocks = (tokens // block_size).astype(np.int64)
    if not blocks.any():
        return {}
    offsets = np.concatenate([[0], np.cumsum(blocks)])
    common = Ragged(np.concatenate([np.arange(count, dtype=np.uint64) for count in blocks]), offsets)
    return {"prefix_hashes": common, "block_tokens": np.full(len(blocks), block_size, dtype=np.int64)}


def _block_size(run: Run) -> int:
    noted = run.header.details.get("scheduler")
    return int(scheduler_limits(noted).get("block_size", 16)) if isinstance(noted, Mapping) else 16
