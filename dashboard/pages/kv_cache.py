"""KV cache: how full, how large, what the prefix cache saves, what is thrown out for want of room."""

from collections.abc import Mapping, Sequence

from dash import html

from dashboard import board, plots, quantity, queries
from dashboard.board import Ask, Board, Box, Scene
from dashboard.parts.icon import Node
from dashboard.parts.panel import Panel
from dashboard.parts.tables import simple_table
from dashboard.source import Question
from dashboard.words import say

EVICTS_AT = 0.9
FULL = plots.Limit(EVICTS_AT, say("evicts above {share}", share=quantity.threshold(EVICTS_AT)))

USAGE = Panel("kv-usage", "KV cache used", "%", span=6)
REPLICAS = Panel("kv-replicas", "KV cache used, by replica", "%", span=6)
HIT = Panel("kv-hit", "Prefix hit ratio", "%")
SAVED = Panel("kv-saved", "Prompt tokens from the cache", "tok/s")
FREE = Panel("kv-free", "Free", "tokens")
CAPACITY = Panel("kv-capacity", "Capacity", "tokens")
PREEMPTIONS = Panel("kv-preemptions", "Preemptions", "/s")
WAITING = Panel("kv-waiting", "Waiting requests")
LIFETIME = Panel("kv-lifetime", "KV block lifetime")
LENGTH = Panel("kv-length", "Prompt tokens per request")


def hit_ratio(ask: Ask) -> str:
    """Share of the prompt tokens looked up that the prefix cache held."""
    return ask.vocabulary.ratio("prefix_hits", "prefix_queries", ask.rate_window, where=ask.where)


def free(ask: Ask) -> str:
    """Tokens for which there is room, by pool."""
    by = ("pool", "instance")
    capacity = ask.vocabulary.gauge("kv_capacity", by=by, where=ask.where)
    used = ask.vocabulary.gauge("kv_usage", agg="max", by=by, where=ask.where)
    return f"sum by (pool) ({capacity} * (1 - {used}))"


def configured(ask: Ask) -> dict[str, Question]:
    """What the engines say of their configuration, and how large their caches are."""
    return {
        "info": queries.question(lambda: ask.vocabulary.info("engine_info", where=ask.where)),
        "capacity": queries.question(
            lambda: ask.vocabulary.gauge("kv_capacity", by=("pool", "instance"), where=ask.where)
        ),
    }


HIDDEN = frozenset({"__name__", "job", "pool"})


def configuration(scene: Scene) -> tuple[Node, Node]:
    """A row per replica: capacity, and every label of its info metric."""
    info, capacity = scene.answers["info"], scene.answers["capacity"]
    held = {dict(line.labels).get("instance", ""): queries.last(line.values) for line in capacity.lines}
    told = [dict(line.labels) for line in info.lines if queries.last(line.values) is not None]
    if not told and not held:
        return html.P(plots.why_empty(scene, info), className="none"), None
    columns = sorted({name for labels in told for name in labels} - HIDDEN - {"instance"})
    rows = [_row(labels, columns, held) for labels in sorted(told, key=lambda one: one.get("instance", ""))]
    rows = rows or [[name, quantity.count(value)] for name, value in held.items()]
    return simple_table("Engines as configured", ("Replica", "Capacity, tokens", *columns), rows), None


def _row(labels: Mapping[str, str], columns: Sequence[str], held: Mapping[str, float | None]) -> list[str]:
    instance = labels.get("instance", "")
    return [instance, quantity.count(held.get(instance)), *(labels.get(name, quantity.ABSENT) for name in columns)]


BOARD = Board(
    key="kv",
    title="KV cache",
    parts=(
        plots.shares(USAGE, plots.gauge("kv_usage", "max"), limit=FULL),
        plots.shares(REPLICAS, plots.gauge("kv_usage", "max", plots.REPLICA), by=plots.REPLICA, limit=FULL),
        plots.shares(HIT, hit_ratio),
        plots.lines(SAVED, plots.rate("prefix_hits"), summed=True),
        plots.lines(FREE, free, summed=True),
        plots.lines(CAPACITY, plots.gauge("kv_capacity"), summed=True),
        plots.lines(PREEMPTIONS, plots.rate("preemptions"), floor_top=0.1, summed=True),
        plots.lines(WAITING, plots.gauge("waiting_requests"), floor_top=4, summed=True),
        plots.fan(LIFETIME, "kv_block_lifetime"),
        plots.fan(LENGTH, "prompt_length", write=quantity.count),
        Box("kv-config", "Engines as configured", configuration, ask=configured),
    ),
)  # fmt: skip

PAGE = board.page(BOARD, path="/kv-cache", icon="database", key="k")
