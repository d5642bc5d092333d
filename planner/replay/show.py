"""A run in words and tables, for a terminal."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from planner.replay.join import Joined
from planner.replay.runs import RunMeta
from planner.result import Distribution, Run

LATENCIES = {
    "ttft_sent_s": "TTFT from send",
    "ttft_due_s": "TTFT from due",
    "itl_s": "ITL",
    "tpot_s": "TPOT",
    "e2e_sent_s": "E2E from send",
    "e2e_due_s": "E2E from due",
    "lag_s": "schedule lag",
}

PARTS = {
    "client": "client: due to sent",
    "network": "network and HTTP stacks",
    "queue": "server: queued",
    "prefill": "server: prefill",
    "ttft": "all: TTFT from due",
}


def as_json(run: Run) -> dict[str, Any]:
    """Header and summary, ready for JSON."""
    return {"header": run.header.model_dump(mode="json"), "summary": asdict(run.summary())}


def as_table(run: Run) -> Group:
    """Verdict first, then what was done, then the latencies."""
    summary = run.summary()
    parts: list[Text | Table] = []
    if run.header.details.get("valid") is False:
        parts += [Text(f"NOT VALID: {reason}", style="bold red") for reason in run.header.details["reasons"]]
    if overlong := run.header.details.get("overlong"):
        parts.append(Text(f"{overlong} requests were longer than the model's context", style="yellow"))
    if run.header.warm_up_s:
        left_out = len(run.requests) - summary.requests
        parts.append(Text(f"warm-up of {run.header.warm_up_s:g} s: {left_out} requests were played and are left out"))
    counts = ", ".join(f"{count} {status}" for status, count in sorted(summary.by_status.items()))
    rates = f"{summary.input_tokens_per_s:.0f} input and {summary.output_tokens_per_s:.0f} output tokens/s"
    done = f"{summary.requests} requests ({counts}) in {summary.duration_s:.1f} s"
    parts.append(Text(f"{done}: {summary.requests_per_s:.2f} req/s, {rates}"))
    if summary.goodput_ratio is not None:
        parts.append(Text(f"goodput {summary.goodput_ratio:.2%} of requests met every promise"))
    table = Table("latency (ms)", *(f"{name}" for name in ("n", "mean", "p50", "p90", "p95", "p99", "max")))
    for name, title in LATENCIES.items():
        if (found := summary.latency.get(name)) is not None and found.n:
            table.add_row(title, str(found.n), *_milliseconds(found))
    return Group(*parts, table)


def listed(runs: Sequence[RunMeta]) -> Table:
    """The kept runs, one line each."""
    table = Table()
    table.add_column("run", overflow="fold")
    for name in ("state", "trace", "target", "requests", "failed", "TTFT p99 (ms)", "valid"):
        table.add_column(name)
    for meta in runs:
        first = ((meta.summary or {}).get("latency") or {}).get("ttft_due_s") or {}
        ttft = "" if first.get("p99") is None else f"{first['p99'] * 1e3:.1f}"
        valid = "" if meta.valid is None else "yes" if meta.valid else "NO"
        state = meta.state + (f": {meta.error}" if meta.error else "")
        done = f"{meta.ended} of {meta.planned}"
        table.add_row(meta.id, state, Path(meta.trace).name, meta.target, done, str(meta.failed), ttft, valid)
    return table


def joined(told: Joined) -> Group:
    """How much of a run joined with the server's spans, and the parts of its TTFT."""
    text = Text(f"{told.joined} of {told.requests} requests joined with the server's spans ({told.share:.2%})")
    table = Table("part of TTFT (ms)", "n", "mean", "p50", "p90", "p95", "p99", "max")
    for name, found in told.split.items():
        table.add_row(PARTS[name], str(found.n), *_milliseconds(found))
    return Group(text, table)


def _milliseconds(found: Distribution) -> list[str]:
    values = (found.mean, found.p50, found.p90, found.p95, found.p99, found.max)
    return ["" if value is None else f"{value * 1e3:.2f}" for value in values]
