"""Read a dialect from its YAML file, whose fields ``dialects/README.md`` describes; errors say file, line, column."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

from collector.signals.dialect import (
    HISTOGRAM_SUFFIXES,
    LAYERS,
    Candidate,
    Dialect,
    Endpoint,
    Family,
    Layer,
    Shape,
)
from collector.signals.document import Node, parse_document
from collector.signals.signals import SIGNALS, Kind

SHAPES: Mapping[Kind, tuple[Shape, ...]] = {
    "histogram": ("histogram", "summary", "sums"),
    "counter": ("counter",),
    "gauge": ("gauge",),
    "info": ("info",),
}
"""What a signal of each kind may look like on the wire."""

_COMMON = ("engine", "title", "layer", "family", "labels", "marks", "requires", "where", "beside", "endpoint",
    "version", "note")  # fmt: skip
_OWN = (*_COMMON, "signals", "not_exposed", "also")
_LIKE = (*_COMMON, "like", "prefix")
_CANDIDATE_FIELDS = (
    "metric", "type", "unit", "factor", "where", "count", "times", "expr", "needs", "plus", "adds", "aliases", "since",
    "until", "definition", "default_on", "flag", "sparse", "buckets", "carries",
)  # fmt: skip
_TYPES = tuple(shape for shapes in SHAPES.values() for shape in shapes)


def no_other(name: str) -> Dialect:
    """The other dialects of a file that stands alone: none."""
    raise FileNotFoundError(name)


def read_dialect(text: str, path: str, other: Callable[[str], Dialect] = no_other) -> Dialect:
    """Read one dialect; ``path`` is what errors call it, ``other`` finds the one that it is ``like``.

    Raises DocumentError.
    """
    root = parse_document(text, path)
    what = root.mapping("dialect").get("like")
    if what is not None:
        return _alike(root, what, other)
    fields = root.only(_OWN, "dialect")
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
        layer=_layer(fields.get("layer"), "engine"),
        family=_family(fields.get("family")),
        requires=_strings(fields.get("requires"), "requires"),
        where=_text(fields.get("where"), "where") or "",
        beside=_texts(fields.get("beside"), "beside"),
        endpoint=_endpoint(fields.get("endpoint")),
        version=_version(fields.get("version")),
        note=_text(fields.get("note"), "note"),
    )


def _alike(root: Node, what: Node, other: Callable[[str], Dialect]) -> Dialect:
    """A dialect that has another one's metrics, under another prefix or with other labels."""
    fields = root.only(_LIKE, "dialect")
    try:
        found = other(what.string("like"))
    except FileNotFoundError as error:
        raise what.error(f"like is {what.shown()}; no dialect is called so") from error
    ((old, new),) = _texts(fields.get("prefix"), "prefix").items() or (("", ""),)
    labels = _texts(fields.get("labels"), "labels") if "labels" in fields else found.labels
    return Dialect(
        engine=root.need("engine", "dialect").string("engine"),
        title=root.need("title", "dialect").string("title"),
        labels=labels,
        marks=_strings(root.need("marks", "dialect"), "marks"),
        signals={
            signal: tuple(_renamed(candidate, old, new) for candidate in candidates)
            for signal, candidates in found.signals.items()
        },
        not_exposed=found.not_exposed,
        also=frozenset(new + name.removeprefix(old) for name in found.also if name.startswith(old)),
        layer=_layer(fields.get("layer"), found.layer),
        family=_family(fields.get("family")),
        requires=_strings(fields.get("requires"), "requires"),
        where=_text(fields.get("where"), "where") or "",
        beside=_texts(fields.get("beside"), "beside"),
        endpoint=_endpoint(fields.get("endpoint")),
        note=_text(fields.get("note"), "note"),
    )


def _renamed(candidate: Candidate, old: str, new: str) -> Candidate:
    def one(name: str) -> str:
        return new + name.removeprefix(old) if name.startswith(old) else name

    def each(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(one, names))

    return replace(
        candidate,
        metric=one(candidate.metric),
        count=candidate.count and one(candidate.count),
        times=candidate.times and one(candidate.times),
        plus=each(candidate.plus),
        adds=each(candidate.adds),
        aliases=each(candidate.aliases),
    )


def _candidates(signal: str, node: Node) -> tuple[Candidate, ...]:
    items = node.sequence(f"signals.{signal}")
    if not items:
        raise node.error(f"signals.{signal}: has no candidate")
    return tuple(_candidate(signal, index, item) for index, item in enumerate(items))


def _candidate(signal: str, index: int, node: Node) -> Candidate:
    what = f"signals.{signal}[{index}]"
    fields = node.only(_CANDIDATE_FIELDS, what)
    shape = _shape(signal, node.need("type", what), what)
    default_on = fields["default_on"].boolean(f"{what}.default_on") if "default_on" in fields else True
    flag = _text(fields.get("flag"), f"{what}.flag")
    if not default_on and flag is None:
        raise node.error(f"{what}: default_on is false, so flag must say what switches it on")
    if (shape == "sums") != ("count" in fields):
        raise node.error(f"{what}: count names the counter of observations of type sums, and of no other")
    if "expr" in fields and shape != "gauge":
        raise fields["expr"].error(f"{what}: expr is for gauges")
    return Candidate(
        metric=node.need("metric", what).string(f"{what}.metric"),
        kind=SIGNALS[signal].kind,
        unit=node.need("unit", what).string(f"{what}.unit"),
        shape=shape,
        factor=_factor(fields.get("factor"), f"{what}.factor"),
        where=_text(fields.get("where"), f"{what}.where") or "",
        count=_text(fields.get("count"), f"{what}.count"),
        times=_text(fields.get("times"), f"{what}.times"),
        expr=_text(fields.get("expr"), f"{what}.expr"),
        needs=_strings(fields.get("needs"), f"{what}.needs"),
        plus=_strings(fields.get("plus"), f"{what}.plus"),
        adds=_strings(fields.get("adds"), f"{what}.adds"),
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


def _shape(signal: str, node: Node, what: str) -> Shape:
    text = node.string(f"{what}.type")
    kind = SIGNALS[signal].kind
    for shape in SHAPES[kind]:
        if shape == text:
            return shape
    if text not in _TYPES:
        raise node.error(f"{what}.type is {text!r}; allowed are {', '.join(_TYPES)}")
    raise node.error(f"{what}.type is {text!r}, but signal {signal} is a {kind}")


def _signal_name(key: Node) -> str:
    if key.text not in SIGNALS:
        raise key.error(f"no signal is called {key.text!r}; collector.signals.SIGNALS lists them")
    return key.text


def _layer(node: Node | None, default: Layer) -> Layer:
    if node is None:
        return default
    for layer in LAYERS:
        if node.text == layer:
            return layer
    raise node.error(f"layer is {node.shown()}; allowed are {', '.join(LAYERS)}")


def _family(node: Node | None) -> Family | None:
    if node is None:
        return None
    node.only(("name", "by"), "family")
    return Family(
        node.need("name", "family").string("family.name"),
        node.need("by", "family").string("family.by"),
    )


def _endpoint(node: Node | None) -> Endpoint | None:
    if node is None:
        return None
    fields = node.only(("path", "port", "flag", "version_path"), "endpoint")
    port = fields.get("port")
    return Endpoint(
        path=_text(fields.get("path"), "endpoint.path"),
        port=None if port is None else int(port.number("endpoint.port")),
        flag=_text(fields.get("flag"), "endpoint.flag"),
        version_path=_text(fields.get("version_path"), "endpoint.version_path"),
    )


def _version(node: Node | None) -> tuple[str, str] | None:
    if node is None:
        return None
    node.only(("metric", "label"), "version")
    return (
        node.need("metric", "version").string("version.metric"),
        node.need("label", "version").string("version.label"),
    )


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
