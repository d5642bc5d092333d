"""A report: one JSON document, and the HTML and Markdown drawn from it.

The document says everything: what was asked, with which seed and which model error, what was found, in words, tables
and charts. It knows nothing of capacity or cost; ``planner.answers`` writes documents.
"""

import html
from collections.abc import Iterator, Sequence
from importlib.resources import files
from math import log10
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

Cell = str | float | int | bool | None

_UNITS = {
    "_req_per_s": "requests/s", "_usd_per_hour": "$ per hour", "_usd_per_month": "$ per month",
    "_usd_per_gb": "$ per GB", "_per_s": "per second", "_gb_s": "GB/s", "_ms": "ms",
    "_s": "s", "_bytes": "bytes", "_ratio": "share", "_usd": "$", "_gb": "GB", "_b": "billions",
}  # fmt: skip
_COLOURS = ("#2f6fde", "#7a5af8", "#107569", "#667085")
_LIMIT = "#c4320a"


class Series(BaseModel):
    """One drawn series; ``low``/``high`` make a band around ``y``. ``None`` is a gap."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    x: tuple[Cell, ...]
    y: tuple[float | None, ...]
    style: Literal["line", "points", "bars"] = "line"
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None


class Mark(BaseModel):
    """A line across a chart at a value of ``x`` or ``y``, with its words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    axis: Literal["x", "y"]
    at: float
    text: str


class Chart(BaseModel):
    """A chart with its units in the axis titles."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    x_title: str
    y_title: str
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()
    x_log: bool = False
    y_log: bool = False


class Table(BaseModel):
    """A table; ``note`` says how to read it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str | None = None


class StepError(BaseModel):
    """How wrong the step-time model was on observations that it was not fitted on, as ratios."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    p90: float
    bias: float
    observations: int
    held_out: bool
    outside_hull_ratio: float | None = Field(default=None, description="share of simulated steps beyond the fit")


class Report(BaseModel):
    """The whole answer; ``result`` holds the full figures that the tables round."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["loadline-report"] = "loadline-report"
    version: Literal[1] = 1
    kind: Literal[
        "capacity",
        "cost",
        "simulation",
        "validation",
        "calibration",
        "drift",
        "autoscale",
        "mix",
        "fit",
        "forecast",
        "headroom",
        "fleet",
        "patterns",
        "placement",
        "comparison",
        "trace",
        "run",
        "comparison",
    ]
    title: str
    findings: tuple[str, ...]
    inputs: dict[str, Any]
    seed: int | None = None
    model_error: StepError | None = None
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    notes: tuple[str, ...] = ()
    result: dict[str, Any] = {}
    versions: dict[str, str] = {}

    def to_json(self) -> str:
        """The document as indented JSON with sorted keys: same inputs, same text."""
        options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
        return orjson.dumps(self.model_dump(mode="json"), option=options).decode()


def report_schema() -> dict[str, Any]:
    """JSON Schema of a report document."""
    return Report.model_json_schema()


def to_markdown(report: Report) -> str:
    """The report as Markdown; charts are left to the HTML."""
    parts = [f"# {report.title}", "\n".join(f"- {finding}" for finding in report.findings)]
    for table in report.tables:
        parts.append(f"## {table.title}\n\n{_aligned(table)}" + (f"\n\n{table.note}" if table.note else ""))
    parts.append("## Inputs\n\n" + "\n".join(f"- {name}: {shown(value)}" for name, value in _inputs(report)))
    if report.notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in report.notes))
    return "\n\n".join(part for part in parts if part) + "\n"


def to_html(report: Report) -> str:
    """The report as one self-contained HTML page; plotly is inlined once, and only when there is a chart."""
    charts = "".join(
        f'<h2>{_text(c.title)}</h2><div class="chart" id="c{i}"></div>' for i, c in enumerate(report.charts)
    )
    tables = "".join(_html_table(table) for table in report.tables)
    inputs = "".join(
        f"<tr><th>{_text(name)}</th><td>{_text(shown(value))}</td></tr>" for name, value in _inputs(report)
    )
    notes = "".join(f"<li>{_text(note)}</li>" for note in report.notes)
    findings = "".join(f"<li>{_text(finding)}</li>" for finding in report.findings)
    script = f"<script>{_plotly_js()}</script><script>{_draw(report.charts)}</script>" if report.charts else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(report.title)}</title><style>{_CSS}</style></head><body><main>"
        f'<h1>{_text(report.title)}</h1><ul class="findings">{findings}</ul>{charts}{tables}'
        f"<h2>Inputs</h2><table>{inputs}</table>"
        + (f"<h2>Notes</h2><ul>{notes}</ul>" if notes else "")
        + f"</main>{script}</body></html>\n"
    )


def shown(value: object) -> str:
    """A value for people: four figures, thousands apart, ratios and units left to the words beside it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value != 0 and (abs(value) >= 1e15 or abs(value) < 1e-4):
            return f"{value:.3e}"
        if value.is_integer() or abs(value) >= 100_000:
            return f"{value:,.0f}"
        if abs(value) >= 1000:
            return f"{value:,.2f}"
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(shown(part) for part in value)
    return str(value)


def leaves(name: str, value: object, *, words: bool = True) -> Iterator[tuple[str, object]]:
    """A nested document as rows: one per figure, under its path, what is absent left out; in ``words`` for people."""
    if isinstance(value, dict):
        for key, part in value.items():
            own = _words(key) if words else key
            yield from leaves(f"{name}: {own}" if name else own, part, words=words)
    elif isinstance(value, list | tuple) and any(isinstance(part, dict | list | tuple) for part in value):
        for index, part in enumerate(value, 1):
            yield from leaves(f"{name} {index}", part, words=words)
    elif value is not None and value not in ([], ()):
        yield name, value


def _words(key: str) -> str:
    """A field's name for people: its unit in brackets."""
    for ending, unit in _UNITS.items():
        if key.endswith(ending) and len(key) > len(ending):
            return f"{key.removesuffix(ending).replace('_', ' ')} ({unit})"
    return key.replace("_", " ")


def _inputs(report: Report) -> list[tuple[str, object]]:
    rows = list(leaves("", report.inputs))
    if report.seed is not None:
        rows.append(("seed", str(report.seed)))
    error = report.model_error
    if error is not None:
        where = "held-out observations" if error.held_out else "the observations it was fitted on"
        outside = error.outside_hull_ratio
        text = f"mean {error.mean:.1%}, p90 {error.p90:.1%}, bias {error.bias:+.1%} on {error.observations} {where}"
        rows.append(("step-time model error", text))
        if outside is not None:
            rows.append(("simulated steps beyond what the model was fitted on", f"{outside:.1%}"))
    rows.extend((f"{name} version", value) for name, value in report.versions.items())
    return rows


def _aligned(table: Table) -> str:
    cells = [list(table.columns), *[[shown(cell) for cell in row] for row in table.rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
    numeric = [bool(table.rows) and not any(isinstance(row[i], str) for row in table.rows) for i in range(len(widths))]
    lines = [_row(cells[0], widths, numeric)]
    lines.append(
        "|" + "|".join("-" * (w + 1) + (":" if n else "-") for w, n in zip(widths, numeric, strict=True)) + "|"
    )
    lines.extend(_row(row, widths, numeric) for row in cells[1:])
    return "\n".join(lines)


def _row(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    ]
    return "| " + " | ".join(padded) + " |"


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{_text(column)}</th>" for column in table.columns)
    body = "".join(
        "<tr>"
        + "".join(f"<td{'' if isinstance(cell, str) else ' class=n'}>{_text(shown(cell))}</td>" for cell in row)
        + "</tr>"
        for row in table.rows
    )
    note = f"<p>{_text(table.note)}</p>" if table.note else ""
    return f"<h2>{_text(table.title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def _text(value: str) -> str:
    return html.escape(value)


def _draw(charts: Sequence[Chart]) -> str:
    """Script that draws every chart; the data cannot end the script element."""
    figures = orjson.dumps([_figure(chart) for chart in charts]).decode().replace("<", "\\u003c")
    return (
        f"const figures={figures};figures.forEach((f,i)=>Plotly.newPlot('c'+i,f.data,f.layout,"
        "{displaylogo:false,responsive:true}));"
    )


def _figure(chart: Chart) -> dict[str, Any]:
    data: list[dict[str, Any]] = []
    for index, series in enumerate(chart.series):
        colour = _COLOURS[index % len(_COLOURS)]
        data.extend(_band(series, colour))
        drawn: dict[str, Any] = {"x": series.x, "y": series.y, "name": series.name}
        if series.style == "bars":
            drawn |= {"type": "bar", "marker": {"color": colour}}
        else:
            mode = "lines" if series.style == "line" else "markers"
            drawn |= {
                "type": "scatter",
                "mode": mode,
                "line": {"color": colour},
                "marker": {"color": colour, "size": 7},
            }
        data.append(drawn)
    return {"data": data, "layout": _layout(chart)}


def _band(series: Series, colour: str) -> list[dict[str, Any]]:
    if series.low is None or series.high is None:
        return []
    edge = {"type": "scatter", "mode": "lines", "x": series.x, "line": {"width": 0}, "showlegend": False}
    shade = {"fill": "tonexty", "fillcolor": f"{colour}22"}
    return [{**edge, "y": series.high}, {**edge, "y": series.low, **shade}]


def _layout(chart: Chart) -> dict[str, Any]:
    shapes, words = [], []
    for mark in chart.marks:
        along, other = ("y", "x") if mark.axis == "y" else ("x", "y")
        log = chart.y_log if along == "y" else chart.x_log
        span = {f"{other}ref": "paper", f"{other}0": 0, f"{other}1": 1, f"{along}0": mark.at, f"{along}1": mark.at}
        shapes.append({"type": "line", "line": {"color": _LIMIT, "dash": "dash"}, **span})
        place = {f"{other}ref": "paper", other: 0.01 if other == "x" else 1, along: log10(mark.at) if log else mark.at}
        words.append({**place, "text": mark.text, "showarrow": False, "xanchor": "left", "yanchor": "bottom"})
    return {
        "xaxis": {"title": {"text": chart.x_title}, "type": "log" if chart.x_log else "-"},
        "yaxis": {"title": {"text": chart.y_title}, "type": "log" if chart.y_log else "-", "rangemode": "tozero"},
        "shapes": shapes,
        "annotations": words,
        "barmode": "group",
        "template": "none",
        "margin": {"l": 70, "r": 20, "t": 20, "b": 60},
        "legend": {"orientation": "h", "y": 1.12},
        "font": {"family": "system-ui, sans-serif", "size": 13},
    }


def _plotly_js() -> str:
    """Plotly's cartesian bundle (MIT), shipped beside this file: a third of the whole, and no package is needed."""
    return (files("planner") / "assets" / "plotly-cartesian.min.js").read_text(encoding="utf-8")


_CSS = (
    "body{font:15px/1.5 system-ui,sans-serif;color:#1a2433;background:#fff;margin:0}"
    "main{max-width:1000px;margin:0 auto;padding:24px}"
    "h1{font-size:24px}h2{font-size:17px;margin:28px 0 8px;border-top:1px solid #dfe5ee;padding-top:18px}"
    ".findings{font-size:17px}.chart{height:380px}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "th,td{text-align:left;padding:4px 14px 4px 0;border-bottom:1px solid #edf1f6;vertical-align:top}"
    "@media print{body{font-size:11px}main{max-width:none;padding:0}h2{break-after:avoid}"
    "tr,.chart{break-inside:avoid}thead{display:table-header-group}.modebar{display:none}"
    "@page{margin:16mm}}"
    "td.n{text-align:right}@media(max-width:640px){main{padding:12px}table{display:block;overflow-x:auto}}"
)
