"""A trace out of a run: the requests that a server was really sent and what it really gave."""

import numpy as np

from planner.errors import RunError
from planner.result import Run
from planner.trace import Quality, ReadCounts, Trace, TraceHeader


def trace_of(run: Run, source: str) -> Trace:
    """Requests that ended well, at the times when they were sent, with the lengths that they turned out to have.

    Row ids are the run's, so that a simulation of this trace joins with it. Raises RunError when none ended well.
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
    )
