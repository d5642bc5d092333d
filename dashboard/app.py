"""The dashboard as a Dash application: registers pages, routes on the path alone, and guards every request."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
from dash import ClientsideFunction, Dash, Input, Output, State, html
from flask import Response, jsonify

import planner
from dashboard.access import Access
from dashboard.answers import answer_directly, catalogue_of_request
from dashboard.page import Page
from dashboard.parts.icon import hyphened
from dashboard.parts.shell import Grafana, shell
from dashboard.registry import Group, load_groups, pages_of
from dashboard.security import protect, script_hash
from dashboard.services import Services
from dashboard.site import Site
from dashboard.source import Source
from dashboard.words import say, texts_of_scripts
from planner.slo import Slo

HEALTH = "healthz"
CHARTS = "data/charts.js"
BUNDLE = Path(planner.__file__).parent / "assets" / "plotly-cartesian.min.js"
"""Plotly's cartesian bundle, which the planner's reports hold too."""

ASSETS = Path(__file__).parent / "assets"

ASSET_MAX_AGE_S = 31_536_000
"""Dash adds each asset's time of change to its address, so browsers may keep it."""

PRE_PAINT = (
    'try{var t=localStorage.getItem("loadline-theme")||'
    '(matchMedia("(prefers-color-scheme: dark)").matches?"dark":"light");'
    'document.documentElement.setAttribute("data-theme",t)}catch(e){}'
)
"""Sets the theme before the first paint, so that no page flashes white."""

INDEX = """<!DOCTYPE html>
<html lang="LANGUAGE">
<head>
{%metas%}
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{%title%}</title>
<link rel="icon" type="image/svg+xml" href="FAVICON">
<script>PRE_PAINT</script>
<script type="application/json" id="words">WORDS</script>
{%css%}
</head>
<body>
{%app_entry%}
<footer>
{%config%}
{%scripts%}
{%renderer%}
</footer>
</body>
</html>"""


class Application(Dash):
    """Dash, whose document names its language and holds the words that its scripts say in it."""

    def interpolate_index(self, *args: Any, **parts: Any) -> str:
        """The document for the request at hand."""
        catalogue = catalogue_of_request()
        held = orjson.dumps(catalogue.pairs(texts_of_scripts(ASSETS))).decode().replace("<", "\\u003c")
        page: str = super().interpolate_index(*args, **parts)  # type: ignore[no-untyped-call]
        return page.replace("LANGUAGE", catalogue.language, 1).replace("WORDS", held, 1)


def create_app(
    source: Source,
    slo: Slo,
    *,
    path_prefix: str = "/",
    access: Access | None = None,
    grafana: Grafana | None = None,
    groups: Sequence[Group] | None = None,
    services: Services | None = None,
    share_s: float = 0.0,
) -> Dash:
    """The application over one source; its WSGI callable is ``.server``.

    ``path_prefix`` begins and ends with a slash and stays in the addresses that reach this process. ``access`` says who
    may reach all but ``healthz``. ``grafana`` is where queries can be opened too. ``groups`` of pages: all by default.
    ``services`` are what some pages use besides measurements; without them they say so. For ``share_s`` seconds one
    answer serves all who look at the same.
    """
    shown = load_groups() if groups is None else groups
    pages = pages_of(shown)
    site = Site(source, slo, path_prefix, services or Services())
    bundle = BUNDLE.read_bytes()
    app = Application(
        __name__,
        title="Loadline",
        update_title="",
        url_base_pathname=path_prefix,
        serve_locally=True,
        compress=True,
        suppress_callback_exceptions=True,
        health_endpoint=HEALTH,
        enable_mcp=False,
        add_log_handler=False,
        # the vendored bundle; Dash would load its own, four times the size
        external_scripts=[f"{path_prefix}{CHARTS}?v={sha256(bundle).hexdigest()[:12]}"],
    )
    app.server.config["SEND_FILE_MAX_AGE_DEFAULT"] = ASSET_MAX_AGE_S
    app.layout = shell(shown, path_prefix, grafana or Grafana())
    _route(app, pages, path_prefix)
    for page in pages:
        page.wire(app, site)
    app.server.add_url_rule(f"{path_prefix}data/names", "names", lambda: jsonify(source.names()))
    app.server.add_url_rule(f"{path_prefix}{CHARTS}", "charts", lambda: _script(bundle))
    app.index_string = INDEX.replace("PRE_PAINT", PRE_PAINT).replace("FAVICON", app.get_asset_url("favicon.svg"))
    hashes = [script_hash(PRE_PAINT), *app.csp_hashes()]
    protect(app.server, access=access or Access(), open_path=path_prefix + HEALTH, script_hashes=hashes)
    answer_directly(app, path_prefix, source.clock, share_s)
    return app


def _route(app: Dash, pages: Sequence[Page], prefix: str) -> None:
    by_path = {prefix + page.path.lstrip("/"): page for page in pages}

    # the query string is not shown by this, but names the language
    @app.callback(Output("main", "children"), Input("url", "pathname"), State("url", "search"))
    def show(pathname: str | None, _search: str | None = None) -> Any:
        page = by_path.get(pathname or prefix)
        return page.layout() if page is not None else not_found(pathname, prefix)

    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("loadline", "ask"),
        Output("tick", "data"),
        Input("url", "pathname"),
        Input("url", "search"),
    )


def _script(content: bytes) -> Response:
    answer = Response(content, mimetype="text/javascript")
    answer.cache_control.max_age = ASSET_MAX_AGE_S
    answer.cache_control.public = True
    return answer


def not_found(pathname: str | None, prefix: str) -> Any:
    """What an address without a page shows."""
    return html.Div(
        [
            html.H1(say("There is no page {path}", path=pathname)),
            html.A("Overview", href=prefix, className="btn", **hyphened(data_nav="1")),
        ],
        className="lost",
    )
