"""Which requests were served, read from the source's spans, and what a page's filters leave of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from collector.model.errors import SourceError
from collector.model.spans import Span
from dashboard.cache import Held
from dashboard.errors import ViewError
from dashboard.refresh import Refresh
from dashboard.served import MODEL, TENANT, Served, slowest
from dashboard.source import Source
from dashboard.words import said_error, say

LIMIT = 500
"""Newest requests of each pool that are looked at."""
TTL_S = 4.0

ORDERS: Mapping[str, tuple[str, Callable[[Served], float]]] = {
    "": ("slowest first token", lambda one: -one.wait_s),
    "e2e": ("slowest whole", lambda one: -one.e2e_s),
    "itl": ("slowest per token", lambda one: -(one.pace_s or 0.0)),
    "queue": ("longest queue", lambda one: -(one.queue_s or 0.0)),
    "new": ("newest", lambda one: -one.at_s),
}
"""What the table can be sorted by: value in the address, words, key."""

KINDS: Mapping[str, tuple[str, Callable[[Served], bool]]] = {
    "": ("all requests", lambda one: True),
    "failed": ("failed", lambda one: one.failed),
    "preempted": ("preempted", lambda one: one.preemptions > 0),
    "cached": ("with a prefix hit", lambda one: one.cached_tokens > 0),
}


@dataclass(frozen=True, slots=True)
class Sieve:
    """The page's own filters: at least ``slow_s`` to the first token, of ``kind``, trace ids that begin with ``text``;
    sorted by ``order``."""

    slow_s: float = 0.0
    kind: str = ""
    text: str = ""
    order: str = ""

    @property
    def open(self) -> bool:
        """Whether everything passes."""
        return not (self.slow_s or self.kind or self.text)

    def apply(self, rows: Sequence[Served]) -> list[Served]:
        """What passes, in order."""
        fits = KINDS[self.kind][1]
        kept = [one for one in rows if one.wait_s >= self.slow_s and fits(one) and one.trace_id.startswith(self.text)]
        return sorted(kept, key=ORDERS[self.order][1])


def sieve(own: Mapping[str, str]) -> Sieve:
    """Read ``slow`` (milliseconds), ``only``, ``q`` and ``sort`` of an address. Raises ViewError."""
    slow, kind, order = own.get("slow", ""), own.get("only", ""), own.get("sort", "")
    try:
        slow_s = float(slow) / 1000 if slow else 0.0
    except ValueError:
        raise ViewError(say("slow={value}: a number of milliseconds, such as 800", value=slow)) from None
    if kind not in KINDS:
        raise ViewError(_one_of("only", kind, KINDS))
    if order not in ORDERS:
        raise ViewError(_one_of("sort", order, ORDERS))
    return Sieve(slow_s, kind, own.get("q", "").strip().lower(), order)


def _one_of(name: str, value: str, allowed: Iterable[str]) -> str:
    return say("{given}: one of {allowed}", given=f"{name}={value}", allowed=", ".join(filter(None, allowed)))


def read(begun: Refresh, source: Source) -> Held:
    """Server spans of the range, newest first; without known pools, every span that names a model."""
    pools = [pool for pool in begun.scope.pools if begun.view.wants(pool)] or list(begun.view.pools)
    tenants = begun.view.tenants
    window = begun.window

    def load() -> tuple[Span, ...]:
        asked: list[dict[str, str] | None] = [{MODEL: pool} for pool in pools] or [None]
        found = [
            source.client.spans(start_s=window.start_s, end_s=window.end_s + window.step_s, attributes=one, limit=LIMIT)
            for one in asked
        ]
        return tuple(
            span for spans in found for span in spans
            if MODEL in span.attributes and (not tenants or span.attributes.get(TENANT) in tenants)
        )  # fmt: skip

    kin = f"spans {pools} {tenants} {window.span_s} {None if window.live else window.end_s}"
    return source.kept(f"{kin} {window.start_s} {window.end_s}", load, TTL_S, kin=kin)


def trace(trace_id: str, source: Source) -> Held:
    """All spans of one trace."""
    return source.kept(f"trace {trace_id}", lambda: source.client.spans(trace_id=trace_id, limit=LIMIT), TTL_S)


def exemplars(begun: Refresh, source: Source, pool: str | None, most: int = 24) -> list[Served]:
    """The slowest request of each stretch of the window, of one pool: points that lead to their traces.

    Empty where the source keeps no spans, or none yet.
    """
    held = read(begun, source)
    stretch_s = max(begun.window.span_s / most, 1.0)
    best: dict[int, Served] = {}
    for one in slowest(held.value or ()):
        if pool in (None, one.pool):
            best.setdefault(int((one.at_s - begun.window.start_s) / stretch_s), one)
    return sorted(best.values(), key=lambda one: one.at_s)


def why_none(held: Held, served: float | None) -> tuple[str, str]:
    """Why there is no request to show, as a lead and a sentence; ``served`` is how many ended in this time."""
    if isinstance(held.error, SourceError) and held.error.kind == "no_spans":
        return "No requests to show.", say(" {why}.", why=said_error(held.error))
    if held.error is not None:
        return "Requests cannot be read.", say(" {why}.", why=said_error(held.error))
    if served:
        told = say(" {n} requests ended in this time, but none of them left a span.", n=f"{served:.0f}")
        return "No spans.", told + " Engines send theirs with --otlp-endpoint ADDRESS-OF-THE-COLLECTOR."
    return "Idle: no request ended in this range.", " Engines send spans with --otlp-endpoint ADDRESS-OF-THE-COLLECTOR."
