"""What the Alerts page shows, piece by piece: each gives a box's content and the words in its header."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from dash import dcc, html

from dashboard import alarms, quantity
from dashboard.alarms import Rule
from dashboard.cache import Held
from dashboard.parts import section
from dashboard.parts.icon import Node, hyphened, icon
from dashboard.parts.state import tag
from dashboard.parts.tables import clock_text, simple_table, since_s
from dashboard.refresh import Refresh
from dashboard.site import Site
from dashboard.source import Question
from dashboard.words import counted, joined, said_error, say

Record = Mapping[str, Any]

MOST_ROWS = 24
MOST_CHANGES = 100
STATES: Mapping[str, tuple[str, str]] = {
    "firing": ("breach", "Firing"), "pending": ("warn", "Pending"), "inactive": ("ok", "Inactive"),
    "resolved": ("ok", "Resolved"), "ended": ("none", "Cleared"),
    "told": ("none", "Notified"), "waiting": ("warn", "Waiting"), "held": ("warn", "On hold"),
    "acting": ("warn", "Acting"),
    "acted": ("ok", "In force"), "failed": ("breach", "Failed"), "undone": ("none", "Undone"),
    "dismissed": ("none", "Dismissed"), "over": ("none", "Over"),
    "active": ("warn", "Active"), "expired": ("none", "Expired"),
}  # fmt: skip
WISHES = {"confirm": ("Confirm", "circle-check"), "dismiss": ("Dismiss", "x"), "undo": ("Undo", "refresh")}


def active(rules: Sequence[Rule], silences: Sequence[Record], begun: Refresh) -> tuple[Node, Node]:
    """Every alert that fires or waits, those that fire first; a pending one with how long it still has to hold."""
    rows = []
    counts = {"firing": 0, "pending": 0}
    for rule in rules:
        for alert in rule.alerts:
            labels = alert.get("labels", {})
            if begun.view.pools and labels.get("pool") and labels["pool"] not in begun.view.pools:
                continue
            counts[alert.get("state", "firing")] = counts.get(alert.get("state", "firing"), 0) + 1
            rows.append(
                (alert.get("state") != "firing", alert.get("activeAt", ""), _alert(rule, alert, silences, begun))
            )
    if not rows:
        quiet = "No alert is active." if rules else "No alerting rule is known."
        return section.none([icon("circle-check", 16), say(" {quiet}", quiet=quiet)]), None
    cells = [row for _, _, row in sorted(rows, key=lambda one: one[:2])]
    headings = ("State", "Alert", "Labels", "Summary", "Since", "Value", html.Span("Actions", className="vh"))
    told = say("{firing} firing, {pending} pending", firing=counts["firing"], pending=counts["pending"])
    return simple_table("Active alerts", headings, cells, (5,)), told


def _alert(rule: Rule, alert: Record, silences: Sequence[Record], begun: Refresh) -> list[Node]:
    labels: Mapping[str, str] = alert.get("labels", {})
    since = since_s(alert, begun.now_s)
    firing = alert.get("state") == "firing"
    clock = quantity.span(since)
    if not firing:
        clock = say("{span} of {whole}", span=clock, whole=quantity.span(rule.for_s))
    hushed = alarms.silencing(silences, labels)
    act: Node = section.button(
        "Silence", "bell-off", kind="btn btn-s", data_fill="al-matchers", data_text=alarms.for_labels(labels)
    )
    if hushed is not None:
        act = html.Span(
            [icon("bell-off", 14), say(" until {time}", time=_moment(hushed.get("endsAt"), begun))],
            title=hushed.get("comment"),
        )
    return [
        _tag(str(alert.get("state", ""))),
        _link(rule.name, rule.group, begun),
        _labels({name: value for name, value in labels.items() if name != "alertname"}),
        html.Span(alert.get("annotations", {}).get("summary", ""), className="wrap"),
        clock,
        _value(alert.get("value")),
        act,
    ]


def timeline(begun: Refresh, site: Site) -> tuple[Node, Node]:
    """A strip per alert: when it was pending and when it fired, from the ALERTS series of the source."""
    asked = {state: Question(f'ALERTS{{alertstate="{state}"}}') for state in ("pending", "firing")}
    answers = site.source.ranges(asked, begun.window)
    if failed := next((one.error for one in answers.values() if one.error and not one.lines), ""):
        return section.wrong(failed), None
    rows: dict[str, dict[str, list[float | None]]] = {}
    for state, found in answers.items():
        for line in found.lines:
            rows.setdefault(alarms.row_name(line.labels), {})[state] = line.values
    if not rows:
        return section.none("No alert was pending or firing in this range, or the source keeps no ALERTS series."), None
    nothing: list[float | None] = [None] * begun.window.points
    drawn = {
        name: alarms.stretches(row.get("pending", nothing), row.get("firing", nothing)) for name, row in rows.items()
    }
    busiest = sorted(drawn, key=lambda name: -sum(one.end - one.start for one in drawn[name] if one.state == "firing"))
    strips = [_strip(name, drawn[name], begun) for name in busiest[:MOST_ROWS]]
    ends = [clock_text(time_s, begun.offset_s, begun.now_s) for time_s in (begun.window.start_s, begun.window.end_s)]
    axis = html.Div([html.Span(), html.Div([html.Span(one) for one in ends], className="tl-ax")], className="tl-r")
    told = say("{n} alerts; solid: firing, hatched: pending", n=len(rows))
    return html.Div([*strips, axis], className="tl"), told


def _strip(name: str, found: Sequence[alarms.Stretch], begun: Refresh) -> Node:
    points = max(begun.window.points, 1)
    bars = [
        html.I(
            className=f"tl-{one.state}",
            style={"left": f"{one.start / points * 100:.2f}%", "width": f"{(one.end - one.start) / points * 100:.2f}%"},
        )
        for one in found
    ]
    seconds = sum(one.end - one.start for one in found if one.state == "firing") * begun.window.step_s
    spoken = say("{alert}: fired for {span} in this range", alert=name, span=quantity.span(seconds))
    track = html.Div(bars, className="tl-k", title=spoken, role="img", **hyphened(aria_label=spoken))
    return html.Div([html.Span(name, className="tl-n", title=name), track], className="tl-r")


def history(held: Held, begun: Refresh) -> tuple[Node, Node]:
    """Changes of state in the range, latest first."""
    if held.value is None:
        return section.none(say("No history: {why}.", why=said_error(held.error or ""))), None
    if not held.value:
        return section.none("Nothing changed in this range."), None
    items = [
        html.Li(
            [
                html.Time(_moment(one["at"], begun), dateTime=one["at"]),
                _tag(one["state"]),
                html.Span([_link(one["alertname"], one.get("group", ""), begun), f" {one.get('summary', '')}"]),
            ],
            className="ch-x",
        )
        for one in held.value[:MOST_CHANGES]
    ]
    return html.Ol(items, className="ch ch-al"), counted(len(held.value), "1 change", "{n} changes")


def about(rules: Sequence[Rule], begun: Refresh, site: Site) -> tuple[Node, Node]:
    """The rules that the address names, as ``group/name`` or by name alone: why they fire, what to ask, what to do."""
    asked = begun.view.own.get("rule", "")
    if not asked:
        return section.none("Choose an alert by its name: why it fires, what to ask first, what to do."), None
    found = [one for one in rules if asked in (f"{one.group}/{one.name}", one.name)]
    if not found:
        return section.none(say("No rule is named {name}.", name=asked)), None
    name, groups = found[0].name, ", ".join(dict.fromkeys(one.group for one in found))
    parts: list[Node] = [_one_rule(one, begun, site) for one in found]
    page = alarms.runbook(name)
    if page is not None:
        parts.append(html.Div([html.H3("Runbook"), html.Div(dcc.Markdown(page), lang="en")], className="rb"))
    return html.Div(parts), say("{rule}, group {group}", rule=name, group=groups)


def _one_rule(rule: Rule, begun: Refresh, site: Site) -> Node:
    told_of = rule.annotations
    rows: dict[str, Node] = {
        "State": _tag(rule.state),
        "Fires when": _query(rule.expr, begun, site),
        "For": quantity.span(rule.for_s),
        "Labels": _labels(rule.labels),
    }
    for title, key in (
        ("Summary", "summary"),
        ("Description", "description"),
        ("Causes", "causes"),
        ("Remedy", "remedy"),
    ):
        if told_of.get(key):
            rows[title] = told_of[key]
    if told_of.get("query"):
        rows["First query"] = _query(told_of["query"], begun, site)
    if rule.error:
        rows["Fails with"] = html.Span(rule.error, className="tb-e")
    buttons = [
        section.button("Edit and try", "adjustments", kind="btn btn-s", data_fill="al-yaml", data_text=rule.as_yaml())
    ]
    if told_of.get("runbook_url", "").startswith(("http://", "https://")):
        buttons.append(html.A("Runbook", href=told_of["runbook_url"], className="btn btn-s", rel="noopener"))
    return html.Div([section.facts(rows), html.Div(buttons, className="dl")])


def responses(held: Held, begun: Refresh) -> tuple[Node, Node]:
    """What was or may be done about alerts, with what is allowed now."""
    if held.value is None:
        return section.none(say("No responses: {why}.", why=said_error(held.error or ""))), None
    found, gateway = held.value.get("responses", ()), held.value.get("gateway")
    sub = (
        say("through {gateway}", gateway=gateway)
        if gateway
        else "no gateway is configured: nothing can be done automatically"
    )
    if not found:
        return section.none("No response was asked for."), sub
    headings = ("State", "Response", "Alert", "Targets", "Since", "What", html.Span("Actions", className="vh"))
    return simple_table("Responses", headings, [_response(one, begun) for one in found]), sub


def _response(one: Record, begun: Refresh) -> list[Node]:
    what = one.get("error") or "; ".join(f"{step['change']} {_compact(step['body'])}" for step in one.get("did", ()))
    last = one["log"][-1] if one.get("log") else None
    if not what and last:
        what = last["what"]
    buttons = [
        section.button(
            WISHES[wish][0], WISHES[wish][1], kind="btn btn-s", data_post="respond",
            data_body=orjson.dumps({"id": one["id"], "wish": wish}).decode(),
        )
        for wish in one.get("allowed", ()) if wish in WISHES
    ]  # fmt: skip
    since: Node = _moment(one["changedAt"], begun)
    if one.get("by"):
        since = say("{time} by {who}", time=since, who=one["by"])
    return [
        _tag(one["state"]),
        [html.Span(one["response"], className="tb-n"), say(" ({mode})", mode=one["mode"])],
        _link(one["alertname"], one.get("group", ""), begun),
        ", ".join(one.get("targets", ())) or "all",
        since,
        html.Span(what, className="wrap tb-e" if one.get("error") else "wrap"),
        html.Span(buttons, className="acts"),
    ]


def silenced(held: Held, begun: Refresh) -> tuple[Node, Node]:
    """Silences, those in force first."""
    if held.value is None:
        return section.none(say("No silences: {why}.", why=said_error(held.error or ""))), None
    order = {"active": 0, "pending": 1, "expired": 2}
    found = sorted(held.value, key=lambda one: (order.get(one["status"]["state"], 3), one["endsAt"]))
    in_force = sum(one["status"]["state"] == "active" for one in found)
    if not found:
        return section.none("No silence is kept."), None
    rows = []
    for one in found[:MOST_ROWS]:
        state = one["status"]["state"]
        end = section.button(
            "Expire",
            "x",
            kind="btn btn-s",
            data_post="silence-expire",
            data_body=orjson.dumps({"id": one["id"]}).decode(),
        )
        rows.append([
            _tag(state), html.Code(alarms.written(alarms.matchers_of(one))), one["createdBy"], one["comment"],
            _moment(one["startsAt"], begun), _moment(one["endsAt"], begun), end if state != "expired" else None,
        ])  # fmt: skip
    headings = ("State", "Alerts with", "Author", "Comment", "From", "Until", html.Span("Actions", className="vh"))
    return simple_table("Silences", headings, rows), say("{n} in force", n=in_force)


def every_rule(rules: Sequence[Rule], begun: Refresh) -> tuple[Node, Node]:
    """All alerting rules, those that fire or fail first."""
    if not rules:
        return section.none("No alerting rule is known: neither the alerts process nor the source lists any."), None
    rows = [
        [
            _tag(rule.state), _link(rule.name, rule.group, begun), rule.group,
            quantity.span(rule.for_s) if rule.for_s else "at once", rule.labels.get("severity", quantity.ABSENT),
            html.Span(rule.error, className="tb-e wrap") if rule.error else rule.health,
        ]
        for rule in rules
    ]  # fmt: skip
    failing = sum(rule.health == "err" for rule in rules)
    told = [counted(len(rules), "1 rule", "{n} rules")] + ([say("{n} failing", n=failing)] if failing else [])
    return simple_table("All rules", ("State", "Rule", "Group", "For", "Severity", "Health"), rows), joined(told)


def verdict(found: Record, since: str) -> Node:
    """What the alerts process says of a rule file, and how often its rules would have fired."""
    word = tag("ok", "Valid") if found["valid"] else tag("breach", "Not valid")
    rules = counted(found["rules"], "1 rule", "{n} rules") if found["valid"] else ""
    parts: list[Node] = [html.P([word, " ", rules], className="none")]
    parts += [html.P(f"{one['line']}:{one['column']}: {one['message']}", className="pr") for one in found["problems"]]
    parts += [html.P(one, className="wn") for one in found["warnings"]]
    parts += [_finding(one) for one in found["findings"]]
    if found["previewError"]:
        parts.append(section.wrong(say("No preview: {why}", why=found["previewError"])))
    if found["preview"] is not None:
        parts.append(_preview(found["preview"], since))
    return html.Div(parts)


def _finding(one: Record) -> Node:
    mended: list[Node] = [html.Br(), "better: ", html.Code(one["mended"])] if one.get("mended") else []
    return html.P([f"{one['line']}:{one['column']}: {one['rule']}: {one['message']}", *mended], className="wn")


def _preview(found: Sequence[Record], since: str) -> Node:
    rows = [
        [
            one["rule"], quantity.count(one["fired"]), quantity.count(one["pendingOnly"]),
            quantity.span(one["firingSeconds"]),
            html.Span(one["error"], className="tb-e") if one["error"] else "",
        ]
        for one in found
    ]  # fmt: skip
    if not rows:
        return section.none("There is no alerting rule to play.")
    headings = ("Rule", say("would have fired, last {span}", span=since), "pending only", "for", "")
    return simple_table("Preview", headings, rows, (1, 2, 3))


def _tag(state: str) -> Node:
    kind, word = STATES.get(state, ("none", state.capitalize()))
    return tag(kind, word)  # type: ignore[arg-type]


def _link(name: str, group: str, begun: Refresh) -> Node:
    """To what is told of the rules of this name in this group; of any group where it is not known."""
    search = begun.view.search(rule=f"{group}/{name}" if group else name)
    return html.A(name, href=f"alerts{search}", className="tb-n", **hyphened(data_nav="1"))


def _labels(labels: Mapping[str, str]) -> Node:
    return html.Span([html.Code(f"{name}={value}") for name, value in sorted(labels.items())], className="lb wrap")


def _query(text: str, begun: Refresh, site: Site) -> Node:
    href = site.href("explore", begun.view.search(expr=text))
    shown = text if len(text) <= 300 else f"{text[:300]} …"
    return [
        html.Code(shown, title=text),
        " ",
        html.A("Open in Explore", href=href, className="btn btn-s", **hyphened(data_nav="1")),
    ]


def _moment(text: Any, begun: Refresh) -> str:
    try:
        return clock_text(datetime.fromisoformat(str(text)).timestamp(), begun.offset_s, begun.now_s)
    except ValueError:
        return quantity.ABSENT


def _value(text: Any) -> str:
    try:
        return quantity.count(float(text))
    except (TypeError, ValueError):
        return quantity.ABSENT


def _compact(body: Any) -> str:
    return orjson.dumps(body).decode()
