"""A report as one HTML page: no script, nothing to load, light and dark."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from probe_engine.experiments.report import Cell, Report, claim_row, text

STYLE = Path(__file__).with_name("page.css")


def to_html(report: Report) -> str:
    """The page."""
    parts = [f"<h1>{escape(report.title)}</h1>", f"<p>{escape(report.question)}</p>"]
    if report.answer:
        parts.append(f'<p class="answer">{escape(report.answer)}</p>')
    parts += [figure.svg() for figure in report.figures]
    parts.append(_table(report.rows))
    if report.claims:
        parts += ["<h2>Beside the literature</h2>", _table([claim_row(claim) for claim in report.claims]), "<ul>"]
        parts += [f"<li><b>{escape(claim.what)}</b>: {escape(claim.why)}</li>" for claim in report.claims]
        parts.append("</ul>")
    if report.notes:
        parts += ["<h2>Read with care</h2><ul>", *(f"<li>{escape(note)}</li>" for note in report.notes), "</ul>"]
    parts += ["<h2>Set-up</h2><dl>"]
    parts += [f"<dt>{escape(name)}</dt><dd>{escape(text(value))}</dd>" for name, value in report.setup.items()]
    head = [
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{escape(report.title)}</title><style>{STYLE.read_text(encoding='utf-8')}</style>",
    ]
    whole = ["<!doctype html>", '<html lang="en"><head>', *head, "</head><body>", *parts, "</dl></body></html>", ""]
    return "\n".join(whole)


def _table(rows: Sequence[Mapping[str, Cell]]) -> str:
    if not rows:
        return ""
    names = list(rows[0])
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(_cell(row.get(name)) for name in names) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: Cell) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f'<td class="number">{escape(text(value))}</td>' if number else f"<td>{escape(text(value))}</td>"
