"""A run, or two side by side, as a report document: the same page that other answers of the planner have."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from planner.compare import Comparison
from planner.replay.gate import METRICS
from planner.replay.intervals import STATISTICS, Interval, errors, goodput, latency_intervals, success
from planner.replay.show import LATENCIES
from planner.replay.significance import Shift
from planner.report import Cell, Chart, Report, Series, Table
from planner.result import FloatArray, Run

MAX_POINTS = 4000


def run_report(run: Run, name: str) -> Report:
    """A run in words, tables with intervals, and charts over time."""
    measured, found = run.measured(), run.summary()
    well, good = success(run), goodput(run)
    findings = [f"NOT VALID: {reason}" for reason in run.header.details.get("reasons", ())]
    findings.append(
        f"{found.requests} requests in {found.duration_s:.1f} s: {found.requests_per_s:.2f} per second, "
        f"{found.output_tokens_per_s:.0f} output tokens per second; {_percent(well)} succeeded"
    )
    if good is not None:
        findings.append(f"{_percent(good)} met every promise (goodput {found.goodput_per_s or 0.0:.2f} per second)")
    if run.header.warm_up_s:
        left = len(run.requests) - found.requests
        findings.append(f"the first {run.header.warm_up_s:g} s are warm-up: {left} requests were played and left out")
    intervals = latency_intervals(run)
    return Report(
        kind="run",
        title=f"Run {name}: {run.header.trace} against {run.header.target}",
        findings=tuple(findings),
        inputs={**run.header.model_dump(mode="json", exclude={"details", "versions", "seed"})},
        seed=run.header.seed,
        tables=(_latency_table(intervals), *_error_table(run), *_lag_table(run)),
        charts=_charts(measured),
        notes=(
            "From due: from when the trace said that the request was to be sent, so that waiting in the client counts.",
            "Intervals hold 95%: blocks of neighbouring requests are resampled; shares have Wilson's interval.",
            "TPOT is (last - first token) / (output tokens - 1); ITL are the gaps between tokens of all requests.",
        ),
        result={"summary": asdict(found), "intervals": _plain(intervals), "success": asdict(well)}
        | ({"goodput": asdict(good)} if good is not None else {})
        | {"errors": [asdict(kind) for kind in errors(run)]},
        versions=run.header.versions,
    )


def comparison_report(
    comparison: Comparison, shifts: Mapping[str, Shift], runs: tuple[Run, Run], names: tuple[str, str]
) -> Report:
    """Two runs: what changed by more than chance, and their distributions over each other."""
    clear = [
        f"{LATENCIES[name]} {stat} changed by {change.ratio.value:+.1%} "
        f"({change.ratio.low:+.1%} to {change.ratio.high:+.1%})"
        for name, shift in shifts.items()
        for stat, change in shift.changes.items()
        if stat in ("p50", "p99") and change.significant
    ]
    findings = clear or ["no latency's median or p99 changed by more than chance explains"]
    if not comparison.same_trace:
        findings.insert(0, "the two runs did not play the same shaped trace")
    return Report(
        kind="comparison",
        title=f"{names[1]} against {names[0]}",
        findings=tuple(findings),
        inputs={"a": {"run": names[0], **_told(runs[0])}, "b": {"run": names[1], **_told(runs[1])}},
        tables=(change_table(shifts, names),),
        charts=(_distributions(runs, names),),
        notes=(
            f"{comparison.joined} requests ended well in both; {comparison.only_a} are only in {names[0]}, "
            f"{comparison.only_b} only in {names[1]}.",
            "Intervals and p are of blocks of neighbouring requests, resampled together where the trace is the same.",
        ),
        result={"comparison": asdict(comparison), "shifts": {name: asdict(shift) for name, shift in shifts.items()}},
        versions=runs[1].header.versions,
    )


def change_table(shifts: Mapping[str, Shift], names: tuple[str, str]) -> Table:
    """Every statistic of every latency in both runs, its change and how sure it is."""
    rows: list[tuple[Cell, ...]] = []
    for name, shift in shifts.items():
        for stat, change in shift.changes.items():
            ratio = change.ratio
            between = f"{ratio.low:+.1%} to {ratio.high:+.1%}"
            mark = "yes" if change.significant else "no"
            figures = (round(change.a * 1e3, 3), round(change.b * 1e3, 3))
            rows.append((LATENCIES[name], stat, *figures, f"{ratio.value:+.1%}", between, change.p_value, mark))
    columns = ("latency", "", f"{names[0]} (ms)", f"{names[1]} (ms)", "change", "95% interval", "p", "beyond chance")
    return Table(title="What changed", columns=columns, rows=tuple(rows))


def _told(run: Run) -> dict[str, Any]:
    return {"trace": run.header.trace, "target": run.header.target, "started_at": run.header.started_at}


def _percent(interval: Interval) -> str:
    return f"{interval.value:.2%} ({interval.low:.2%} to {interval.high:.2%})"


def _plain(intervals: Mapping[str, Mapping[str, Interval]]) -> dict[str, Any]:
    return {name: {stat: asdict(one) for stat, one in found.items()} for name, found in intervals.items()}


def _latency_table(intervals: Mapping[str, Mapping[str, Interval]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name in METRICS.values():
        if name in intervals:
            rows.append((LATENCIES[name], *(_in_ms(intervals[name][stat]) for stat in STATISTICS)))
    return Table(title="Latencies (ms, with 95% interval)", columns=("latency", *STATISTICS), rows=tuple(rows))


def _in_ms(one: Interval) -> str:
    return f"{one.value * 1e3:.2f} ({one.low * 1e3:.2f} to {one.high * 1e3:.2f})"


def _error_table(run: Run) -> tuple[Table, ...]:
    rows = tuple((e.status, e.kind, e.count, _percent(e.share), e.example[:200]) for e in errors(run))
    columns = ("status", "kind", "requests", "share", "one of them")
    return (Table(title="What failed", columns=columns, rows=rows),) if rows else ()


def _lag_table(run: Run) -> tuple[Table, ...]:
    lag = run.header.details.get("lag")
    if not lag:
        return ()
    rows = tuple((name.replace("_", " "), value) for name, value in lag.items())
    return (Table(title="The client's own lag behind its schedule", columns=("", "value"), rows=rows),)


def _charts(run: Run) -> tuple[Chart, ...]:
    requests, found = run.requests, run.latencies()
    step = max(1, len(requests) // MAX_POINTS)
    due = requests.due_s[::step]
    over_time = [_points(LATENCIES[name], due, found[name][::step]) for name in ("ttft_due_s", "e2e_due_s")]
    lag = _points("lag", due, found["lag_s"][::step])
    return (
        Chart(title="Latency by when it was due", x_title="seconds", y_title="ms", series=tuple(over_time), y_log=True),
        Chart(title="Requests per second", x_title="seconds", y_title="per second", series=_rates(run)),
        Chart(title="Schedule lag", x_title="seconds", y_title="ms", series=(lag,)),
    )


def _points(name: str, x: FloatArray, seconds: FloatArray) -> Series:
    there = ~np.isnan(seconds)
    values = tuple(round(value * 1e3, 4) for value in seconds[there].tolist())
    return Series(name=name, x=tuple(np.round(x[there], 4).tolist()), y=values, style="points")


def _rates(run: Run) -> tuple[Series, ...]:
    requests = run.requests
    ends = requests.end_s[~np.isnan(requests.end_s)]
    last = max(float(requests.due_s.max(initial=0.0)), float(ends.max(initial=0.0)))
    width = max(1.0, np.ceil(last / 300))
    edges = np.arange(0.0, last + 2 * width, width)
    middle = tuple((edges[:-1] + width / 2).tolist())
    series = []
    for name, times in (("due", requests.due_s), ("sent", requests.sent_s), ("ended", requests.end_s)):
        counts, _ = np.histogram(times[~np.isnan(times)], edges)
        series.append(Series(name=name, x=middle, y=tuple((counts / width).tolist())))
    return tuple(series)


def _distributions(runs: tuple[Run, Run], names: tuple[str, str]) -> Chart:
    shares = np.concatenate([np.linspace(0.01, 0.99, 99), [0.995, 0.999]])
    series = []
    for run, name in zip(runs, names, strict=True):
        values = run.measured().latencies()["ttft_due_s"]
        values = values[~np.isnan(values)]
        if len(values):
            at = tuple(np.round(np.quantile(values, shares) * 1e3, 4).tolist())
            series.append(Series(name=name, x=at, y=tuple(shares.tolist())))
    title = "TTFT from due: share of requests that were as fast"
    return Chart(title=title, x_title="ms", y_title="share", series=tuple(series), x_log=True)
