"""A twin's run, alone or beside a measured one, as a report."""

from dataclasses import asdict
from typing import Any

import numpy as np

from planner.answers.inputs import extrapolated, in_ms, milli, plain, step_error, trace_inputs
from planner.compare import Comparison
from planner.report import Cell, Chart, Report, Series, Table, shown
from planner.result import Run, Summary
from planner.sim import Twin
from planner.sim.spread import LEVEL, PLAYS, Interval, end_to_end, intervals, per_token, ttft
from planner.steps.latency import StepModel
from planner.steps.validate import Validation
from planner.traces.trace import Trace

NAMES = {
    "ttft_due_s": "TTFT from due",
    "ttft_sent_s": "TTFT",
    "itl_s": "ITL",
    "tpot_s": "TPOT",
    "e2e_due_s": "E2E from due",
    "e2e_sent_s": "E2E",
}
STATISTICS = ("p50", "p90", "p95", "p99", "mean")


MOST_FOR_RANGES = 20_000


def ranges_of(trace: Trace, twin: Twin, *, seed: int) -> dict[str, Interval]:
    """Within what one run of the real engine would lie, by name of the statistic, seconds."""
    asked = {
        f"{name} {percentile}": statistic
        for percentile, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        for name, statistic in (
            ("TTFT", ttft(q)),
            ("TPOT", per_token(q, trace.output_tokens)),
            ("E2E", end_to_end(q)),
        )
    }
    return dict(zip(asked, intervals(trace, twin, list(asked.values()), seed=seed), strict=True))


def simulation_report(
    run: Run,
    summary: Summary,
    trace: Trace,
    model: StepModel,
    measured: tuple[str, Run, Comparison] | None,
    ranges: dict[str, Interval] | None = None,
) -> Report:
    """A twin's run in numbers, beside a measured one where there is one, and ``ranges_of`` them where asked for."""
    slo = run.header.slo
    ttft, itl, e2e = (in_ms(summary.latency[name].p95) for name in ("ttft_due_s", "itl_s", "e2e_due_s"))
    findings = [
        f"{summary.by_status.get('ok', 0)} of {summary.requests} requests served at {shown(summary.requests_per_s)} "
        f"per second; TTFT p95 {ttft}, ITL p95 {itl}, E2E p95 {e2e}"
        + extrapolated(float(run.header.details["steps_outside_hull_ratio"]))
    ]
    if run.header.details["gateway"]:
        findings.append(_gateway_words(run.header.details["gateway"]))
    if summary.goodput_ratio is not None and slo is not None:
        findings.append(f"{summary.goodput_ratio:.2%} of requests meet every latency of the promise")
    tables = [_latency_table("Latencies of the twin", summary)]
    charts: list[Chart] = []
    notes = list(model.notes)
    result: dict[str, Any] = {"summary": plain(asdict(summary)), "twin": run.header.details}
    if ranges:
        findings.append(_range_words(ranges))
        tables.append(_range_table(ranges))
        result["ranges"] = plain({name: asdict(one) for name, one in ranges.items()})
        if not model.costs_drawn:
            notes.append("the model file does not say how far its costs may be off: the ranges hold noise only")
    if measured is not None:
        name, real, comparison = measured
        findings.append(_error_words(comparison))
        tables.append(_comparison_table(comparison, name))
        charts.append(_error_chart(comparison, name))
        notes.extend(_comparison_notes(comparison, real, run, name))
        result["comparison"] = plain(asdict(comparison))
    charts.append(_distribution_chart(run, measured))
    return Report(
        kind="simulation",
        title=f"Twin of {model.engine.get('model') or model.source} under {trace.header.source}",
        findings=tuple(findings),
        inputs={
            **trace_inputs(trace),
            "slo": slo.model_dump() if slo else None,
            "replicas": run.header.details["replicas"],
            "router": run.header.details["router"],
            "gateway": (run.header.details["gateway"] or {}).get("settings"),
            "scheduler": run.header.details["scheduler"],
            "noise": run.header.details["noise"],
            "model_source": model.source,
        },
        seed=run.header.seed,
        model_error=step_error(model, float(run.header.details["steps_outside_hull_ratio"])),
        tables=tuple(tables),
        charts=tuple(charts),
        notes=tuple(notes),
        result=result,
        versions=run.header.versions,
    )


def validation_report(name: str, found: Validation, real: Run, versions: dict[str, str]) -> Report:
    """The twin's error on the part of a run that it was not calibrated on, and what of it is the machine's speed."""
    model, comparison, split, twin = found.model, found.comparison, found.split, found.twin
    return Report(
        kind="validation",
        title=f"Twin against {name}",
        findings=(_error_words(comparison), _speed_words(found)),
        inputs={
            "run": name,
            "calibrated_on": f"the first {split:.0%} of the run's observations",
            "compared_on": f"requests sent after that: {comparison.joined}",
            "scheduler": twin.header.details["scheduler"],
        },
        seed=twin.header.seed,
        model_error=step_error(model, float(twin.header.details["steps_outside_hull_ratio"])),
        tables=(_comparison_table(comparison, "run"),),
        charts=(_error_chart(comparison, "run"), _distribution_chart(twin, (name, real, comparison))),
        notes=(*model.notes, *_comparison_notes(comparison, real, twin, name)),
        result={
            "comparison": plain(asdict(comparison)),
            "slowness": found.slowness,
            "at_speed": plain(asdict(found.at_speed)),
            "model": model.model_dump(mode="json"),
        },
        versions=versions,
    )


def _speed_words(found: Validation) -> str:
    change = found.slowness - 1
    return (
        f"steps took {abs(change):.1%} {'longer' if change >= 0 else 'less'} there than the model says, which is the "
        f"machine's part of that error; at the speed that it had, {_error_words(found.at_speed)}"
    )


def _latency_table(title: str, summary: Summary) -> Table:
    rows = [
        (NAMES[name], d.n, *(milli(value) for value in (d.mean, d.p50, d.p90, d.p95, d.p99, d.max)))
        for name, d in summary.latency.items()
        if name != "lag_s"
    ]
    return Table(title=title, columns=("ms", "n", "mean", "p50", "p90", "p95", "p99", "max"), rows=tuple(rows))


def _gateway_words(told: dict[str, Any]) -> str:
    opened = ", ".join(f"{times} times by {trigger}" for trigger, times in sorted(told["breakers_opened"].items()))
    return f"the gateway turned {told['refused']} requests away; its breakers opened {opened or 'never'}"


def _range_words(ranges: dict[str, Interval]) -> str:
    told = (f"{name} {in_ms(ranges[name].low)} to {in_ms(ranges[name].high)}" for name in ("TTFT p95", "E2E p95"))
    return f"{LEVEL:.0%} interval for one run of the real engine: {', '.join(told)}"


def _range_table(ranges: dict[str, Interval]) -> Table:
    return Table(
        title=f"What one run of the real engine would show ({LEVEL:.0%} interval)",
        columns=("latency from due, ms", "low", "middle", "high"),
        rows=tuple((name, milli(one.low), milli(one.middle), milli(one.high)) for name, one in sorted(ranges.items())),
        note=f"From the least to the largest of {PLAYS} plays, each with other noise and costs as other evidence of "
        "the same engine might have given them.",
    )


def _comparison_table(comparison: Comparison, name: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for metric, found in comparison.metrics.items():
        for statistic in STATISTICS:
            error = found.error.get(statistic)
            if error is not None:
                pair = (milli(getattr(found.a, statistic)), milli(getattr(found.b, statistic)))
                rows.append((NAMES[metric], statistic, *pair, f"{error:+.1%}"))
    return Table(
        title="Measured and twin",
        columns=("latency", "statistic", f"{name} ms", "twin ms", "error"),
        rows=tuple(rows),
        note=f"Over the {comparison.joined} requests that ended well in both.",
    )


def _error_words(comparison: Comparison) -> str:
    def of(metric: str, statistic: str) -> str:
        error = comparison.metrics[metric].error.get(statistic)
        return "–" if error is None else f"{error:+.1%}"

    return (
        f"the twin's error on {comparison.joined} requests: E2E p50 {of('e2e_sent_s', 'p50')}, "
        f"p99 {of('e2e_sent_s', 'p99')}; TTFT p50 {of('ttft_sent_s', 'p50')}, p99 {of('ttft_sent_s', 'p99')}; "
        f"TPOT p50 {of('tpot_s', 'p50')}, p99 {of('tpot_s', 'p99')}"
    )


def _comparison_notes(comparison: Comparison, real: Run, twin: Run, name: str) -> list[str]:
    doubt = real.doubt(name)
    notes = [] if doubt is None else [doubt]
    if comparison.only_a or comparison.only_b:
        notes.append(f"{comparison.only_a} requests are only in the run, {comparison.only_b} only in the twin")
    wanted, given = twin.requests.output_tokens.sum(), real.requests.output_tokens.sum()
    if not comparison.only_a and not comparison.only_b and wanted and abs(given / wanted - 1) > 0.01:
        notes.append(f"the server gave {given:,} output tokens, the trace asks for {wanted:,}: the loads differ")
    shares = [_cached_ratio(one) for one in (real, twin)]
    if abs(shares[0] - shares[1]) > 0.01:
        notes.append(
            f"the server found {shares[0]:.1%} of its prompt tokens in the prefix cache, the twin {shares[1]:.1%}: "
            "the loads differ"
        )
    return notes


def _cached_ratio(run: Run) -> float:
    cached, prompt = np.nansum(run.requests.cached_tokens), run.requests.input_tokens.sum()
    return float(cached / prompt) if prompt else 0.0


def _error_chart(comparison: Comparison, name: str) -> Chart:
    metrics = ("ttft_sent_s", "tpot_s", "e2e_sent_s")
    x = tuple(f"{NAMES[metric]} {statistic}" for metric in metrics for statistic in STATISTICS[:4])

    def values(side: str) -> tuple[float | None, ...]:
        return tuple(
            milli(getattr(getattr(comparison.metrics[metric], side), statistic))
            for metric in metrics
            for statistic in STATISTICS[:4]
        )

    return Chart(
        title="Percentiles side by side",
        x_title="",
        y_title="ms",
        series=(
            Series(name=name, x=x, y=values("a"), style="bars"),
            Series(name="twin", x=x, y=values("b"), style="bars"),
        ),
        y_log=True,
    )


def _distribution_chart(run: Run, measured: tuple[str, Run, Comparison] | None) -> Chart:
    shares = np.linspace(0.01, 0.99, 99)

    def curve(name: str, one: Run) -> Series:
        values = one.latencies()["ttft_sent_s"]
        kept = values[~np.isnan(values)]
        x = tuple(float(v) * 1e3 for v in np.quantile(kept, shares)) if len(kept) else ()
        return Series(name=name, x=x, y=tuple(float(s) for s in shares) if x else ())

    series = [curve("twin", run)]
    if measured is not None:
        series.insert(0, curve(measured[0], measured[1]))
    return Chart(
        title="Time to first token", x_title="ms", y_title="share of requests", series=tuple(series), x_log=True
    )
