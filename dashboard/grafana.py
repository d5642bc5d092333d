"""The pages as Grafana dashboards: every chart's own questions, with Grafana's variables for the address's filters.

Charts come from the same ``Plot``s and ``Panel``s as the pages do, so that the two cannot drift apart. What Grafana has
no counterpart for (the verdict, tables in HTML, the twin's load lines) stays here. The model is Grafana's dashboard
JSON, schema version 39 (Grafana 10.4 and later).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from collector.signals import SIGNALS, Vocabulary
from dashboard import queries
from dashboard.board import Ask, Board, Plot
from dashboard.pages import latency, overview
from dashboard.parts.panel import Panel
from dashboard.registry import MODULES
from dashboard.site import Site
from dashboard.source import Question
from dashboard.view import Window
from planner.slo import Slo

SCHEMA_VERSION = 39
COLUMNS, ROW_PX = 24, 30
RATE_INTERVAL = "$__rate_interval"
STAND_IN = "4242s"
"""What stands for Grafana's rate interval while PromQL is written, since builders take durations alone."""

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
FILTERS = (("pool", "Pool"), ("instance", "Replica"), ("tenant", "Tenant"))
UNITS = {"req/s": "reqps", "%": "percentunit", "B/s": "Bps", "/s": "ops", "GHz": "suffix: GHz", "": "short"}
OPEN_ON = "running_requests"
"""The signal whose series tell which pools and replicas there are."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A Grafana dashboard: ``name`` of its file without ending, its JSON ``model``, what was ``left_out`` and why."""

    name: str
    model: Mapping[str, Any]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart to be: its panel, and its questions by the name of their lines."""

    panel: Panel
    asked: Mapping[str, Question]
    limit: float | None = None
    heat: bool = False


class GrafanaWindow(Window):
    """The window that Grafana's user chooses, known only when a query is sent."""

    __slots__ = ()

    @property
    def rate_window(self) -> str:
        """Stands for Grafana's rate interval."""
        return STAND_IN


def dashboards(vocabulary: Vocabulary, site: Site) -> Iterator[Dashboard]:
    """Every page that has charts over time, for a source that speaks ``vocabulary``."""
    window = GrafanaWindow(0, 3600, 15)
    ask = Ask(vocabulary, window, ",".join(f'{label}=~"${label}"' for label, _ in FILTERS), site)
    yield _dashboard("overview", "Overview", _overview(ask), vocabulary)
    yield _dashboard("latency", "Latency", _latency(ask), vocabulary)
    for name in (name for _, names in MODULES for name in names):
        board = getattr(import_module(f"dashboard.pages.{name}"), "BOARD", None)
        if isinstance(board, Board):
            charts = [Chart(part.panel, part.ask(ask)) for part in board.parts if isinstance(part, Plot)]
            if charts:
                yield _dashboard(name, board.title, charts, vocabulary)


def _overview(ask: Ask) -> list[Chart]:
    found = queries.overview(ask.vocabulary, ask.site.slo, ask.window, ask.where)
    fan = {name: found[f"ttft.{name}"] for name in ("p50", "p95", "p99")}
    return [
        Chart(overview.HERO, {"load": found["load"]}),
        Chart(overview.TTFT, fan, ask.site.slo.ttft_p95_s),
        Chart(overview.WAITING, {"waiting": found["waiting"]}),
        Chart(overview.KV, {"kv": found["kv"]}, overview.KV_EVICTS_AT),
        Chart(overview.PREEMPTIONS, {"preemptions": found["preemptions"]}),
    ]


def _latency(ask: Ask) -> list[Chart]:
    found = queries.latency(ask.vocabulary, ask.window, ask.where)
    limits = limits_of(ask.site.slo)
    fans = [
        Chart(panel, {name: found[f"{signal}.{name}"] for name in ("p50", "p95", "p99")}, limits.get(signal))
        for signal, panel in latency.FANS.items()
    ]
    heat = Chart(latency.HEAT, {"heat": queries.heat(ask.vocabulary, "ttft", ask.window, ask.where)}, heat=True)
    phases = Chart(latency.STACK, {phase: found[f"{signal}.mean"] for phase, signal in latency.PHASES.items()})
    pools = [
        Chart(panel, {"p95": found[f"{signal}.p95"]}, limits.get(signal)) for signal, panel in latency.BY_POOL.items()
    ]
    return [*fans, heat, phases, *pools]


def limits_of(slo: Slo) -> dict[str, float]:
    """Latencies that the promise bounds, by signal, in seconds."""
    return {"ttft": slo.ttft_p95_s, "itl": slo.itl_p95_s, "e2e_latency": slo.e2e_p95_s}


def _dashboard(name: str, title: str, charts: Sequence[Chart], vocabulary: Vocabulary) -> Dashboard:
    panels: list[dict[str, Any]] = []
    left_out: list[str] = []
    x = y = tallest = 0
    for chart in charts:
        asked = {key: one for key, one in chart.asked.items() if not one.absent}
        if not asked:
            why = next((one.absent for one in chart.asked.values()), "it asks nothing over time")
            left_out.append(f"{title}, {chart.panel.title}: {why}")
            continue
        width, height = chart.panel.span * COLUMNS // 12, -(-chart.panel.height // ROW_PX) + 2
        if x + width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        place = {"x": x, "y": y, "w": width, "h": height}
        panels.append(_panel(len(panels) + 1, chart, asked, place))
        x, tallest = x + width, max(tallest, height)
    model = {
        "uid": f"loadline-{name.replace('_', '-')}",
        "title": f"Loadline, {title}",
        "tags": ["loadline"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables(vocabulary)},
        "annotations": {"list": [_alerts()]},
        "links": [
            {"type": "dashboards", "title": "Loadline", "tags": ["loadline"], "asDropdown": True, "keepTime": True,
             "includeVars": True}
        ],
        "panels": panels,
    }  # fmt: skip
    return Dashboard(name.replace("_", "-"), model, tuple(left_out))


def _panel(number: int, chart: Chart, asked: Mapping[str, Question], place: Mapping[str, int]) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + index), "datasource": SOURCE, "range": True, "editorMode": "code",
            "expr": one.text.replace(STAND_IN, RATE_INTERVAL), "legendFormat": _legend(name, chart, one.text),
            **({"format": "heatmap"} if chart.heat else {}),
        }
        for index, (name, one) in enumerate(asked.items())
    ]  # fmt: skip
    defaults: dict[str, Any] = {"unit": unit_of(chart.panel, asked), "min": 0, "custom": {"lineWidth": 2}}
    if chart.limit is not None:
        steps = [{"color": "transparent", "value": None}, {"color": "red", "value": chart.limit}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        defaults["custom"]["thresholdsStyle"] = {"mode": "dashed"}
    shown = "heatmap" if chart.heat else "timeseries"
    options = (
        {"calculate": False, "yAxis": {"unit": "s"}, "cellGap": 1}
        if chart.heat
        else {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi"},
        }
    )
    return {
        "id": number, "type": shown, "title": chart.panel.title, "datasource": SOURCE, "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options, "targets": targets,
    }  # fmt: skip


def unit_of(panel: Panel, asked: Mapping[str, Question]) -> str:
    """Grafana's name of the panel's unit; where it names none, seconds if its metrics are in seconds."""
    if panel.unit in UNITS and panel.unit:
        return UNITS[panel.unit]
    if any("_seconds" in one.text for one in asked.values()):
        return "s"
    return UNITS[""] if not panel.unit else f"suffix: {panel.unit}"


def _legend(name: str, chart: Chart, text: str) -> str:
    """Labels of each line, and the name of the question where a chart has several."""
    if chart.heat:
        return "{{le}}"
    labels = [label for label in ("pool", "tenant", "instance", "gpu", "reason", "finished_reason") if label in text]
    shown = " ".join(f"{{{{{label}}}}}" for label in labels) or name
    return f"{shown} {name}" if len(chart.asked) > 1 and labels else shown


def _variables(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    metrics = _metrics_of(vocabulary, OPEN_ON)
    listed: list[dict[str, Any]] = [
        {"name": "datasource", "type": "datasource", "label": "Data source", "query": "prometheus", "hide": 0}
    ]
    for label, title in FILTERS:
        own = next((one.labels.get(label, label) for one in vocabulary.dialects if OPEN_ON in one.signals), label)
        over = _metrics_of(vocabulary, "tenant_requests") if label == "tenant" else metrics
        query = f'label_values({{__name__=~"{"|".join(over)}"}}, {own})'
        listed.append(
            {
                "name": label, "type": "query", "label": title, "datasource": SOURCE, "refresh": 2, "sort": 1,
                "definition": query, "query": {"query": query, "refId": label}, "includeAll": True, "multi": True,
                "allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}, "hide": 0,
            }
        )  # fmt: skip
    return listed


def _metrics_of(vocabulary: Vocabulary, signal: str) -> tuple[str, ...]:
    """Metrics that carry a signal; none where no engine has it."""
    assert signal in SIGNALS, signal
    return tuple(vocabulary.status(signal).metrics) if vocabulary.present(signal) else ()  # type: ignore[union-attr]


def _alerts() -> dict[str, Any]:
    return {
        "name": "Alerts", "enable": True, "datasource": SOURCE, "iconColor": "red",
        "expr": 'ALERTS{alertstate="firing"}', "titleFormat": "{{alertname}}", "step": "30s",
    }  # fmt: skip
