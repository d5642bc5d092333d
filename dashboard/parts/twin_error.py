"""How far each pool's twin is off, before and after it was calibrated anew, as ``plan drift --write-to`` told it."""

from collector.model.labels import get
from dashboard import quantity
from dashboard.parts.icon import Node
from dashboard.parts.state import tag
from dashboard.parts.tables import simple_table
from dashboard.source import Question, Source

HELD = "1d"
"""How long ago it may have been told: drift is looked for now and then, not with every scrape."""

QUESTIONS = {
    name: Question(f"max by (pool) (last_over_time({metric}[{HELD}]))")
    for name, metric in (
        ("drift", "loadline_twin_drift"),
        ("steps", "loadline_twin_error_ratio"),
        ("again", "loadline_twin_recalibrated_error_ratio"),
        ("ttft", "loadline_twin_ttft_error_ratio"),
    )
}
HEADINGS = ("Pool", "Error of step times", "Calibrated anew", "Error of TTFT", "State")


def twin_errors(source: Source, at_s: int) -> Node:
    """A table by pool, as of ``at_s``; None where nobody looked for drift."""
    answers = source.instants(QUESTIONS, at_s)
    found = {name: {get(line.labels, "pool"): line.values[-1] for line in answers[name].lines} for name in QUESTIONS}
    rows = [
        (
            pool,
            *(quantity.percent(found[name].get(pool), 1) for name in ("steps", "again", "ttft")),
            tag("warn", "drifted") if drifted else tag("ok", "as calibrated"),
        )
        for pool, drifted in sorted(found["drift"].items())
    ]
    return simple_table("The twin against its engines", HEADINGS, rows, (1, 2, 3)) if rows else None
