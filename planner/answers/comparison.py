"""Two reports on the same kind of question beside each other: what was asked differently, what came out differently."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from planner.errors import ReportError
from planner.report import Cell, Report, Table, leaves, shown
from planner.slo import first_fault

HEADLINES: dict[str, tuple[tuple[str, str], ...]] = {
    "capacity": (
        ("capacity: requests_per_s", "requests/s"),
        ("needs 1: total", "replicas this month"),
    ),
    "autoscale": (),
    "mix": (("usd_per_hour", "$ an hour"),),
    "fleet": (("usd_per_month", "$ a month"), ("replicas", "replicas")),
    "forecast": (("peak", "requests/s at the peak"),),
    "headroom": (("pools 1: load_line_req_per_s", "requests/s"),),
}
MOST_ROWS = 200
_LEFT_OUT = ("points", "log", "schedule")


def read_report(path: Path) -> Report:
    """A report as ``--json`` printed it. Raises ReportError with the file and the first fault."""
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ReportError(f"{path}: is no report: {first_fault(error)}") from error


def comparison_report(a: Report, b: Report, names: tuple[str, str]) -> Report:
    """What differs between two reports. Raises ReportError when they answer different kinds of question."""
    if a.kind != b.kind:
        raise ReportError(f"{names[0]} is a {a.kind} report and {names[1]} a {b.kind} report: nothing to compare")
    asked, found = (_different(_figures(one), _figures(other)) for one, other in _sides(a, b))
    results = tuple((name, before, after, _change(before, after)) for name, before, after in found[:MOST_ROWS])
    notes = [f"{name}: {note}" for name, one in zip(names, (a, b), strict=True) for note in one.notes]
    if len(found) > MOST_ROWS:
        notes.append(f"{len(found) - MOST_ROWS} more figures differ")
    return Report(
        kind="comparison",
        title=f"{names[0]} and {names[1]}",
        findings=(
            *_headlines(a, b),
            *(f"{name}: {one.findings[0]}" for name, one in zip(names, (a, b), strict=True) if one.findings),
        ),
        inputs={"kind": a.kind, "first": names[0], "second": names[1]},
        tables=(
            Table(title="Asked differently", columns=("what", *names), rows=tuple(asked)),
            Table(title="Found differently", columns=("what", *names, "change"), rows=results),
        ),
        notes=tuple(notes),
        result={
            "asked": [list(row) for row in asked],
            "found": [list(row) for row in found],
            "same": not asked and not found,
        },
        versions=b.versions,
    )


def _sides(a: Report, b: Report) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What was asked (model error and seed with it), then what was found."""

    def asked(one: Report) -> dict[str, Any]:
        error = one.model_error.model_dump() if one.model_error else None
        return {**one.inputs, "seed": one.seed, "model error": error}

    yield asked(a), asked(b)
    yield a.result, b.result


def _figures(values: dict[str, Any]) -> dict[str, Cell]:
    kept = _pruned(values)
    return {name: value if isinstance(value, int | float) else shown(value) for name, value in leaves("", kept)}


def _pruned(value: Any) -> Any:
    """Without the long lists that only charts are drawn from."""
    if isinstance(value, dict):
        return {name: _pruned(part) for name, part in value.items() if name not in _LEFT_OUT}
    if isinstance(value, list | tuple):
        return [_pruned(part) for part in value]
    return value


def _different(a: dict[str, Cell], b: dict[str, Cell]) -> list[tuple[str, Cell, Cell]]:
    names = dict.fromkeys((*a, *b))
    return [(name, a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)]


def _change(before: Cell, after: Cell) -> str:
    numbers = isinstance(before, int | float) and isinstance(after, int | float)
    return f"{after / before - 1:+.1%}" if numbers and before else "–"  # type: ignore[operator]


def _headlines(a: Report, b: Report) -> Iterator[str]:
    before, after = (dict(leaves("", one.result, words=False)) for one in (a, b))
    for path, unit in HEADLINES.get(a.kind, ()):
        first, second = before.get(path), after.get(path)
        if isinstance(first, int | float) and isinstance(second, int | float):
            yield f"from {shown(first)} to {shown(second)} {unit} ({_change(first, second)})"
