"""What one engine or exporter calls the signals, as values; ``dialects/README.md`` describes the files they come from.

A dialect lists, per signal, ordered candidates; the first whose metric the source holds is used, together with those
of the same definition (a fleet whose servers are of different versions holds several; no server shows two of them). It
also lists what it does not expose and why, and further metric names that it is known to have.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from collector.signals.signals import Kind

HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")

Shape = Literal["histogram", "summary", "sums", "counter", "gauge", "info"]
"""What is on the wire: a histogram signal also comes as a summary, or as two counters, ``sums``; both tell its mean."""

Layer = Literal["device", "engine", "router", "gateway"]
LAYERS: tuple[Layer, ...] = get_args(Layer)
"""Who sees a request or a device, from the inside out; of several that see the same, the innermost is asked."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way in which an engine exposes a signal.

    ``metric``       name on the wire; a histogram's without ``_bucket``; of ``sums``, the counter of the sum
    ``kind``         the signal's kind; ``shape`` is what is on the wire
    ``unit``         as exposed; ``factor`` times the raw value is the signal's canonical unit
    ``where``        matchers that pick the signal's series, such as ``finished_reason="error"``
    ``count``        of ``sums``, the counter of the observations
    ``times``        a gauge that each series is multiplied with
    ``expr``         PromQL of a gauge that takes more than one metric; ``$where`` stands in each selector's braces
    ``needs``        the metrics beside ``metric`` that ``expr`` names
    ``plus``         counters that are added; their label sets differ from those of ``metric``
    ``adds``         counters that are added; their label sets are those of ``metric``
    ``aliases``      the same observation under older names; a server that has both is counted once
    ``since/until``  versions of the engine that have it
    ``definition``   tag where engines differ in what they count, such as ``total`` or ``computed`` for prompt tokens
    ``default_on``   False where the engine exposes it only with ``flag``
    ``sparse``       its series appear with the first event, so that its absence says nothing
    ``buckets``      a histogram's default upper bounds, without +Inf
    ``carries``      an info metric's labels: canonical name to own label
    """

    metric: str
    kind: Kind
    unit: str
    shape: Shape
    factor: float = 1.0
    where: str = ""
    count: str | None = None
    times: str | None = None
    expr: str | None = None
    needs: tuple[str, ...] = ()
    plus: tuple[str, ...] = ()
    adds: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    definition: str | None = None
    default_on: bool = True
    flag: str | None = None
    sparse: bool = False
    buckets: tuple[float, ...] = ()
    carries: tuple[tuple[str, str], ...] = ()

    @property
    def required(self) -> tuple[str, ...]:
        """Metrics that it cannot do without, beside ``metric`` or one of its aliases."""
        single = (one for one in (self.count, self.times) if one is not None)
        return (*single, *self.needs, *self.adds)

    def metrics(self) -> tuple[str, ...]:
        """Every metric name that it mentions, a histogram's without suffix."""
        return (self.metric, *self.aliases, *self.plus, *self.required)

    def names(self) -> frozenset[str]:
        """Every series name that it mentions, a histogram's with ``_bucket``, ``_sum``, ``_count``."""
        if self.shape == "histogram":
            return frozenset(metric + suffix for metric in self.metrics() for suffix in HISTOGRAM_SUFFIXES)
        if self.shape == "summary":
            return frozenset(self.metrics()).union(
                f"{one}{end}" for one in self.metrics() for end in ("_sum", "_count")
            )
        return frozenset(self.metrics())

    def shown_as(self, metric: str) -> str:
        """The series name whose presence proves ``metric``."""
        return metric + {"histogram": "_bucket", "summary": "_count"}.get(self.shape, "")


@dataclass(frozen=True, slots=True)
class Family:
    """Dialects of one family may show the same thing; what has the same label ``by`` is asked of one of them only."""

    name: str
    by: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the engine shows its metrics by default.

    ``flag`` switches the page on, None where it is on; ``version_path`` answers JSON with the engine's ``version``.
    """

    path: str | None
    port: int | None = None
    flag: str | None = None
    version_path: str | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """One engine's or exporter's names.

    ``layer``        who sees what it tells: see ``LAYERS``
    ``labels``       canonical label name to own (``pool`` to ``model_name``); a label left out keeps its name
    ``marks``        metrics any of which proves that the source holds this dialect, given all that it ``requires``
    ``where``        matchers that every series of it carries
    ``beside``       engine to matchers that keep its series apart from this dialect's where a source holds both
    ``version``      (metric, label) that tell the engine's version, if any do
    ``note``         what a person should do or know, in a sentence
    ``not_exposed``  signal to the reason why the engine has nothing of the kind
    ``also``         further series names that the engine is known to have
    """

    engine: str
    title: str
    labels: Mapping[str, str]
    marks: tuple[str, ...]
    signals: Mapping[str, tuple[Candidate, ...]]
    not_exposed: Mapping[str, str]
    also: frozenset[str]
    layer: Layer = "engine"
    family: Family | None = None
    requires: tuple[str, ...] = ()
    where: str = ""
    beside: Mapping[str, str] = field(default_factory=dict)
    endpoint: Endpoint | None = None
    version: tuple[str, str] | None = None
    note: str | None = None

    @property
    def pool_label(self) -> str | None:
        """Own label that stands for ``pool``; None where the dialect has nothing of the kind."""
        return self.labels.get("pool")

    def spoken(self, names: frozenset[str]) -> bool:
        """Whether a source that holds series of these names speaks this dialect."""
        return not names.isdisjoint(self.marks) and names.issuperset(self.requires)

    def names(self) -> frozenset[str]:
        """Every series name that the dialect knows."""
        mentioned = (candidate.names() for candidates in self.signals.values() for candidate in candidates)
        told = self.version[:1] if self.version else ()
        return self.also.union(self.marks, told, *mentioned)
