"""What changed within the window, read from the data: versions, replicas, targets, restarts, alerts."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from collector.model.labels import get
from dashboard.figures.chart import Mark
from dashboard.source import Answer, Line
from dashboard.view import Window
from dashboard.words import say

MAX_CHANGES = 40
POOL_LABELS = ("pool", "model_name")


def changes(answers: Mapping[str, Answer], window: Window) -> tuple[Mark, ...]:
    """Everything that happened, newest first; ``answers`` are those of ``queries.events``."""
    found = [
        *_deploys(answers["info"].lines, window),
        *_scalings(answers["replicas"].lines, window),
        *_targets(answers["up"].lines, window),
        *_restarts(answers["started"].lines, answers["resets"].lines, window),
        *_alerts(answers["alerts"].lines, window),
    ]
    return tuple(sorted(found, key=lambda one: -one.time_s)[:MAX_CHANGES])


def _deploys(lines: Sequence[Line], window: Window) -> Iterator[Mark]:
    """A version that appears beside or after another in one pool; the first that the window holds is no change."""
    first_seen: dict[str, dict[str, int]] = defaultdict(dict)
    for one in lines:
        version, steps = get(one.labels, "version"), _present(one.values)
        if version and steps:
            seen = first_seen[pool_of(one)]
            seen[version] = min(steps[0], seen.get(version, steps[0]))
    for pool, versions in first_seen.items():
        arrivals = sorted((step, version) for version, step in versions.items())
        for step, version in arrivals[1:]:
            text = "deploy {version} to {pool}" if pool else "deploy {version}"
            yield Mark(_time(window, step), "deploy", say(text, version=version, pool=pool))


def _scalings(lines: Sequence[Line], window: Window) -> Iterator[Mark]:
    for one in lines:
        for step, before, after in _steps(one.values):
            text = say(
                "{pool} scaled {before} to {after} replicas",
                pool=pool_of(one) or "fleet", before=f"{before:.0f}", after=f"{after:.0f}",
            )  # fmt: skip
            yield Mark(_time(window, step), "scale", text)


def _targets(lines: Sequence[Line], window: Window) -> Iterator[Mark]:
    for one in lines:
        for step, before, after in _steps(one.values):
            if (before > 0) != (after > 0):
                kind, what = ("back", "{target} came back") if after > 0 else ("target", "{target} went down")
                yield Mark(_time(window, step), kind, say(what, target=_who(one)))


def _restarts(started: Sequence[Line], fallen: Sequence[Line], window: Window) -> Iterator[Mark]:
    """A process whose start time moved on (a second of clock correction is no restart); of an instance that does not
    tell its start time, counters that fell."""
    told = set()
    for one in started:
        told.add(_who(one))
        for step, before, after in _steps(one.values):
            if after - before > 1:
                yield Mark(_time(window, step), "restart", say("{target} restarted", target=_who(one)))
    for one in fallen:
        if _who(one) in told:
            continue
        for first, _ in _stretches([step for step, value in enumerate(one.values) if value]):
            yield Mark(
                _time(window, first), "restart", say("{target} restarted (its counters began anew)", target=_who(one))
            )


def _alerts(lines: Sequence[Line], window: Window) -> Iterator[Mark]:
    for one in lines:
        steps = _present(one.values)
        if not steps:
            continue
        name: str = get(one.labels, "alertname")
        if pool_of(one):
            name = say("{alert} on {pool}", alert=name, pool=pool_of(one))
        for first, last in _stretches(steps):
            if first > 0:
                yield Mark(_time(window, first), "alert", say("{alert} began to fire", alert=name))
            if last < window.points - 2:
                yield Mark(_time(window, last + 1), "resolved", say("{alert} resolved", alert=name))


def _steps(values: Sequence[float | None]) -> Iterator[tuple[int, float, float]]:
    """(step, before, after) wherever a value differs from the last one known."""
    if len({*values} - {None}) < 2:  # as with nearly every line, which this tells sooner
        return
    before: float | None = None
    for step, value in enumerate(values):
        if value is None:
            continue
        if before is not None and value != before:
            yield step, before, value
        before = value


def _stretches(steps: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs of steps, bridging a single gap."""
    if not steps:
        return
    first = last = steps[0]
    for step in steps[1:]:
        if step > last + 2:
            yield first, last
            first = step
        last = step
    yield first, last


def _present(values: Iterable[float | None]) -> list[int]:
    return [step for step, value in enumerate(values) if value is not None]


def _time(window: Window, step: int) -> float:
    return window.start_s + step * window.step_s


def pool_of(one: Line) -> str:
    """The pool that a raw series belongs to, under the canonical name or the engines' own."""
    return next((value for name in POOL_LABELS if (value := get(one.labels, name))), "")


def _who(one: Line) -> str:
    return get(one.labels, "instance") or get(one.labels, "job") or "target"
