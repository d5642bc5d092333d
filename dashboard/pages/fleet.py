"""Fleet: every replica beside the median of its pool, those that stand apart first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from dash import html

from dashboard import board, plots, quantity, queries
from dashboard.board import Ask, Board, Box, Scene
from dashboard.outliers import FEWEST, THRESHOLD, scores
from dashboard.parts.icon import Node
from dashboard.parts.panel import Panel
from dashboard.parts.state import tag
from dashboard.parts.tables import simple_table
from dashboard.parts.tile import spark
from dashboard.source import Question
from dashboard.words import counted, say

BY = ("pool", "instance")


@dataclass(frozen=True, slots=True)
class Measure:
    """One column: what is asked of each replica, how it is written, and the least spread that matters. Higher is worse
    unless ``two_sided``, where any distance from the others is odd but none is bad."""

    key: str
    title: str
    build: plots.Build
    write: quantity.Formatter
    least: float = 0.0
    two_sided: bool = False


def p95(signal: str) -> plots.Build:
    """95th percentile by replica."""
    return lambda ask: ask.vocabulary.quantile(signal, 0.95, ask.rate_window, by=BY, where=ask.where)


def mean(signal: str) -> plots.Build:
    """Mean by replica."""
    return lambda ask: ask.vocabulary.mean(signal, ask.rate_window, by=BY, where=ask.where)


def errors(ask: Ask) -> str:
    """Share of requests that failed, by replica."""
    return ask.vocabulary.ratio("errors", "requests", ask.rate_window, by=BY, where=ask.where)


def finely(ratio: float | None) -> str:
    """A share whose hundredths of a percent matter."""
    return quantity.percent(ratio, 2)


MEASURES = (
    Measure("load", "Load", plots.rate("requests", BY), quantity.per_second, 0.02, two_sided=True),
    Measure("ttft", "TTFT p95", p95("ttft"), quantity.duration, 0.01),
    Measure("itl", "ITL p95", p95("itl"), quantity.duration, 0.001),
    Measure("queue", "Queue, mean", mean("queue_time"), quantity.duration, 0.01),
    Measure("waiting", "Waiting", plots.gauge("waiting_requests", by=BY), quantity.count, 2.0),
    Measure("kv", "KV used", plots.gauge("kv_usage", "max", BY), quantity.percent, 0.03),
    Measure("errors", "Errors", errors, finely, 0.001),
)

Rows = Mapping[tuple[str, str], Sequence[float | None]]


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica as it is measured: newest value, robust z and course by measure."""

    pool: str
    name: str
    values: Mapping[str, float | None]
    z: Mapping[str, float]
    courses: Mapping[str, Sequence[float | None]]

    def worst(self) -> tuple[str, float]:
        """The measure by which it stands apart most, and how far; of the load any side counts."""
        apart = {one.key: abs(z) if one.two_sided else z for one in MEASURES if (z := self.z.get(one.key)) is not None}
        return max(apart.items(), key=lambda item: item[1], default=("", 0.0))


def asked(ask: Ask) -> dict[str, Question]:
    """Every measure of every replica."""
    return {one.key: queries.question(lambda one=one: one.build(ask)) for one in MEASURES}  # type: ignore[misc]


def replicas(scene: Scene) -> list[Replica]:
    """All replicas, those that stand apart most first."""
    rows: dict[str, Rows] = {
        one.key: {
            (dict(line.labels).get("pool", ""), dict(line.labels).get("instance", "")): line.values
            for line in scene.answers[one.key].lines
        }
        for one in MEASURES
    }
    names = sorted({name for measure in rows.values() for name in measure})
    newest = {key: {name: queries.last(list(row)) for name, row in measure.items()} for key, measure in rows.items()}
    z = {one.key: _by_pool(newest[one.key], one.least) for one in MEASURES}
    found = [
        Replica(
            pool, name,
            {key: newest[key].get((pool, name)) for key in newest},
            {key: z[key][pool, name] for key in z if (pool, name) in z[key]},
            {key: rows[key].get((pool, name), ()) for key in rows},
        )
        for pool, name in names
    ]  # fmt: skip
    return sorted(found, key=lambda one: -one.worst()[1])


def _by_pool(newest: Mapping[tuple[str, str], float | None], least: float) -> dict[tuple[str, str], float]:
    pools: dict[str, dict[str, float]] = {}
    for (pool, name), value in newest.items():
        if value is not None:
            pools.setdefault(pool, {})[name] = value
    return {(pool, name): z for pool, values in pools.items() for name, z in scores(values, least).items()}


def table(scene: Scene) -> tuple[Node, Node]:
    """A row per replica with a small chart per measure; the median of its pool is dashed."""
    found = replicas(scene)
    if not found:
        return html.P(plots.why_empty(scene, scene.answers["load"]), className="none"), None
    medians = {
        (pool, one.key): median(known)
        for pool in {replica.pool for replica in found}
        for one in MEASURES
        if (known := _known(found, pool, one.key))
    }
    rows = [
        [
            _state(one),
            html.Span(one.name, className="tb-n"),
            one.pool,
            *(_cell(one, each, medians) for each in MEASURES),
        ]
        for one in found
    ]
    apart = sum(one.worst()[1] > THRESHOLD for one in found)
    headings = ("State", "Replica", "Pool", *(one.title for one in MEASURES))
    numeric = tuple(range(3, 3 + len(MEASURES)))
    count = counted(len(found), "1 replica", "{n} replicas")
    head = say("{count}, no outliers", count=count)
    if apart:
        head = counted(apart, "{count}, 1 outlier", "{count}, {n} outliers", count=count)
    return simple_table("Replicas", headings, rows, numeric), head


def _state(one: Replica) -> Node:
    key, z = one.worst()
    if not one.z:
        return html.Span(
            tag("none", "No peers"), title=say("fewer than {n} replicas in its pool: nothing to compare with", n=FEWEST)
        )
    if z <= THRESHOLD:
        return tag("ok", "In line")
    title = next(each.title for each in MEASURES if each.key == key)
    told = say("{what} is {z} robust deviations from the median of {pool}", what=title, z=f"{z:.1f}", pool=one.pool)
    return html.Span(tag("warn", title), title=told)


def _cell(one: Replica, measure: Measure, medians: Mapping[tuple[str, str], float]) -> Node:
    z = one.z.get(measure.key)
    apart = z is not None and (abs(z) if measure.two_sided else z) > THRESHOLD
    middle = medians.get((one.pool, measure.key))
    told = (
        ""
        if z is None or middle is None
        else say("z {z}, median of the pool {middle}", z=f"{z:+.1f}", middle=measure.write(middle))
    )
    course = spark(one.courses[measure.key], middle or 0.0)
    value = html.Span(measure.write(one.values[measure.key]), className="badn" if apart else "")
    return html.Div([value, course], className="sm", title=told)


def _known(found: Sequence[Replica], pool: str, key: str) -> list[float]:
    values = (one.values[key] for one in found if one.pool == pool)
    return [value for value in values if value is not None]


LOAD = Panel("fl-c-load", "Load", "req/s")
WAITING = Panel("fl-c-waiting", "Waiting requests")
KV = Panel("fl-c-kv", "KV cache used", "%")
TOKENS = Panel("fl-c-tokens", "Generated", "tok/s")

BOARD = Board(
    key="fl",
    title="Fleet",
    parts=(
        Box("fl-table", "Replicas", table, ask=asked),
        plots.lines(LOAD, plots.rate("requests", plots.REPLICA), by=plots.REPLICA),
        plots.lines(WAITING, plots.gauge("waiting_requests", by=plots.REPLICA), by=plots.REPLICA, floor_top=4),
        plots.shares(KV, plots.gauge("kv_usage", "max", plots.REPLICA), by=plots.REPLICA),
        plots.lines(TOKENS, plots.rate("generated_tokens", plots.REPLICA), by=plots.REPLICA),
    ),
)

PAGE = board.page(BOARD, path="/fleet", icon="server-2", key="f")
