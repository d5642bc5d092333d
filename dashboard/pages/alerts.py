"""Alerts: what fires and waits, what did, why and what to do; silences, responses, and a rule to try out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dash import Dash, Input, Output, State, dcc, html
from dash.exceptions import PreventUpdate

from dashboard import alarms
from dashboard.access import Person, Role
from dashboard.actions import Fields, Run, add_action
from dashboard.alerting import Alerting
from dashboard.board import stamped, told
from dashboard.cache import Held
from dashboard.errors import ActionRefused, AlertingError
from dashboard.page import Page
from dashboard.parts import alarms as show
from dashboard.parts import section
from dashboard.parts.icon import Node, hyphened, icon
from dashboard.refresh import Refresh, begin
from dashboard.site import Site
from dashboard.view import Window
from dashboard.words import said_error, say

Record = Mapping[str, Any]

TTL_S = 4.0
BOXES = ("al-active", "al-line", "al-changes", "al-rule", "al-responses", "al-silences", "al-rules")
SILENCE_HOURS = (("1", "1 hour"), ("4", "4 hours"), ("24", "1 day"), ("72", "3 days"), ("168", "7 days"))
EXAMPLE = """groups:
  - name: mine
    rules:
      - alert: QueueTooLong
        expr: sum by (model_name) (loadline_num_requests_waiting) > 20
        for: 2m
        labels: {severity: ticket}
        annotations:
          summary: '{{ $labels.model_name }}: {{ $value }} requests wait'
"""


def layout() -> Node:
    """The page before its data."""
    return html.Div(
        [
            html.H1("Alerts", className="vh"),
            dcc.Store(id="al-stamp"),
            html.Div(id="al-note"),
            html.Div(
                [
                    section.box("al-active", "Active now", 12),
                    section.box("al-rule", "About the alert", 12),
                    section.box("al-line", "When they fired", 8),
                    section.box("al-changes", "History", 4),
                    section.box("al-responses", "Responses", 12),
                    html.Section(
                        [
                            section.head("al-silences", "Silences"),
                            html.Div(id="al-silences", className="p-x"),
                            _silence_form(),
                        ],
                        className="panel c12", **hyphened(aria_label="Silences"),
                    ),
                    section.box("al-rules", "All rules", 12),
                    section.box("", "Try a rule", 12, body=_editor()),
                ],
                className="grid",
            ),
        ],
        className="page",
    )  # fmt: skip


def _silence_form() -> Node:
    matchers = dcc.Input(
        id="al-matchers", name="matchers", type="text", className="in", placeholder='alertname="HighTTFT", pool="chat"'
    )
    hours = html.Select([html.Option(text, value=value) for value, text in SILENCE_HOURS], name="hours", className="in")
    author = dcc.Input(id="al-author", name="author", type="text", className="in", placeholder="as signed in")
    comment = dcc.Input(id="al-comment", name="comment", type="text", className="in", placeholder="why")
    fields = [
        html.Label([html.Span("Silence alerts with"), matchers], className="fd wide"),
        section.field("for", hours),
        section.field("Author", author),
        section.field("Comment", comment),
        section.button("Silence", "bell-off", kind="btn btn-p", data_post="silence"),
    ]
    why = html.P(className="act-why", role="alert")
    return html.Div([html.Div(fields, className="fm"), why], **hyphened(data_form="1"))


def _editor() -> Node:
    text = dcc.Textarea(id="al-yaml", value=EXAMPLE, className="in", spellCheck=False)
    since = dcc.Input(id="al-since", type="text", value="24h", className="in", size="6")
    check = html.Button([icon("player-play", 15), html.Span("Check and preview")], id="al-check", type="button",
                        className="btn btn-p")  # fmt: skip
    return html.Div(
        [
            html.P(
                "A rule file as Prometheus reads it. It is checked, looked at for common mistakes, and played over the "
                "source's history; nothing is saved.",
                className="none",
            ),
            html.Label([html.Span("Rules, YAML", className="vh"), text], className="fd"),
            html.Div([html.Label(["over the last ", since], className="fm-b"), check], className="fm-b"),
            html.Div(id="al-checked", **hyphened(aria_live="polite")),
        ],
        className="ed",
    )


def wire(app: Dash, site: Site) -> None:
    """Register the page's callbacks and its buttons."""
    outputs = [Output(name, "children") for box in BOXES for name in (box, f"{box}-sub")]

    @app.callback([Output("al-note", "children"), *outputs, Output("al-stamp", "data")], Input("tick", "data"))
    def refresh(tick: Mapping[str, Any] | None) -> list[Any]:
        if tick is None:
            raise PreventUpdate
        begun = begin(tick, site.source)
        return [*answer(begun, site), begun.stamp()]

    @app.callback(
        Output("al-checked", "children"), Input("al-check", "n_clicks"), State("al-yaml", "value"),
        State("al-since", "value"), prevent_initial_call=True,
    )  # fmt: skip
    def check(clicks: int | None, text: str | None, since: str | None) -> Node:
        return checked(site, text or "", since or "24h")

    stamped(app, "al-stamp")
    for name, act in ACTIONS.items():
        add_action(app.server, site.prefix, name, Role.OPERATOR, _on(act, site))


def _on(act: Callable[[Fields, Person, Site], Mapping[str, Any]], site: Site) -> Run:
    return lambda fields, person: act(fields, person, site)


def alerting_of(site: Site) -> Alerting:
    """The alerts process. Raises ActionRefused where there is none."""
    if site.services.alerting is None:
        raise ActionRefused("this dashboard is served without an alerts process", 503)
    return site.services.alerting


def silence(fields: Fields, person: Person, site: Site) -> Mapping[str, Any]:
    """Keep alerts quiet."""
    author = str(fields.get("author", "")).strip() or ("" if person.name == "local" else person.name)
    matchers, hours, comment = (str(fields.get(name, "")) for name in ("matchers", "hours", "comment"))
    body = alarms.silence_body(matchers, hours, author, comment, site.source.clock())
    _refusing(lambda: alerting_of(site).silence(body))
    return {"said": "Silenced"}


def expire(fields: Fields, person: Person, site: Site) -> Mapping[str, Any]:
    """End a silence now."""
    name = str(fields.get("id", ""))
    if not alarms.NAME.fullmatch(name):
        raise ActionRefused(say("{id} is no id of a silence", id=repr(name[:40])))
    _refusing(lambda: alerting_of(site).expire(name))
    return {"said": "The silence is over"}


def respond(fields: Fields, person: Person, site: Site) -> Mapping[str, Any]:
    """Confirm, dismiss or undo a response."""
    name, wish = str(fields.get("id", "")), str(fields.get("wish", ""))
    if wish not in show.WISHES or not alarms.NAME.fullmatch(name):
        raise ActionRefused(
            say("wish is {wish}; allowed are {allowed}", wish=repr(wish[:40]), allowed=", ".join(show.WISHES))
        )
    after = _refusing(lambda: alerting_of(site).decide(name, wish, person.name, str(fields.get("comment", ""))))
    word = show.STATES.get(after["state"], ("none", after["state"]))[1]
    return {"said": say("{response}: {state}", response=after["response"], state=word)}


def _refusing(ask: Callable[[], Any]) -> Any:
    """What the alerts process answers; its refusal is ours, with its status."""
    try:
        return ask()
    except AlertingError as error:
        status = error.status if error.status is not None and 400 <= error.status < 500 else 502
        raise ActionRefused(said_error(error), 502 if status in (401, 403) else status) from error


def answer(begun: Refresh, site: Site) -> list[Any]:
    """Note and boxes of one refresh."""
    held = _held(site, "rules", lambda one: one.rules())
    note = told(begun)
    groups = held.value
    if groups is None:
        groups, note = _from_source(site), note or _away(site, held)
    rules = alarms.rules_of(groups)
    silences = _held(site, "silences", lambda one: one.silences())
    changes = _held(site, "history", lambda one: one.history(begun.window.start_s, begun.window.end_s), begun.window)
    responses = _held(site, "responses", lambda one: one.responses())
    return [
        note,
        *show.active(rules, silences.value or (), begun),
        *show.timeline(begun, site),
        *show.history(changes, begun),
        *show.about(rules, begun, site),
        *show.responses(responses, begun),
        *show.silenced(silences, begun),
        *show.every_rule(rules, begun),
    ]


def _held(site: Site, name: str, ask: Callable[[Alerting], Any], window: Window | None = None) -> Held:
    alerting = site.services.alerting
    if alerting is None:
        return Held(error=AlertingError("this dashboard is served without an alerts process (--alerts)"))
    kin = f"alerting {name}"
    key = kin if window is None else f"{kin} {window.start_s} {window.end_s}"
    return site.source.kept(key, lambda: ask(alerting), TTL_S, kin=kin)


def _from_source(site: Site) -> Sequence[Record]:
    """Groups of rules as the source itself lists them; none where it does not."""
    groups: Sequence[Record] = site.source.kept("rules", site.source.client.rules, TTL_S).value or ()
    return groups


def _away(site: Site, held: Held) -> Node:
    text = say(
        "{why}. Rules below are those that {address} lists; silences, responses and history wait.",
        why=said_error(held.error or ""), address=site.source.address,
    )  # fmt: skip
    return html.P(text, className="note", role="alert")


def checked(site: Site, text: str, since: str) -> Node:
    """What the alerts process says of a rule file."""
    if site.services.alerting is None:
        return section.wrong("This dashboard is served without an alerts process (--alerts).")
    try:
        found = site.services.alerting.check(text, since.strip())
    except AlertingError as error:
        return section.wrong(said_error(error))
    return show.verdict(found, since.strip())


ACTIONS: Mapping[str, Callable[[Fields, Person, Site], Mapping[str, Any]]] = {
    "silence": silence, "silence-expire": expire, "respond": respond,
}  # fmt: skip

PAGE = Page(path="/alerts", title="Alerts", icon="bell", key="n", layout=layout, wire=wire)
