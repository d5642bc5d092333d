"""What one engine or exporter calls the signals: one YAML file each, under ``dialects/``.

A dialect lists, per signal, ordered candidates; the first whose metric the source holds is used, together with those
of the same definition (a fleet whose servers are of different versions holds several; no server shows two of them). It
also lists what it does not expose and why, and further metric names that it is known to have.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from collector.signals.document import Node, parse_document
from collector.signals.signals import KINDS, SIGNALS, Kind

DIALECTS_DIR = Path(__file__).parent / "dialects"

HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")

_DIALECT_FIELDS = ("engine", "title", "labels", "marks", "signals", "not_exposed", "also")
_CANDIDATE_FIELDS = (
    "metric", "type", "unit", "factor", "where", "times", "plus", "aliases", "since", "until", "definition",
    "default_on", "flag", "sparse", "buckets", "carries",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way in which an engine exposes a signal.

    ``metric``       name on the wire; a histogram's without ``_bucket``
    ``unit``         as exposed; ``factor`` times the raw value is the signal's canonical unit
    ``where``        matchers that pick the signal's series, such as ``finished_reason="error"``
    ``times``        a second gauge that the first is multiplied with, series by series
    ``plus``         counters that are added; their label sets differ from those of ``metric``
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
    factor: float = 1.0
    where: str = ""
    times: str | None = None
    plus: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    definition: str | None = None
    default_on: bool = True
    flag: str | None = None
    sparse: bool = False
    buckets: tuple[float, ...] = ()
    carries: tuple[tuple[str, str], ...] = ()

    def metrics(self) -> tuple[str, ...]:
        """Every metric name that it mentions, a histogram's without suffix."""
        return (self.metric, *self.aliases, *self.plus, *((self.times,) if self.times else ()))

    def names(self) -> frozenset[str]:
        """Every series name that it mentions, a histogram's with ``_bucket``, ``_sum``, ``_count``."""
        if self.kind != "histogram":
            return frozenset(self.metrics())
        return frozenset(metric + suffix for metric in self.metrics() for suffix in HISTOGRAM_SUFFIXES)


@dataclass(frozen=True, slots=True)
class Dialect:
    """One engine's or exporter's names.

    ``labels``       canonical label name to own (``pool`` to ``model_name``); a label left out keeps its name
    ``marks``        metrics any of which proves that the source holds this dialect
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

    @property
    def pool_label(self) -> str | None:
        """Own label that stands for ``pool``; None where the dialect has nothing of the kind."""
        return self.labels.get("pool")

    def names(self) -> frozenset[str]:
        """Every series name that the dialect knows."""
        mentioned = (candidate.names() for candidates in self.signals.values() for candidate in candidates)
        return self.also.union(self.marks, *mentioned)


@lru_cache(maxsize=8)
def load_dialects(directory: Path = DIALECTS_DIR) -> tuple[Dialect, ...]:
    """Read every dialect in ``directory``, by file name; each directory is read once.

    Raises DocumentError with file, line and column.
    """
    return tuple(read_dialect(path.read_text(encoding="utf-8"), str(path)) for path in sorted(directory.glob("*.yaml")))


def names_known(dialects: tuple[Dialect, ...] | None = None) -> frozenset[str]:
    """Every metric name in any of ``dialects`` (default: all that come with Loadline).

    Histograms appear by family name and with ``_bucket``, ``_sum``, ``_count``.
    """
    known = load_dialects() if dialects is None else dialects
    series = series_known(known)
    ends = len("_bucket")
    return series.union(name[:-ends] for name in series if name.endswith("_bucket"))


def series_known(dialects: tuple[Dialect, ...] | None = None) -> frozenset[str]:
    """Every series name in any of ``dialects``: what a PromQL selector may ask for."""
    known = load_dialects() if dialects is None else dialects
    return frozenset[str]().union(*(dialect.names() for dialect in known))


def read_dialect(text: str, path: str) -> Dialect:
    """Read one dialect; ``path`` is what errors call it. Raises DocumentError."""
    root = parse_document(text, path)
    fields = root.only(_DIALECT_FIELDS, "dialect")
    signals = {
        _signal_name(key): _candidates(key.text, fields["signals"].mapping("signals")[key.text])
        for key in root.need("signals", "dialect").keys
    }
    return Dialect(
        engine=root.need("engine", "dialect").string("engine"),
        title=root.need("title", "dialect").string("title"),
        labels=_texts(fields.get("labels"), "labels"),
        marks=_strings(root.need("marks", "dialect"), "marks"),
        signals=signals,
        not_exposed=_reasons(fields.get("not_exposed"), signals),
        also=_series_names(fields.get("also")),
    )


def _candidates(signal: str, node: Node) -> tuple[Candidate, ...]:
    items = node.sequence(f"signals.{signal}")
    if not items:
        raise node.error(f"signals.{signal}: has no candidate")
    return tuple(_candidate(signal, index, item) for index, item in enumerate(items))


def _candidate(signal: str, index: int, node: Node) -> Candidate:
    what = f"signals.{signal}[{index}]"
    fields = node.only(_CANDIDATE_FIELDS, what)
    kind = node.need("type", what).string(f"{what}.type")
    if kind not in KINDS:
        raise fields["type"].error(f"{what}.type is {kind!r}; allowed are {', '.join(KINDS)}")
    if kind != SIGNALS[signal].kind:
        raise fields["type"].error(f"{what}.type is {kind!r}, but signal {signal} is a {SIGNALS[signal].kind}")
    default_on = fields["default_on"].boolean(f"{what}.default_on") if "default_on" in fields else True
    flag = _text(fields.get("flag"), f"{what}.flag")
    if not default_on and flag is None:
        raise node.error(f"{what}: default_on is false, so flag must say what switches it on")
    return Candidate(
        metric=node.need("metric", what).string(f"{what}.metric"),
        kind=SIGNALS[signal].kind,
        unit=node.need("unit", what).string(f"{what}.unit"),
        factor=_factor(fields.get("factor"), f"{what}.factor"),
        where=_text(fields.get("where"), f"{what}.where") or "",
        times=_text(fields.get("times"), f"{what}.times"),
        plus=_strings(fields.get("plus"), f"{what}.plus"),
        aliases=_strings(fields.get("aliases"), f"{what}.aliases"),
        since=_text(fields.get("since"), f"{what}.since"),
        until=_text(fields.get("until"), f"{what}.until"),
        definition=_text(fields.get("definition"), f"{what}.definition"),
        default_on=default_on,
        flag=flag,
        sparse=fields["sparse"].boolean(f"{what}.sparse") if "sparse" in fields else False,
        buckets=_bounds(fields.get("buckets"), f"{what}.buckets"),
        carries=tuple(_texts(fields.get("carries"), f"{what}.carries").items()),
    )


def _signal_name(key: Node) -> str:
    if key.text not in SIGNALS:
        raise key.error(f"no signal is called {key.text!r}; collector.signals.SIGNALS lists them")
    return key.text


def _text(node: Node | None, what: str) -> str | None:
    return None if node is None else node.string(what)


def _strings(node: Node | None, what: str) -> tuple[str, ...]:
    return () if node is None else tuple(item.string(f"{what}[{i}]") for i, item in enumerate(node.sequence(what)))


def _texts(node: Node | None, what: str) -> dict[str, str]:
    return {} if node is None else {key: value.string(f"{what}.{key}") for key, value in node.mapping(what).items()}


def _factor(node: Node | None, what: str) -> float:
    if node is None:
        return 1.0
    factor = node.number(what)
    if not 0 < factor < float("inf"):
        raise node.error(f"{what} is {node.shown()}; it must be a positive number")
    return factor


def _bounds(node: Node | None, what: str) -> tuple[float, ...]:
    if node is None:
        return ()
    bounds = tuple(item.number(f"{what}[{index}]") for index, item in enumerate(node.sequence(what)))
    if any(low >= high for low, high in pairwise(bounds)):
        raise node.error(f"{what}: bounds must rise")
    return bounds


def _reasons(node: Node | None, signals: Mapping[str, tuple[Candidate, ...]]) -> dict[str, str]:
    if node is None:
        return {}
    for key in node.keys:
        if _signal_name(key) in signals:
            raise key.error(f"not_exposed.{key.text}: signals.{key.text} says that it is exposed")
    return _texts(node, "not_exposed")


def _series_names(node: Node | None) -> frozenset[str]:
    """``also``: counters, gauges and infos by name, histograms by name without suffix."""
    if node is None:
        return frozenset()
    fields = node.only(("histograms", "others"), "also")
    histograms = _strings(fields.get("histograms"), "also.histograms")
    names = {name + suffix for name in histograms for suffix in HISTOGRAM_SUFFIXES}
    return frozenset(names.union(_strings(fields.get("others"), "also.others")))
