"""Answers what Dash's pages ask: one rendering for all who look at the same, straight from plain data to JSON.

Dash itself cleans every value in Python before it writes it, once for each viewer. Here an answer is written by orjson
in the viewer's language, compressed, and shared for a moment among those whose address, clock, language and role are
the same; so an answer must depend on nothing else.
"""

import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import orjson
from dash import Dash, no_update
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate
from flask import Flask, Response, g, request

from dashboard.access import Person
from dashboard.parts.built import Built
from dashboard.words import ENGLISH, Catalogue, Said, catalogues, chosen

CALLBACKS, LAYOUT = "_dash-update-component", "_dash-layout"
LANGUAGE_COOKIE = "loadline-lang"
COOKIE_MAX_AGE_S = 31_536_000
MAX_SHARED = 256
GZIP_LEVEL = 4
GZIP_WINDOW_BITS = 31
"""zlib's way of saying gzip."""

READ = frozenset({"children", "title", "placeholder", "label", "alt", "aria-label"})
"""Properties of a component that somebody reads or hears."""

_OPTIONS = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent: JSON as it is and compressed, or nothing where nothing changes."""

    plain: bytes
    gzipped: bytes


class Shared:
    """Bodies by what they depend on, each made once at a time and kept for ``keep_s`` seconds of ``clock``."""

    def __init__(self, clock: Callable[[], float], keep_s: float) -> None:
        self._clock = clock
        self._keep_s = keep_s
        self._lock = Lock()
        self._flights: OrderedDict[bytes, tuple[Future[Body], float]] = OrderedDict()

    def get(self, key: bytes, make: Callable[[], Body]) -> Body:
        """The body of ``key``; those who ask while it is made wait for it. Raises what ``make`` raises."""
        with self._lock:
            flight, until_s = self._flights.get(key, (None, 0.0))
            if flight is not None and (not flight.done() or self._clock() < until_s):
                mine = False
            else:
                mine, flight = True, Future()
                self._keep(key, flight, self._clock() + self._keep_s)
        assert flight is not None
        if mine:
            try:
                flight.set_result(make())
            except BaseException as error:
                self._drop(key, flight)
                flight.set_exception(error)
        return flight.result()

    def clear(self) -> None:
        """Forget everything, as after a change that pages show."""
        with self._lock:
            self._flights.clear()

    def _keep(self, key: bytes, flight: "Future[Body]", until_s: float) -> None:
        self._flights[key] = flight, until_s
        self._flights.move_to_end(key)
        while len(self._flights) > MAX_SHARED or self._is_old(next(iter(self._flights.values()))):
            self._flights.popitem(last=False)

    def _is_old(self, oldest: "tuple[Future[Body], float]") -> bool:
        flight, until_s = oldest
        return flight.done() and self._clock() >= until_s

    def _drop(self, key: bytes, flight: "Future[Body]") -> None:
        with self._lock:
            if self._flights.get(key, (None, 0.0))[0] is flight:
                del self._flights[key]


@dataclass(frozen=True, slots=True)
class Answerer:
    """One callback: ``run`` takes the values of its inputs; ``outputs`` are (component, property) in its order, and
    ``single`` where it returns a bare value."""

    run: Callable[..., Any]
    outputs: Sequence[tuple[str, str]]
    single: bool

    def answer(self, values: Sequence[Any], catalogue: Catalogue) -> Mapping[str, Any]:
        """As Dash's renderer wants it, in the language of ``catalogue``. Raises PreventUpdate."""
        returned = self.run(*values)
        response: dict[str, dict[str, Any]] = {}
        for (component, name), value in zip(self.outputs, [returned] if self.single else returned, strict=True):
            if value is not no_update:
                response.setdefault(component, {})[name] = value
        for properties in response.values():
            say_all(properties, catalogue)
        return {"multi": True, "response": response}


def say_all(properties: dict[str, Any], catalogue: Catalogue) -> None:
    """Put what somebody reads of a component's ``properties`` into the language of ``catalogue``."""
    if not catalogue.texts:
        return
    for name in READ & properties.keys():
        held = properties[name]
        if isinstance(held, str):
            properties[name] = catalogue.of(held)
        elif isinstance(held, list | tuple):
            properties[name] = [catalogue.of(one) if isinstance(one, str) else one for one in held]


def written(value: Any, catalogue: Catalogue = ENGLISH) -> bytes:
    """``value`` as JSON in the language of ``catalogue``: components, figures, numpy arrays, plain data."""

    def default(node: Any) -> Any:
        if isinstance(node, Said):
            return catalogue.of(node)
        if isinstance(node, Built):
            return node.plain()
        if isinstance(node, Component):
            plain = node.to_plotly_json()  # type: ignore[no-untyped-call]
            say_all(plain["props"], catalogue)
            return plain
        kind: Any
        for kind in (str, dict, list, tuple):
            if isinstance(node, kind):
                return kind(node)
        raise TypeError(f"{type(node).__name__} {node!r:.80}: it has no place in an answer")

    return orjson.dumps(value, default, _OPTIONS)


def language_of_request(search: str = "") -> str:
    """The language that the request at hand wants; ``search`` is the query string of the page it comes from, which
    browsers also tell."""
    page = search or urlsplit(request.referrer or "").query
    return chosen(page, request.cookies.get(LANGUAGE_COOKIE, ""), request.accept_languages)


def catalogue_of_request() -> Catalogue:
    """The texts in the language that the request at hand wants."""
    return catalogues()[language_of_request(request.query_string.decode())]


def answer_directly(app: Dash, prefix: str, clock: Callable[[], float], share_s: float) -> None:
    """Answer the callbacks and the layout of ``app`` from here on, behind the guards that it has already.

    Answers are shared for ``share_s`` seconds of ``clock``; any other POST may change what pages show and ends that.
    """
    known = {key: _answerer(key, entry["callback"]) for key, entry in app.callback_map.items() if "callback" in entry}
    languages = catalogues()
    shared = Shared(clock, share_s)
    server: Flask = app.server

    @server.before_request
    def answer() -> Response | None:
        if request.path == prefix + LAYOUT:
            code = language_of_request()
            layout = app.layout
            return _send(shared.get(f"layout {code}".encode(), lambda: _body(written(layout, languages[code]))))
        if request.method != "POST":
            return None
        if request.path != prefix + CALLBACKS:
            shared.clear()
            return None
        asked = request.get_json(silent=True)
        if not isinstance(asked, dict) or (answerer := known.get(asked.get("output", ""))) is None:
            return None
        return _answered(answerer, asked, shared, languages)

    @server.after_request
    def remember(response: Response) -> Response:
        named = request.args.get("lang", "")
        if response.mimetype == "text/html" and named in languages:
            response.set_cookie(LANGUAGE_COOKIE, named, max_age=COOKIE_MAX_AGE_S, samesite="Lax", path=prefix)
        return response


def _answered(
    answerer: Answerer, asked: Mapping[str, Any], shared: Shared, languages: Mapping[str, Catalogue]
) -> Response:
    values = [one.get("value") for one in (*asked.get("inputs", ()), *asked.get("state", ()))]
    code = language_of_request(_search(values))
    person: Person = g.person
    depends = [{name: part for name, part in one.items() if name != "n"} if isinstance(one, dict) else one
               for one in values]  # fmt: skip
    key = orjson.dumps([asked["output"], depends, code, person.role])

    def make() -> Body:
        g.person = Person("", person.role)  # what is shared must not name whoever asked first
        try:
            return _body(written(answerer.answer(values, languages[code]), languages[code]))
        except PreventUpdate:
            return Body(b"", b"")
        finally:
            g.person = person

    return _send(shared.get(key, make))


def _answerer(key: str, callback: Callable[..., Any]) -> Answerer:
    """Dash names several outputs ``..one.property...other.property..``; its wrapper keeps the page's own function."""
    names = key.strip(".").split("...")
    outputs = [(component, name) for component, _, name in (one.rpartition(".") for one in names)]
    run: Callable[..., Any] = callback.__wrapped__  # type: ignore[attr-defined]
    return Answerer(run, outputs, single=not key.startswith(".."))


def _search(values: Sequence[Any]) -> str:
    """The page's query string, which the browser's clock sends and the address holds."""
    for value in values:
        found = value.get("search") if isinstance(value, dict) else value
        if isinstance(found, str) and found.startswith("?"):
            return found
    return ""


def _body(plain: bytes) -> Body:
    writer = zlib.compressobj(GZIP_LEVEL, wbits=GZIP_WINDOW_BITS)
    return Body(plain, writer.compress(plain) + writer.flush())


def _send(body: Body) -> Response:
    if not body.plain:
        return Response(status=204)
    if "gzip" not in request.headers.get("Accept-Encoding", ""):
        return Response(body.plain, mimetype="application/json")
    headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(body.gzipped, headers=headers, mimetype="application/json")
