"""What a finished what-if says: sentences, now beside what would be, and what the twin does not know."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dash import html

from dashboard import quantity
from dashboard.parts.icon import Node
from dashboard.parts.tables import simple_table
from dashboard.words import counted, said_reason, say

if TYPE_CHECKING:
    from planner.room.headroom import PoolHeadroom

Found = Mapping[str, Any]
"""``result`` of a report on one what-if."""

LEAST_TOLD = 0.01
"""A smaller share of steps beyond what the model was fitted on is not worth a note."""


def answered(found: Found, now: "PoolHeadroom | None", report: Mapping[str, Any]) -> Node:
    """``now`` beside what if, its sentences, and what ``report`` does not know; ``found`` is its result."""
    rate, share = quantity.per_second, quantity.percent
    line = say("{line} ({low} to {high})", line=rate(found["line_req_per_s"]), **_band(found))
    error = report["model_error"]
    rows = [
        ("Load", rate(now.load_req_per_s if now else None), rate(found["load_req_per_s"])),
        ("Replicas", quantity.count(now.replicas if now else None), quantity.count(found["replicas"])),
        ("Load line", rate(now.load_line_req_per_s if now else None), line),
        ("Headroom", share(now.headroom_ratio if now else None), share(found["headroom_ratio"])),
        ("Bound by", now.bound_by if now else quantity.ABSENT, found["bound_by"]),
        ("N+2 line", rate(now.n2_line_req_per_s if now else None), rate(found["n2_line_req_per_s"])),
        (
            "Headroom, N+2",
            quantity.percent(now.n2_headroom_ratio if now else None),
            quantity.percent(found["n2_headroom_ratio"]),
        ),
        (
            "Step-time error",
            *(quantity.percent(one, 1) for one in (now.model_error_ratio if now else None, error["mean"])),
        ),
    ]
    said = html.Ul([html.Li(one) for one in _sentences(found)], className="says")
    notes = [html.Li(one) for one in (*_extrapolated(error), *map(said_reason, report["notes"]))]
    table = html.Div(simple_table("Now and what if", ("", "now", "what if"), rows, (1, 2)), className="now2")
    return html.Div([said, table, html.Ul(notes, className="says nt") if notes else None])


def _band(found: Found) -> dict[str, str]:
    """What the load line is within the model's error."""
    return {name: quantity.count(found[f"line_{name}_req_per_s"]) for name in ("low", "high")}


def _sentences(found: Found) -> list[str]:
    """The line, what is left of it, and what is left with two replicas gone."""
    rate = quantity.per_second
    told = [
        counted(
            found["replicas"],
            "1 replica carries {line} ({low} to {high} within the model's error); then {constraint} breaks first.",
            "{n} replicas carry {line} ({low} to {high} within the model's error); then {constraint} breaks first.",
            line=rate(found["line_req_per_s"]), constraint=found["bound_by"], **_band(found),
        ),
        say("At {load}: {left}.", load=rate(found["load_req_per_s"]), left=_left(found["headroom_ratio"])),
    ]  # fmt: skip
    if found["n2_headroom_ratio"] is None:
        return [*told, say("N+2 has no meaning with fewer than three replicas.")]
    line, left = rate(found["n2_line_req_per_s"]), _left(found["n2_headroom_ratio"])
    return [*told, say("With two replicas gone the load line is {line}: {left}.", line=line, left=left)]


def _extrapolated(error: Mapping[str, Any]) -> list[str]:
    """That the model was asked for more than it was fitted on, where it was."""
    share = error.get("outside_hull_ratio") or 0.0
    if share < LEAST_TOLD:
        return []
    return [say("{share} of the steps are larger than any that the model was fitted on", share=quantity.percent(share))]


def _left(ratio: float) -> str:
    if ratio < 0:
        return say("{share} too much", share=quantity.percent(-ratio))
    return say("{left} headroom", left=quantity.percent(ratio))
