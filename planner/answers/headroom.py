"""Live headroom as a report, and as the series that are written back to where the telemetry came from."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np

from collector.model.labels import METRIC_NAME, from_mapping
from collector.model.series import Series
from planner.answers.inputs import plain
from planner.report import Cell, Report, Table, shown
from planner.room.headroom import SPARE, PoolHeadroom
from planner.sim.simulate import versions
from planner.slo import Slo


def headroom_report(pools: Sequence[PoolHeadroom], source: str, slo: Slo, now_s: float) -> Report:
    """Load, load line and what is left of it, of every pool; what the telemetry lacks, in the notes."""
    several = len(pools) > 1
    return Report(
        kind="headroom",
        title=f"Headroom of {source}",
        findings=tuple(_words(pool) for pool in pools) or ("no engine reports there",),
        inputs={"source": source, "at": _stamp(now_s), "slo": slo.model_dump()},
        tables=(Table(title="Pools", columns=_COLUMNS, rows=tuple(_row(pool) for pool in pools), note=_NOTE),),
        notes=tuple(f"{pool.pool}: {note}" if several else note for pool in pools for note in pool.notes),
        result={"pools": [_figures(pool) for pool in pools]},
        versions=versions(),
    )


def headroom_series(pools: Sequence[PoolHeadroom], time_s: float) -> Iterator[Series]:
    """One sample of each figure that is known of each pool; nothing of those that are not.

    ``failures`` is how many replicas are taken to be gone. Times are Unix seconds.
    """
    for pool in pools:
        known = {
            ("loadline_load_requests_per_second", ""): None if pool.reason else pool.load_req_per_s,
            ("loadline_load_line_requests_per_second", "0"): pool.load_line_req_per_s,
            ("loadline_load_line_requests_per_second", str(SPARE)): pool.n2_line_req_per_s,
            ("loadline_headroom_ratio", "0"): pool.headroom_ratio,
            ("loadline_headroom_ratio", str(SPARE)): pool.n2_headroom_ratio,
            ("loadline_load_line_low_requests_per_second", ""): pool.line_low_req_per_s,
            ("loadline_load_line_high_requests_per_second", ""): pool.line_high_req_per_s,
            ("loadline_load_line_crosses_timestamp_seconds", ""): pool.crosses_at_s,
            ("loadline_load_line_crosses_earliest_timestamp_seconds", ""): pool.crosses_low_s,
            ("loadline_load_line_model_error_ratio", ""): pool.model_error_ratio,
        }
        for (name, failures), value in known.items():
            if value is not None:
                labels = {METRIC_NAME: name, "pool": pool.pool, **({"failures": failures} if failures else {})}
                at_ms = np.array([round(time_s * 1000)], dtype=np.int64)
                yield Series(from_mapping(labels), at_ms, np.array([value], dtype=np.float64))


_COLUMNS = (
    "pool", "replicas", "load requests/s", "load line", "from", "to", "headroom", f"line with {SPARE} gone",
    "breaks first", "crosses", "model error",
)  # fmt: skip
_NOTE = (
    "The load line is the highest rate at which the promise is kept, from .. to its 90% interval; headroom is the "
    "share of it that the load leaves. – where it is not known or does not apply."
)


def _row(pool: PoolHeadroom) -> tuple[Cell, ...]:
    return (
        pool.pool, pool.replicas, None if pool.reason else pool.load_req_per_s, pool.load_line_req_per_s,
        pool.line_low_req_per_s, pool.line_high_req_per_s, pool.headroom_ratio, pool.n2_line_req_per_s,
        pool.bound_by or None, None if pool.crosses_at_s is None else _stamp(pool.crosses_at_s), pool.model_error_ratio,
    )  # fmt: skip


def _words(pool: PoolHeadroom) -> str:
    line = pool.load_line_req_per_s
    if line is None or pool.headroom_ratio is None:
        return f"{pool.pool}: no load line: {pool.reason}"
    at = f"{shown(line)} (90%: {shown(pool.line_low_req_per_s)} to {shown(pool.line_high_req_per_s)})"
    low, high = pool.headroom_range or (pool.headroom_ratio, pool.headroom_ratio)
    load = f"{pool.pool}: {shown(pool.load_req_per_s)} requests/s"
    if pool.headroom_ratio >= 0:
        room = f"{pool.headroom_ratio:.0%} (90%: {low:.0%} to {high:.0%})"
        text = f"{load}, {room} below the load line of {at}; {pool.bound_by} breaks first"
    else:
        over = f"{-pool.headroom_ratio:.0%} (90%: {-high:.0%} to {-low:.0%})"
        text = f"{load} is {over} above the load line of {at}; {pool.bound_by} breaks"
    if pool.n2_headroom_ratio is not None:
        left = pool.n2_headroom_ratio
        text += f"; with {SPARE} replicas gone " + (f"{left:.0%} is left" if left >= 0 else f"{-left:.0%} too much")
    return text


def _figures(pool: PoolHeadroom) -> dict[str, object]:
    found = {name: value for name, value in asdict(pool).items() if name != "forecast"}
    low, high = pool.headroom_range or (None, None)
    more = {"headroom_low_ratio": low, "headroom_high_ratio": high, "n2_headroom_ratio": pool.n2_headroom_ratio}
    return {**plain(found), **more}


def _stamp(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
