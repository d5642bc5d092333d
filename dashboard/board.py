"""Builds a page of panels: one batched callback that asks for all of them, and the same empty states everywhere.

A page declares what each panel asks and how it is drawn; this file does the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dash import Dash, Input, Output, dcc, html
from dash.exceptions import PreventUpdate

from collector.signals import Vocabulary
from dashboard import quantity, queries
from dashboard.changes import changes
from dashboard.figures import series
from dashboard.figures.chart import Mark
from dashboard.page import Page
from dashboard.parts.icon import Node, hyphened
from dashboard.parts.panel import Drawn, Panel, empty, loading
from dashboard.refresh import Refresh, begin
from dashboard.site import Site
from dashboard.source import Answer, Question
from dashboard.view import Window
from dashboard.words import say

EVENTS = "events/"


@dataclass(frozen=True, slots=True)
class Ask:
    """What a panel's questions are made of: ``where`` are the filters of the address as PromQL matchers."""

    vocabulary: Vocabulary
    window: Window
    where: str
    site: Site

    @property
    def rate_window(self) -> str:
        """Range for rates on this window."""
        return self.window.rate_window


@dataclass(frozen=True, slots=True)
class Scene:
    """What a panel is drawn from: its own ``answers`` by name, and what the page knows besides."""

    refresh: Refresh
    site: Site
    answers: Mapping[str, Answer]
    marks: Sequence[Mark]

    @property
    def palette(self) -> dict[str, str]:
        """Colour of each pool, the same on every page."""
        return series.colors(self.refresh.scope.pools)


Questions = Mapping[str, Question]


def nothing_asked(ask: Ask) -> Questions:
    """The questions of a part that asks none."""
    return {}


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart: where it lies, what it asks, how it is drawn."""

    panel: Panel
    ask: Callable[[Ask], Questions]
    draw: Callable[[Panel, Scene], Drawn]


@dataclass(frozen=True, slots=True)
class Box:
    """A part that is no chart: ``build`` gives its content and the words in its header."""

    key: str
    title: str
    build: Callable[[Scene], tuple[Node, Node]]
    span: int = 12
    ask: Callable[[Ask], Questions] = nothing_asked

    def outputs(self) -> list[Output]:
        """What one refresh sets."""
        return [Output(self.key, "children"), Output(f"{self.key}-sub", "children")]

    def layout(self) -> Node:
        """The part before its first data."""
        head = html.Header([html.H2(self.title), html.Div(id=f"{self.key}-sub", className="p-s")], className="p-h")
        body = html.Div(html.Div(loading(), className="x-load"), id=self.key, className="p-x")
        return html.Section([head, body], className=f"panel c{self.span}", **hyphened(aria_label=self.title))


Part = Plot | Box


@dataclass(frozen=True, slots=True)
class Board:
    """The parts of one page, in the order of its grid; ``key`` prefixes the ids that the page itself needs.

    ``needs_engine`` is whether the page is empty where no engine is measured.
    """

    key: str
    title: str
    parts: Sequence[Part]
    needs_engine: bool = True
    above: Sequence[Node] = field(default_factory=tuple)

    def layout(self) -> Node:
        """The page before its data."""
        grid = [part.panel.layout() if isinstance(part, Plot) else part.layout() for part in self.parts]
        return html.Div(
            [
                html.H1(self.title, className="vh"),
                dcc.Store(id=f"{self.key}-stamp"),
                html.Div(id=f"{self.key}-note"),
                *self.above,
                html.Div(grid, className="grid"),
            ],
            className="page",
        )

    def outputs(self) -> list[Output]:
        """What one refresh sets, in order."""
        parts = [
            output for part in self.parts
            for output in (part.panel.outputs() if isinstance(part, Plot) else part.outputs())
        ]  # fmt: skip
        return [Output(f"{self.key}-note", "children"), *parts, Output(f"{self.key}-stamp", "data")]

    def wire(self, app: Dash, site: Site) -> None:
        """Register the page's one callback."""

        @app.callback(self.outputs(), Input("tick", "data"))
        def refresh(tick: Mapping[str, Any] | None) -> list[Any]:
            if tick is None:
                raise PreventUpdate
            return self.answer(begin(tick, site.source), site)

        stamped(app, f"{self.key}-stamp")

    def answer(self, begun: Refresh, site: Site) -> list[Any]:
        """All outputs of one refresh."""
        note = told(begun)
        vocabulary = begun.vocabulary
        if vocabulary is None or (self.needs_engine and not vocabulary.dialects):
            why = begun.error or say("{address} holds no engine's metrics", address=site.source.address)
            return [note, *(value for part in self.parts for value in _blank(part, begun, why)), begun.stamp()]
        ask = Ask(vocabulary, begun.window, begun.view.where, site)
        asked = {f"{_key(part)}/{name}": one for part in self.parts for name, one in part.ask(ask).items()}
        events = {EVENTS + name: one for name, one in queries.events(vocabulary, begun.window).items()}
        answers = site.source.ranges(asked | events, begun.window)
        marks = changes(_below(answers, EVENTS), begun.window)
        values: list[Any] = []
        for part in self.parts:
            scene = Scene(begun, site, _below(answers, f"{_key(part)}/"), marks)
            values += part.draw(part.panel, scene).values() if isinstance(part, Plot) else part.build(scene)
        return [note, *values, begun.stamp()]


def page(board: Board, *, path: str, icon: str, key: str) -> Page:
    """``board`` as a page of the navigation."""
    return Page(path=path, title=board.title, icon=icon, key=key, layout=board.layout, wire=board.wire)


def stamped(app: Dash, store: str) -> None:
    """Tell the browser's clock of every answer that arrives in ``store``."""
    app.clientside_callback("(data) => window.dash_clientside.loadline.stamped(data)", Input(store, "data"))  # type: ignore[no-untyped-call]


def told(begun: Refresh) -> Node:
    """What the viewer must know of this refresh as a whole: an address that was not understood, a silent source."""
    if begun.misread:
        return html.P(
            say("The address was not understood ({why}); the last hour is shown.", why=begun.misread),
            className="note", role="alert",
        )  # fmt: skip
    if not begun.error:
        return None
    said = say("The source does not answer: {why}.", why=begun.error)
    if begun.newest_s is not None:
        said += say(" What is shown is {age} old.", age=quantity.span(begun.now_s - begun.newest_s))
    return html.P(said, className="note", role="alert")


def _key(part: Part) -> str:
    return part.panel.key if isinstance(part, Plot) else part.key


def _blank(part: Part, begun: Refresh, why: str) -> list[Any]:
    if isinstance(part, Plot):
        return empty(part.panel, begun.clock, (), why).values()
    return [html.P(why, className="none"), None]


def _below(answers: Mapping[str, Answer], prefix: str) -> dict[str, Answer]:
    return {name.removeprefix(prefix): answer for name, answer in answers.items() if name.startswith(prefix)}
