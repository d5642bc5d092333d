"""Firing alerts and changes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dash import html

from dashboard import quantity
from dashboard.figures.chart import Mark
from dashboard.parts.icon import Node, hyphened, icon
from dashboard.parts.state import tag
from dashboard.words import say

ICONS = {
    "deploy": "rocket", "scale": "stack-2", "target": "plug-connected-x", "restart": "refresh", "alert": "bell",
    "resolved": "circle-check", "back": "plug-connected",
}  # fmt: skip
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
HEADINGS = ("State", "Rule", "Pool", "Value", "For", "Severity")


def clock_text(time_s: float, offset_s: int, now_s: float) -> str:
    """A moment on the viewer's clock: the time of day, with the date where it is not today's."""
    moment = datetime.fromtimestamp(time_s + offset_s, UTC)
    today = datetime.fromtimestamp(now_s + offset_s, UTC).date() == moment.date()
    if today:
        return f"{moment:%H:%M}"
    return say("{day} {month} {time}", day=f"{moment:%d}", month=MONTHS[moment.month - 1], time=f"{moment:%H:%M}")


def alert_rows(alerts: Sequence[Mapping[str, Any]], now_s: float) -> Node:
    """Active alerts as Prometheus lists them, firing first."""
    ranked = sorted(alerts, key=lambda alert: (alert.get("state") != "firing", alert.get("activeAt", "")))
    head = html.Thead(html.Tr([html.Th(heading, scope="col") for heading in HEADINGS]))
    return html.Div(
        html.Table([head, html.Tbody([_alert(alert, now_s) for alert in ranked])], className="tb"),
        className="ox",
        tabIndex=0,
        role="region",
        **hyphened(aria_label="Firing alerts table"),
    )


def simple_table(
    label: str, headings: Sequence[Node], rows: Sequence[Sequence[Node]], numeric: Sequence[int] = ()
) -> Node:
    """A table that scrolls sideways where it must; ``numeric`` are the columns set to the right."""
    kinds = ["num" if index in numeric else "" for index in range(len(headings))]
    head = html.Thead(
        html.Tr([html.Th(one, scope="col", className=kind) for one, kind in zip(headings, kinds, strict=True)])
    )
    body = html.Tbody(
        [html.Tr([html.Td(cell, className=kind) for cell, kind in zip(row, kinds, strict=True)]) for row in rows]
    )
    return html.Div(
        html.Table([head, body], className="tb"), className="ox", tabIndex=0, role="region",
        **hyphened(aria_label=say("{title}, table", title=label)),
    )  # fmt: skip


def _alert(alert: Mapping[str, Any], now_s: float) -> Node:
    labels: Mapping[str, str] = alert.get("labels", {})
    firing = alert.get("state") == "firing"
    summary = alert.get("annotations", {}).get("summary", "")
    cells = [
        tag("breach", "Firing") if firing else tag("warn", "Pending"),
        html.Span(labels.get("alertname", ""), className="tb-n", title=summary),
        labels.get("pool") or labels.get("model_name") or labels.get("instance") or quantity.ABSENT,
        _number(alert.get("value")),
        quantity.span(since_s(alert, now_s)),
        labels.get("severity", quantity.ABSENT),
    ]
    return html.Tr([html.Td(cell) for cell in cells])


def since_s(alert: Mapping[str, Any], now_s: float) -> float | None:
    """For how long an alert has been active, seconds; None where the list does not say."""
    try:
        return now_s - datetime.fromisoformat(str(alert.get("activeAt", ""))).timestamp()
    except ValueError:
        return None


def _number(text: Any) -> str:
    try:
        return quantity.count(float(text))
    except (TypeError, ValueError):
        return quantity.ABSENT


def change_list(marks: Sequence[Mark], offset_s: int, now_s: float) -> Node:
    """What changed, newest first."""
    items = [
        html.Li(
            [
                html.Time(
                    clock_text(one.time_s, offset_s, now_s),
                    dateTime=datetime.fromtimestamp(one.time_s, UTC).isoformat(),
                ),
                icon(ICONS.get(one.kind, "info-circle"), 15),
                html.Span(one.text),
            ],
            className=f"ch-{one.kind}",
        )
        for one in marks
    ]
    return html.Ol(items, className="ch")
