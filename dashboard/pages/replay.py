"""Replay: choose or send a trace, look at it, play it against a server, stop it, and compare two runs."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from dash import Dash, Input, Output, dcc, html
from dash.exceptions import PreventUpdate
from flask import Response, request

from dashboard import quantity, theme
from dashboard.access import Person, Role
from dashboard.actions import BELOW, Fields, add_action, answered, audit, no_role, person_of_request, refused
from dashboard.board import stamped, told
from dashboard.cache import Late
from dashboard.errors import ActionRefused
from dashboard.figures import chart, curve
from dashboard.jobs import Job, key_of
from dashboard.page import Page
from dashboard.parts import section
from dashboard.parts.icon import Node, hyphened
from dashboard.parts.state import tag
from dashboard.parts.tables import clock_text, simple_table
from dashboard.refresh import Refresh, begin
from dashboard.replays import Replays
from dashboard.site import Site
from dashboard.view import parse, replaced
from dashboard.words import counted, joined, said_error, said_reason, say
from planner.replay.runs import RunMeta
from planner.significance import Compared, Difference, differences

BOXES = (
    "re-note",
    "re-of",
    "re-against",
    "re-trace",
    "re-trace-sub",
    "re-runs",
    "re-runs-sub",
    "re-compare",
    "re-compare-sub",
)
STATES: Mapping[str, tuple[Any, str]] = {
    "preparing": ("warn", "Preparing"), "running": ("warn", "Running"), "finished": ("ok", "Finished"),
    "stopped": ("none", "Stopped"), "failed": ("breach", "Failed"), "lost": ("breach", "Lost"),
}  # fmt: skip
LATENCIES = {"ttft_due_s": "TTFT", "tpot_s": "TPOT", "e2e_due_s": "E2E"}
NUMBERS: Mapping[str, tuple[type, float, float]] = {
    "speed": (float, 0.001, 1000), "token_scale": (float, 0.0001, 1000), "max_requests": (int, 1, 1e9),
    "max_duration": (float, 0.1, 1e7), "seed": (int, 0, 2**31),
}  # fmt: skip
"""Options of a run that the form sets: kind and bounds."""

MOST_RUNS = 50
KEPT_S = 3600.0
CHUNK_BYTES = 1 << 20


def layout() -> Node:
    """The page before its data."""
    return html.Div(
        [
            html.H1("Replay", className="vh"),
            dcc.Store(id="re-stamp"),
            html.Div(id="re-note"),
            html.Div(
                [
                    section.box("", "Play a trace", 6, body=_form()),
                    section.box("re-trace", "The trace", 6),
                    section.box("re-runs", "Runs", 12),
                    section.box("re-compare", "Compare two runs", 12),
                ],
                className="grid",
            ),
        ],
        className="page",
    )


def _form() -> Node:
    fields = [
        html.Label(["Trace", html.Div(id="re-of")], className="fd"),
        html.Label(["Target", html.Div(id="re-against")], className="fd"),
        section.field("Speed, times the trace's", section.number("speed", least=0.001, hint="1")),
        section.field("Token lengths, times", section.number("token_scale", least=0.0001, hint="1")),
        section.field("Requests, at most", section.number("max_requests", step=1, least=1, hint="all")),
        section.field("Seconds, at most", section.number("max_duration", least=0.1, hint="all")),
        section.field("Seed of the prompts", section.number("seed", step=1, least=0, hint="0")),
    ]
    buttons = [
        section.button("Play", "player-play", kind="btn btn-p", data_post="replay-start"),
        section.button("Upload a trace", "upload", data_upload="trace-upload"),
        html.P(className="act-why", role="alert"),
    ]
    return html.Div(
        [html.Div(fields, className="fm"), html.Div(html.Div(buttons, className="fm-b"), className="dl")],
        **hyphened(data_form="1"),
    )


def wire(app: Dash, site: Site) -> None:
    """Register the page's callback, its buttons and the upload."""

    @app.callback([*(Output(box, "children") for box in BOXES), Output("re-stamp", "data")], Input("tick", "data"))
    def refresh(tick: Mapping[str, Any] | None) -> list[Any]:
        if tick is None:
            raise PreventUpdate
        return answer(begin(tick, site.source), site)

    stamped(app, "re-stamp")
    add_action(app.server, site.prefix, "replay-start", Role.OPERATOR, partial(start, site))
    add_action(app.server, site.prefix, "replay-stop", Role.OPERATOR, partial(stop, site))
    add_action(app.server, site.prefix, "trace-inspect", Role.VIEWER, partial(inspect, site))
    app.server.add_url_rule(
        f"{site.prefix}{BELOW}trace-upload", "do-trace-upload", partial(upload, site), methods=["POST"]
    )


def replays_of(site: Site) -> Replays:
    """Traces and runs. Raises ActionRefused where there are none."""
    if site.services.replays is None:
        raise ActionRefused("this dashboard is served without runs", 503)
    return site.services.replays


def start(site: Site, fields: Fields, person: Person) -> Mapping[str, Any]:
    """Play the trace that the address names."""
    own = parse(str(fields.get("search", ""))).own
    replays = replays_of(site)
    trace, target = chosen(own, replays)
    run = replays.start(trace, target, options(own))
    return {"said": say("Playing {run}", run=run.id)}


def options(own: Mapping[str, str]) -> dict[str, str | int | float | None]:
    """What of a run the address sets. Raises ActionRefused with the name, the value and what is allowed."""
    found: dict[str, str | int | float | None] = {}
    for name, (kind, least, most) in NUMBERS.items():
        text = own.get(name, "")
        if not text:
            continue
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            allowed = {"least": f"{least:g}", "most": f"{most:g}"}
            told = say("{given} is not a number from {least} to {most}", given=f"{name}={text[:20]}", **allowed)
            raise ActionRefused(told)
        found[name] = value
    return found


def chosen(own: Mapping[str, str], replays: Replays) -> tuple[str, str]:
    """(trace, target) of the address, or the first of each."""
    traces, targets = replays.traces(), replays.targets
    trace = own.get("trace_file") or (traces[0].name if traces else "")
    return trace, own.get("target") or (targets[0] if targets else "")


def stop(site: Site, fields: Fields, person: Person) -> Mapping[str, Any]:
    """Stop a run; it keeps what it has."""
    replays_of(site).stop(str(fields.get("id", "")))
    return {"said": "Stopping"}


def inspect(site: Site, fields: Fields, person: Person) -> Mapping[str, Any]:
    """Have the chosen trace read."""
    if site.services.jobs is None:
        raise ActionRefused("this dashboard is served without a job table", 503)
    replays = replays_of(site)
    found = replays.trace(chosen(parse(str(fields.get("search", ""))).own, replays)[0])
    question = inspection(found.path)
    site.services.jobs.start(key_of(question), question)
    return {}


def inspection(path: Path) -> dict[str, Any]:
    """The job that reads a trace; another when the file has changed."""
    told_of = path.stat()
    return {"kind": "inspect", "path": str(path), "size": told_of.st_size, "changed_ns": told_of.st_mtime_ns}


def upload(site: Site) -> Response:
    """Take a file as the body of a POST, straight to disk."""
    person, name = person_of_request(), request.args.get("name", "")
    what = "do/trace-upload"
    if not person.may(Role.OPERATOR):
        return refused(what, person, no_role(Role.OPERATOR, person), 403)
    try:
        replays = replays_of(site)
        request.max_content_length = replays.max_upload_bytes + 1
        found = replays.receive(name, iter(partial(request.stream.read, CHUNK_BYTES), b""))
    except ActionRefused as error:
        return refused(what, person, said_error(error), error.status)
    audit(what, person, 200, {"name": found.name, "bytes": found.size_bytes})
    search = replaced(urlsplit(request.referrer or "").query, trace_file=found.name)
    return answered({"said": say("{trace} is here", trace=found.name), "search": search}, 200)


def answer(begun: Refresh, site: Site) -> list[Any]:
    """All outputs of one refresh."""
    replays, note = site.services.replays, told(begun)
    if replays is None:
        why = section.none("This dashboard is served without runs.")
        return [note, None, None, why, None, why, None, why, None, begun.stamp()]
    traces = replays.traces()
    name, target = chosen(begun.view.own, replays)
    runs = list(replays.runs())
    trace, trace_sub, reading = _trace(name, site, replays)
    soon = reading or any(run.going for run in runs)
    return [
        note,
        _select("trace_file", "Trace", [one.name for one in traces], name, "no trace is there"),
        _select("target", "Target", replays.targets, target, "none is allowed: set --replay-targets"),
        trace, trace_sub,
        *_runs(runs, begun),
        *_compare(runs, begun, site, replays),
        begun.stamp(soon=soon),
    ]  # fmt: skip


def _select(name: str, label: str, values: Sequence[str], shown: str, nothing: str) -> Node:
    options = [html.Option(value, value=value) for value in values] or [html.Option(nothing, value="")]
    return html.Div(
        html.Select(options, id=f"param-{name}", className="in", **hyphened(aria_label=label)),
        **hyphened(data_usual=values[0] if values else ""),
    )


def _trace(name: str, site: Site, replays: Replays) -> tuple[Node, Node, bool]:
    """What the chosen trace is, its header's words, and whether it is being read."""
    try:
        found = replays.trace(name)
    except ActionRefused:
        return section.none("No trace is there: send one, or name its folder with --traces."), None, False
    jobs = site.services.jobs
    if jobs is None:
        return section.none("This dashboard is served without a job table: traces are not read."), None, False
    size = say("{size}, uploaded" if found.uploaded else "{size}", size=f"{quantity.count(found.size_bytes)}B")
    job = jobs.get(key_of(inspection(found.path)))
    if job is None:
        return html.Div(html.Div(**hyphened(data_auto="trace-inspect")), className="pg-r"), size, True
    if job.going:
        return section.progress(job), size, True
    if job.result is None:
        return section.wrong(say("It cannot be read: {why}.", why=said_reason(job.error) or "cancelled")), size, False
    return _inspected(job), size, False


def _inspected(job: Job) -> Node:
    report = job.result or {}
    said = html.Ul([html.Li(said_reason(one)) for one in report["findings"]], className="says")
    lengths = next((table for table in report["tables"] if table["title"] == "Lengths"), None)
    parts: list[Node] = [said]
    if lengths is not None:
        rows = [[cell if isinstance(cell, str) else quantity.count(cell) for cell in row] for row in lengths["rows"]]
        parts.append(simple_table("Lengths", lengths["columns"], rows, range(1, len(lengths["columns"]))))
    course = next((one for one in report["charts"] if one["y_title"] == "requests/s"), None)
    if course is not None:
        parts.append(_bars(course))
    return html.Div(parts)


def _bars(course: Mapping[str, Any]) -> Node:
    series = course["series"][0]
    title = said_reason(course["title"])
    drawn = curve.layout(chart.PLAIN, height=150, x_title=said_reason(course["x_title"]))
    drawn["bargap"] = 0
    bars = {
        "type": "bar", "x": series["x"], "y": series["y"], "marker": {"color": theme.BLUE},
        "hovertemplate": "%{y:.3~g}/s<extra></extra>",
    }  # fmt: skip
    graph = dcc.Graph(figure={"data": [bars], "layout": drawn}, config=chart.CONFIG, style={"height": 150})
    drawn_in = html.Div(graph, className="p-g", role="img", **hyphened(aria_label=title))
    return html.Div([html.P(title, className="none"), drawn_in])


def _runs(runs: Sequence[RunMeta], begun: Refresh) -> tuple[Node, Node]:
    if not runs:
        return section.none("No run is kept. Play a trace: loadline replay run puts its runs here too."), None
    headings = ("State", "Started", "Trace", "Target", "Progress", "Requests", "Failed", "TTFT p95", "ITL p95",
                "Goodput", "Compare", html.Span("Actions", className="vh"))  # fmt: skip
    rows = [_run(run, begun) for run in runs[:MOST_RUNS]]
    going = sum(run.going for run in runs)
    told = [counted(len(runs), "1 run", "{n} runs")] + ([say("{n} going", n=going)] if going else [])
    return simple_table("Runs", headings, rows, (5, 6, 7, 8, 9)), joined(told)


def _run(run: RunMeta, begun: Refresh) -> list[Node]:
    kind, word = STATES[run.state]
    latency = (run.summary or {}).get("latency", {})
    share = run.ended / run.planned if run.planned else 0.0
    progress: Node = section.bar(share, quantity.span(run.elapsed_s)) if run.going else quantity.span(run.elapsed_s)
    whys = [run.error] if run.error else run.reasons if run.valid is False else ()
    state: Node = [tag(kind, word), *(html.Div(said_reason(why), className="wn wrap") for why in whys)]
    stop_it = section.button(
        "Stop",
        "player-stop",
        kind="btn btn-s",
        data_post="replay-stop",
        data_body=orjson.dumps({"id": run.id}).decode(),
    )
    choices = [_choice(name, run, begun) for name in ("a", "b")] if run.state in ("finished", "stopped") else []
    return [
        state, clock_text(datetime.fromisoformat(run.started_at).timestamp(), begun.offset_s, begun.now_s),
        html.Span(Path(run.trace).name, className="tb-n", title=_told_options(run)), run.target, progress,
        say("{n} of {all}", n=run.ended, all=run.planned) if run.going else quantity.count(run.ended),
        quantity.count(run.failed),
        quantity.duration(_p95(latency, "ttft_due_s")), quantity.duration(_p95(latency, "itl_s")),
        quantity.percent((run.summary or {}).get("goodput_ratio"), 1), html.Span(choices, className="acts"),
        stop_it if run.going else None,
    ]  # fmt: skip


def _told_options(run: RunMeta) -> str:
    return ", ".join(f"{name} {value}" for name, value in run.options.items()) or say("as it is")


def _choice(name: str, run: RunMeta, begun: Refresh) -> Node:
    own = {key: value for key, value in begun.view.own.items() if key != name}
    pressed = begun.view.own.get(name) == run.id
    href = f"replay{begun.view.search(**own, **({} if pressed else {name: run.id}))}"
    spoken = say("Compare as {side}: {run}", side=name.upper(), run=run.id)
    kind = "btn btn-s btn-p" if pressed else "btn btn-s"
    return html.A(name.upper(), href=href, className=kind, title=spoken, **hyphened(data_nav="1", aria_label=spoken))


def _p95(latency: Mapping[str, Any], name: str) -> float | None:
    value: float | None = (latency.get(name) or {}).get("p95")
    return value


def _compare(runs: Sequence[RunMeta], begun: Refresh, site: Site, replays: Replays) -> tuple[Node, Node]:
    own = begun.view.own
    picked = {name: next((run for run in runs if run.id == own.get(name)), None) for name in ("a", "b")}
    a, b = picked["a"], picked["b"]
    if a is None or b is None:
        unknown = [own[name] for name in ("a", "b") if own.get(name) and picked[name] is None]
        why = say("No run is named {run}.", run=unknown[0]) if unknown else "Choose a run as A and another as B."
        return section.none(why), None
    key = f"runs {a.id} {a.updated_at} {b.id} {b.updated_at}"
    held = site.source.kept(key, lambda: differences(replays.store.load(a.id), replays.store.load(b.id)), KEPT_S, 3.0)
    if held.value is None:
        if isinstance(held.error, Late):
            return section.none("The runs are being read."), None
        return section.wrong(said_error(held.error or "")), None
    found: Compared = held.value
    how = (
        "request by request"
        if found.paired
        else "other traces or shapes: as two groups, so weigh the difference with care"
    )
    rows = [_difference(one) for one in found.differences]
    if not rows:
        return section.none("No request ended well in both."), None
    headings = ("Latency", "Requests", f"A: {a.id}", f"B: {b.id}", "B - A", "95 % interval", "Verdict")
    note = section.none(
        "Intervals: blocks of 25 successive requests, drawn again and again; from the moment each was due."
    )
    return [simple_table("Comparison", headings, rows, (1, 2, 3, 4, 5)), note], how


def _difference(one: Difference) -> list[Node]:
    verdicts: Mapping[bool | None, Node] = {
        None: tag("none", "Too few to tell"), False: tag("none", "No difference shown"),
        True: tag("breach", "B is slower") if one.difference_s > 0 else tag("ok", "B is faster"),
    }  # fmt: skip
    interval = quantity.ABSENT
    if one.low_s is not None and one.high_s is not None:
        interval = say("{low} to {high}", low=_signed(one.low_s), high=_signed(one.high_s))
    latency = say("{latency} p{quantile}", latency=LATENCIES[one.metric], quantile=f"{one.quantile * 100:.0f}")
    return [
        latency, quantity.count(one.n), quantity.duration(one.a_s), quantity.duration(one.b_s),
        _signed(one.difference_s), interval, verdicts[one.differs],
    ]  # fmt: skip


def _signed(seconds: float) -> str:
    size = quantity.duration(abs(seconds))
    return size if size.startswith("0 ") else ("+" if seconds > 0 else "-") + size


PAGE = Page(path="/replay", title="Replay", icon="player-play", key="y", layout=layout, wire=wire)
