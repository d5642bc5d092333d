"""One pool under a change, as a report."""

from dataclasses import asdict
from datetime import UTC, datetime

from planner.answers.inputs import extrapolated, plain, replicas_text, step_error
from planner.report import Chart, Mark, Report, Series, Table, shown
from planner.room.whatif import SEED, SPARE, LoadPoint, WhatIf


def whatif_report(found: WhatIf, versions: dict[str, str]) -> Report:
    """The line, what is left of it, with two replicas gone too, and latency against load."""
    change = found.change.model_dump(exclude_defaults=True)
    return Report(
        kind="capacity",
        title=f"What if: {found.pool}",
        findings=_findings(found),
        inputs={
            "pool": found.pool,
            "seen_at": datetime.fromtimestamp(found.at_s, UTC).isoformat(),
            "change": change or "none",
            "slo": found.slo.model_dump(),
            "replicas": found.replicas,
            "load_requests_per_s": found.load_req_per_s,
            "prompt_tokens_mean": found.prompt_tokens,
            "output_tokens_mean": found.output_tokens,
            "cached_ratio": found.cached_ratio,
            "scheduler": found.scheduler,
        },
        seed=SEED,
        model_error=step_error(found.model, found.outside_ratio),
        tables=(_table(found),),
        charts=(
            _chart(found, "TTFT p95", "ttft", found.slo.ttft_p95_s),
            _chart(found, "ITL p95", "itl", found.slo.itl_p95_s),
        ),
        notes=found.notes,
        result=plain(_result(found)),
        versions=versions,
    )


def _findings(found: WhatIf) -> tuple[str, ...]:
    fleet = replicas_text(found.replicas, "carries", "carry")
    told = [
        f"{fleet} {shown(found.line_req_per_s)} requests/s ({shown(found.line_low_req_per_s)} to "
        f"{shown(found.line_high_req_per_s)} within the model's error); then {found.bound_by} breaks first"
        f"{extrapolated(found.outside_ratio)}",
        f"at {shown(found.load_req_per_s)} requests/s, {_left(found.headroom_ratio)}",
    ]
    if found.n2_headroom_ratio is not None:
        told.append(
            f"with {SPARE} replicas gone the line is {shown(found.n2_line_req_per_s)} requests/s, "
            f"{_left(found.n2_headroom_ratio)}"
        )
    else:
        told.append(f"N+{SPARE} has no meaning with {replicas_text(found.replicas)}")
    return tuple(told)


def _left(ratio: float) -> str:
    return f"{ratio:.0%} of it is left" if ratio >= 0 else f"{-ratio:.0%} too much"


def _result(found: WhatIf) -> dict[str, object]:
    return {
        "pool": found.pool,
        "replicas_now": found.replicas_now,
        "replicas": found.replicas,
        "load_now_req_per_s": found.load_now_req_per_s,
        "load_req_per_s": found.load_req_per_s,
        "line_req_per_s": found.line_req_per_s,
        "line_low_req_per_s": found.line_low_req_per_s,
        "line_high_req_per_s": found.line_high_req_per_s,
        "n2_line_req_per_s": found.n2_line_req_per_s,
        "n2_bound_by": found.n2_bound_by,
        "bound_by": found.bound_by,
        "headroom_ratio": found.headroom_ratio,
        "n2_headroom_ratio": found.n2_headroom_ratio,
        "prompt_tokens": found.prompt_tokens,
        "output_tokens": found.output_tokens,
        "cached_ratio": found.cached_ratio,
        "at_load": [asdict(check) for check in found.at_load.checks],
        "points": [asdict(point) for point in found.points],
    }


def _table(found: WhatIf) -> Table:
    return Table(
        title="Loads simulated",
        columns=("requests/s", "TTFT p95 s", "low", "high", "ITL p95 s", "low", "high", "KV peak", "promise kept"),
        rows=tuple(
            (p.requests_per_s, p.ttft_p95_s, p.ttft_low_s, p.ttft_high_s, p.itl_p95_s, p.itl_low_s, p.itl_high_s,
             p.kv_peak_ratio, p.kept)
            for p in found.points
        ),
        note="Low and high: every step faster or slower by the model's error. – where requests never ended.",
    )  # fmt: skip


def _chart(found: WhatIf, title: str, name: str, limit_s: float) -> Chart:
    drawn = [point for point in found.points if all(value is not None for value in _band(point, name))]
    middle, low, high = zip(*(_band(point, name) for point in drawn), strict=True) if drawn else ((), (), ())
    series = Series(
        name=title, x=tuple(point.requests_per_s for point in drawn), y=middle, low=low, high=high, style="line"
    )
    marks = [
        Mark(axis="y", at=limit_s, text=f"SLO {shown(limit_s)} s"),
        Mark(axis="x", at=found.line_req_per_s, text="load line"),
        Mark(axis="x", at=found.load_req_per_s, text="load"),
    ]
    return Chart(
        title=f"{title} against load", x_title="requests per second", y_title="seconds", series=(series,),
        marks=tuple(marks),
    )  # fmt: skip


def _band(point: LoadPoint, name: str) -> tuple[float, float, float]:
    """(middle, low, high); None where a load never ended, which the caller leaves out."""
    return (
        getattr(point, f"{name}_p95_s"),
        getattr(point, f"{name}_low_s"),
        getattr(point, f"{name}_high_s"),
    )
