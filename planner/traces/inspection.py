"""What a trace is, as a report: its rates, bursts, lengths, shared prefixes and sessions, in figures and charts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from planner.report import Chart, Report, Series, Table
from planner.traces.profile import Counts, FloatArray, LengthStats, Profiler, WorkloadStats
from planner.traces.trace import ReadCounts, TraceHeader

BINS = 120
_NICE_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)


@dataclass(frozen=True, slots=True)
class Course:
    """Requests per second over time: (bins,) counts over ``bin_s`` seconds each."""

    bin_s: int
    per_s: FloatArray


@dataclass(frozen=True, slots=True)
class Inspected:
    """A trace and its figures; ``inputs`` and ``outputs`` are (edges, counts) of classes of lengths."""

    header: TraceHeader
    what: str
    accounts: tuple[tuple[str, ReadCounts], ...]
    stats: WorkloadStats
    course: Course
    inputs: tuple[FloatArray, FloatArray]
    outputs: tuple[FloatArray, FloatArray]


def inspected(
    profiler: Profiler, header: TraceHeader, what: str, accounts: Sequence[tuple[str, ReadCounts]]
) -> Inspected:
    """The figures of everything that a profiler was given. Raises WorkloadError when that is nothing."""
    stats = profiler.result()
    bin_s = next((one for one in _NICE_S if stats.duration_s / one <= BINS), _NICE_S[-1])
    per_bin = profiler.seconds.spread(bin_s) if profiler.seconds.total else np.zeros(0)
    course = Course(bin_s, per_bin / bin_s)
    return Inspected(header, what, tuple(accounts), stats, course, classes(profiler.input), classes(profiler.output))


def classes(counts: Counts, most: int = 40) -> tuple[FloatArray, FloatArray]:
    """(edges, counts) of token counts in classes of equal ratio; zero has a class of its own."""
    if not counts.total:
        return np.zeros(1), np.zeros(0)
    highest = max(int(counts.values[-1]), 1)
    edges = np.unique(np.concatenate([[0.0], np.floor(np.geomspace(1, highest + 1, most)), [highest + 1.0]]))
    where = np.searchsorted(edges, counts.values, side="right") - 1
    return edges, np.bincount(where, counts.counts, minlength=len(edges) - 1).astype(np.float64)


def findings(one: Inspected) -> list[str]:
    """What a person should know of the trace, in sentences."""
    stats = one.stats
    told = [f"{stats.rows:,} requests, read as {one.what}"]
    if stats.gaps is None and stats.duration_s == 0:
        told.append("there are no arrival times" if "arrival_ns" in stats.missing else "all requests arrive at once")
    else:
        told.append(
            f"{stats.mean_per_s:.3g} requests/s over {stats.duration_s:,.6g} s, at most {stats.peak_1s_per_s:g} in 1 s "
            f"and {stats.peak_60s_per_s:.3g}/s over 60 s"
        )
    if stats.first_s > 60:
        told.append(f"the first request arrives {stats.first_s:,.6g} s after the trace's zero")
    if stats.gap_cv is not None:
        kind = "burstier than" if stats.gap_cv > 1.2 else "more even than" if stats.gap_cv < 0.8 else "much like"
        told.append(f"gaps vary by {stats.gap_cv:.2f} times their mean: {kind} Poisson arrivals (1)")
    if stats.tick_s is not None:
        told.append(
            f"{stats.tie_ratio:.1%} of requests arrive together with the one before: {stats.ticks:,} ticks about "
            f"{stats.tick_s:.3g} s apart, as the source's clock is coarse; --dequantise spreads them"
        )
    for name, what in (("input_tokens", "prompt lengths"), ("output_tokens", "answer lengths")):
        if count := stats.missing.get(name, 0):
            told.append(f"{what} are missing for {count:,} of {stats.rows:,} requests")
    if stats.prefix is not None:
        told.append(
            f"{stats.prefix.token_hit_ratio:.1%} of prompt tokens repeat the beginning of an earlier prompt "
            f"(blocks of {stats.prefix.block_tokens}, a cache without bounds)"
        )
    if stats.sessions:
        told.append(f"{stats.sessions:,} sessions of {stats.turns_mean:.3g} turns, at most {stats.turns_max:,}")
    return told


def report(one: Inspected) -> Report:
    """The whole inspection as a document with charts."""
    stats = one.stats
    tables = [_accounts(one), _lengths(stats)]
    if stats.dispersion:
        rows = tuple((name, value) for name, value in stats.dispersion.items())
        note = "Variance over mean of the counts in windows of this width: 1 is Poisson, more is burstier."
        tables.append(Table(title="Dispersion of counts", columns=("window", "variance / mean"), rows=rows, note=note))
    if stats.prefix is not None:
        rows = tuple((name.replace("_", " "), value) for name, value in asdict(stats.prefix).items() if name != "top")
        tables.append(Table(title="Prefixes", columns=("figure", "value"), rows=rows))
    for title, counts in (("Models", stats.models), ("Tenants", stats.tenants), ("Flags", stats.flagged)):
        if counts:
            tables.append(Table(title=title, columns=("name", "requests"), rows=tuple(counts.items())))
    return Report(
        kind="trace",
        title=f"Trace {one.header.source}",
        findings=tuple(findings(one)),
        inputs=_inputs(one),
        tables=tuple(tables),
        charts=_charts(one),
        result=document(one),
    )


def document(one: Inspected) -> dict[str, Any]:
    """All figures, as JSON has them."""
    header = one.header
    return {
        **asdict(one.stats),
        "source": {
            "name": header.source,
            "format": header.reader,
            "what": one.what,
            "sha256": header.source_sha256,
            "origin_ns": header.origin_ns,
            "zone": header.zone,
            "resolution_ns": header.resolution_ns,
            "transforms": [dict(step) for step in header.transforms],
        },
        "files": [{"file": name, **asdict(counts)} for name, counts in one.accounts],
        "course": {"bin_s": one.course.bin_s, "per_s": one.course.per_s.tolist()},
        "findings": findings(one),
    }


def _inputs(one: Inspected) -> dict[str, Any]:
    header = one.header
    steps = [", ".join(f"{key} {value}" for key, value in step.items()) for step in header.transforms]
    return {
        "file": header.source,
        "format": one.what,
        "sha256": header.source_sha256 or None,
        "clock": f"resolution {header.resolution_ns:,} ns, zone {header.zone}",
    } | ({"shaping": "; ".join(steps)} if steps else {})


def _accounts(one: Inspected) -> Table:
    names = ("lines", "header", "blank", "accepted", "quarantined", "requests", "parts_quarantined")
    rows = tuple((file, *(getattr(counts, name) for name in names)) for file, counts in one.accounts)
    columns = ("file", "lines", "header", "blank", "accepted", "set aside", "requests", "parts set aside")
    return Table(title="Where every line went", columns=columns, rows=rows)


def _lengths(stats: WorkloadStats) -> Table:
    def row(name: str, one: LengthStats) -> tuple[Any, ...]:
        figures = (one.mean, one.p50, one.p90, one.p99, one.min, one.max, one.zero, one.sum)
        return (name, *(figures if one.told else (None,) * len(figures)))

    columns = ("tokens", "mean", "p50", "p90", "p99", "min", "max", "of zero", "in all")
    rows = (row("prompt", stats.input_tokens), row("answer", stats.output_tokens))
    return Table(title="Lengths", columns=columns, rows=rows)


def _charts(one: Inspected) -> tuple[Chart, ...]:
    charts = []
    if len(one.course.per_s):
        at = tuple(float(n * one.course.bin_s) for n in range(len(one.course.per_s)))
        series = Series(name="requests", x=at, y=tuple(one.course.per_s.tolist()), style="bars")
        title = f"Requests per second, bins of {one.course.bin_s} s"
        charts.append(Chart(title=title, x_title="s from the first", y_title="requests/s", series=(series,)))
    for title, (edges, counts) in (("Prompt lengths", one.inputs), ("Answer lengths", one.outputs)):
        if len(counts):
            middle = tuple(float(value) for value in np.sqrt(np.maximum(edges[:-1], 1) * edges[1:]))
            series = Series(name=title, x=middle, y=tuple(counts.tolist()), style="bars")
            charts.append(Chart(title=title, x_title="tokens", y_title="requests", series=(series,), x_log=True))
    if len(one.stats.dispersion) > 1:
        widths = tuple(float(name[:-1]) for name in one.stats.dispersion)
        series = Series(name="dispersion", x=widths, y=tuple(one.stats.dispersion.values()))
        flat = Series(name="Poisson", x=widths, y=(1.0,) * len(widths))
        charts.append(
            Chart(
                title="Burstiness by window",
                x_title="window, s",
                y_title="variance / mean",
                series=(series, flat),
                x_log=True,
                y_log=True,
            )
        )
    return tuple(charts)
