"""How much the fleet carries and how many replicas the coming months need, as a report."""

from collections.abc import Sequence
from dataclasses import asdict

from planner.answers.inputs import extrapolated, plain, replicas_text, step_error, trace_inputs
from planner.money.beside import Rules, beside
from planner.report import Cell, Chart, Mark, Report, Series, Table, shown
from planner.room.capacity import CONFIDENCE, LIKELY, Capacity
from planner.room.growth import Demand, Need, safe_months
from planner.sim import Twin
from planner.sim.simulate import scheduler_limits_of
from planner.slo import Slo
from planner.steps.latency import StepModel
from planner.traces.trace import Trace


def capacity_report(
    trace: Trace,
    twin: Twin,
    model: StepModel,
    slo: Slo,
    capacity: Capacity,
    demand: Demand,
    needed: Sequence[Need],
    *,
    spare: int,
    seed: int,
    versions: dict[str, str],
    rules: Rules = Rules(),  # noqa: B008 — a frozen value
) -> Report:
    """How much the fleet carries, how many replicas the coming months need, and what sizing on means would say."""
    first, last = needed[0], needed[-1]
    interval = f"{LIKELY:.0%} interval {shown(capacity.likely_low)} to {shown(capacity.likely_high)}"
    range_text = f" ({interval})" if capacity.likely_low is not None else ""
    findings = [
        f"{replicas_text(capacity.replicas, 'carries', 'carry')} {shown(capacity.requests_per_s)} requests/s"
        f"{range_text}; then {capacity.bound_by} breaks first{extrapolated(capacity.outside_ratio)}",
        f"this month's peak of {shown(first.peak_per_s)} requests/s needs {replicas_text(first.serving)}"
        f"{_between(first)}, {first.total} with N+{spare}",
    ]
    if last.month:
        findings.append(
            f"in {last.month} months, at {shown(last.peak_per_s)} requests/s, {last.serving}{_between(last)}, "
            f"{last.total} with N+{spare}"
        )
    safe = safe_months(tuple(needed), capacity.replicas)
    gone = f" with {spare} of them gone" if spare else ""
    if spare and capacity.replicas <= spare:
        findings.append(
            f"today's N+{spare} has no meaning: it takes more than {spare} replicas, and there is"
            f"{'' if capacity.replicas == 1 else ' only'} {capacity.replicas}"
        )
    elif safe is None:
        today = replicas_text(capacity.replicas, "does", "do")
        findings.append(f"{today} not carry this month's peak{gone}")
    else:
        today = replicas_text(capacity.replicas, "is", "are")
        until = f"through month {safe}" + ("" if safe < last.month else ", the last one asked for")
        findings.append(f"{today} enough{gone} {until}")
    findings += _survival(first, spare)
    notes = [*model.notes, *_interval_notes(capacity)]
    if capacity.looped:
        notes.append(
            f"the trace has {len(trace)} requests; {capacity.requests} were played, its blocks of 32 in another order "
            "on each lap"
        )
    if capacity.mean_based is not None and capacity.mean_based_optimism_ratio is not None:
        notes.append(
            f"sizing on means (Little's law) says {shown(capacity.mean_based)} requests/s, "
            f"{capacity.mean_based_optimism_ratio:+.0%} against the simulation: it sees no bursts and no long requests"
        )
    if not all(need.verified for need in needed):
        notes.append("counts above 32 replicas are scaled from the simulated fleet, not simulated themselves")
    return Report(
        kind="capacity",
        title=f"Capacity for {trace.header.source}",
        findings=tuple(findings),
        inputs={
            **trace_inputs(trace),
            "slo": slo.model_dump(),
            "replicas_today": twin.replicas,
            "router": twin.router,
            "scheduler": scheduler_limits_of(twin.scheduler),
            "model_source": model.source,
            "demand": asdict(demand),
            "spare_replicas": spare,
        },
        seed=seed,
        model_error=step_error(model, capacity.outside_ratio),
        tables=(_needs_table(needed, spare), _beside_table(trace, needed, rules), _checks_table(capacity)),
        charts=(_use_chart(capacity), _needs_chart(needed, capacity.replicas, spare)),
        notes=tuple(notes),
        result={"capacity": plain(asdict(capacity)), "needs": [asdict(need) for need in needed]},
        versions=versions,
    )


def _between(need: Need) -> str:
    """The replicas that the interval of the rate comes to, where they are not one number."""
    if need.serving_low is None or need.serving_low == need.serving_high:
        return ""
    return f" ({LIKELY:.0%} interval {need.serving_low} to {need.serving_high})"


def _interval_notes(capacity: Capacity) -> list[str]:
    """What the interval of the rate is made of."""
    if capacity.low is None:
        return ["one search tells nothing of its own spread: --seeds 4 gives an interval"]
    made = (
        "the model file does not say how far its costs may be off: the interval is the search's alone"
        if capacity.calibration_ratio is None
        else f"the calibration leaves {capacity.calibration_ratio:.1%} of the rate open to either side"
    )
    return [f"{made}; the search's own {CONFIDENCE:.0%} interval is {shown(capacity.low)} to {shown(capacity.high)}"]


def _survival(need: Need, spare: int) -> list[str]:
    """What losing the spares in the middle of this month's peak does."""
    after = need.aftermath
    if after is None:
        return []
    lost = f"losing {after.lost_replicas} of {after.replicas} replicas at the peak ({after.lost} requests sent again)"
    if after.recovery_s is None:
        return [f"{lost}: the promise is not kept again with N+{spare}"]
    meanwhile = "" if after.during_ratio is None else f", {after.during_ratio:.1%} of the requests in it meanwhile"
    return [f"{lost}: the promise is kept again after {shown(after.recovery_s)} s{meanwhile}"]


def _needs_table(needed: Sequence[Need], spare: int) -> Table:
    return Table(
        title="Replicas needed",
        columns=(
            "month",
            "peak requests/s",
            "serving",
            "from",
            "to",
            f"with N+{spare}",
            "TTFT p95 s",
            "goodput",
            "simulated",
            "recovery s",
            "goodput until then",
        ),
        rows=tuple(map(_needs_row, needed)),
        note=f"From .. to is the {LIKELY:.0%} interval of the replicas that serve. TTFT and goodput are those of the "
        "peak with the spares gone. Recovery counts from the moment amid the peak when they are lost; what they held "
        "is sent again. – where it is not simulated or never comes.",
    )


def _beside_table(trace: Trace, needed: Sequence[Need], rules: Rules) -> Table:
    """Network, answer cache and vector database for each month's peak."""
    prompt, output = float(trace.input_tokens.mean()), float(trace.output_tokens.mean())
    rows = []
    for need in needed:
        found = beside(need.peak_per_s, prompt, output, rules)
        rates = (found.in_bits_per_s / 1e6, found.out_bits_per_s / 1e6)
        rows.append((need.month, need.peak_per_s, *rates, found.cache_bytes / 1e9, found.vector_replicas))
    return Table(
        title="Beside the engines",
        columns=("month", "peak requests/s", "in Mbit/s", "out Mbit/s", "cache GB", "vector database replicas"),
        rows=tuple(rows),
        note=f"Rules of thumb, not simulated: an answer cache of {rules.cache_ttl_s / 3600:g} h with "
        f"{rules.cache_spare_ratio:.0%} to spare; {rules.retrieval_ratio:.0%} of the requests ask the vector database, "
        f"{rules.vector_per_s:g} a second on one replica, {rules.vector_spare} of which may be gone.",
    )


def _needs_row(need: Need) -> tuple[Cell, ...]:
    after = need.aftermath
    counts = (need.serving, need.serving_low, need.serving_high, need.total)
    outage = (None, None) if after is None else (after.recovery_s, after.during_ratio)
    return need.month, need.peak_per_s, *counts, need.ttft_p95_s, need.goodput_ratio, need.verified, *outage


def _checks_table(capacity: Capacity) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for point in capacity.points:
        values = [point.verdict.value(check.name) for check in point.verdict.checks]
        rows.append((point.requests_per_s, point.seed, *values, point.verdict.kv_peak_ratio, point.verdict.kept))
    names = tuple(check.name for check in capacity.points[0].verdict.checks)
    return Table(
        title="Loads simulated",
        columns=("requests/s", "seed", *names, "KV peak", "kept"),
        rows=tuple(rows),
        note="Latencies in seconds; – where requests never ended.",
    )


def _use_chart(capacity: Capacity) -> Chart:
    names = [check.name for check in capacity.points[0].verdict.checks if check.name != "Success"]
    series = []
    for name in names:
        used = [
            min(next(check.use_ratio for check in point.verdict.checks if check.name == name), 3.0)
            for point in capacity.points
        ]
        rates = tuple(point.requests_per_s for point in capacity.points)
        series.append(Series(name=name, x=rates, y=tuple(used), style="points"))
    marks = [Mark(axis="y", at=1.0, text="limit")]
    marks.append(Mark(axis="x", at=capacity.requests_per_s, text="highest sustainable rate"))
    return Chart(
        title="How much of each limit is used",
        x_title="requests per second",
        y_title="share of the limit (cut at 3)",
        series=tuple(series),
        marks=tuple(marks),
    )


def _needs_chart(needed: Sequence[Need], replicas: int, spare: int) -> Chart:
    months = tuple(need.month for need in needed)
    return Chart(
        title="Replicas by month",
        x_title="months from now",
        y_title="replicas",
        series=(
            Series(name="serving the peak", x=months, y=tuple(float(n.serving) for n in needed), style="bars"),
            Series(name=f"with N+{spare}", x=months, y=tuple(float(n.total) for n in needed), style="bars"),
        ),
        marks=(Mark(axis="y", at=float(replicas), text=f"today {replicas}"),),
    )
