"""Reads OpenSLO v1: kinds SLO and SLI (others are left alone), Occurrences over a rolling window.

A metric source of type Prometheus has a query: with ``{{.window}}`` in it, or a plain counter's selector. A metric
source of type Loadline has a signal: ``{type: Loadline, spec: {signal: ttft}}``.
"""

from collections.abc import Sequence

from alerts.slo.indicator import Query, bad_over_total, good_over_total, share_of, slower_than, windowed
from alerts.slo.objective import WINDOW_S, Objective, Reading
from collector.model.durations import SHAPE, parse_duration_ms
from collector.model.errors import QueryError
from collector.model.labels import Labels
from collector.promql import parse
from collector.signals import Node, Vocabulary

API_VERSION = "openslo/v1"
_BAD_IF = {"lte": ">", "lt": ">=", "gte": "<", "gt": "<="}


def read_openslo(documents: Sequence[Node], vocabulary: Vocabulary, reading: Reading) -> None:
    """Add the objectives of all ``documents`` to ``reading``. Raises DocumentError."""
    indicators: dict[str, Node] = {}
    objectives: list[Node] = []
    for document in documents:
        version = document.need("apiVersion", "document")
        if version.text != API_VERSION:
            raise version.error(f"apiVersion is {version.shown()}; {API_VERSION} is read")
        kind = document.need("kind", "document").string("kind")
        if kind == "SLI":
            indicators[_name(document)] = document
        elif kind == "SLO":
            objectives.append(document)
    if not objectives:
        raise documents[0].error("holds no document of kind SLO")
    for document in objectives:
        _slo(document, indicators, vocabulary, reading)


def _slo(document: Node, indicators: dict[str, Node], vocabulary: Vocabulary, reading: Reading) -> None:
    spec = document.need("spec", "SLO")
    fields = spec.mapping("spec")
    method = fields.get("budgetingMethod")
    if method is not None and method.text != "Occurrences":
        raise method.error(f"spec.budgetingMethod is {method.shown()}; Occurrences is read")
    indicator = _indicator(spec, fields, indicators)
    objectives = spec.need("objectives", "spec").sequence("spec.objectives")
    for index, node in enumerate(objectives):
        what = f"spec.objectives[{index}]"
        ratio = _target(node, what)
        query, sampled = _measure(indicator, node, what, vocabulary, reading)
        reading.objectives.append(
            Objective(
                service=spec.need("service", "spec").string("spec.service"),
                name=_name(document) if len(objectives) == 1 else f"{_name(document)}-{index + 1}",
                ratio=ratio,
                error_ratio=query,
                sampled=sampled,
                window_s=_window_s(fields.get("timeWindow")),
                description=_text(fields.get("description")),
                labels=_labels(document),
            )
        )


def _indicator(spec: Node, fields: dict[str, Node], indicators: dict[str, Node]) -> Node:
    if "indicatorRef" in fields:
        wanted = fields["indicatorRef"].string("spec.indicatorRef")
        if wanted not in indicators:
            known = ", ".join(sorted(indicators)) or "none"
            raise fields["indicatorRef"].error(f'spec.indicatorRef is "{wanted}"; SLIs of this file: {known}')
        return indicators[wanted].need("spec", "SLI")
    return spec.need("indicator", "spec").need("spec", "spec.indicator")


def _measure(
    indicator: Node, objective: Node, what: str, vocabulary: Vocabulary, reading: Reading
) -> tuple[Query | None, str]:
    fields = indicator.only(("ratioMetric", "thresholdMetric", "description"), "indicator")
    if "ratioMetric" in fields:
        return _ratio(fields["ratioMetric"], vocabulary), ""
    metric = indicator.need("thresholdMetric", "indicator")
    source, spec = _source(metric, "thresholdMetric")
    own = objective.mapping(what)
    op = objective.need("op", what)
    if op.text not in _BAD_IF:
        raise op.error(f"{what}.op is {op.shown()}; allowed are {', '.join(_BAD_IF)}")
    limit = own["value"].number(f"{what}.value") if "value" in own else None
    if limit is None:
        raise objective.error(f"{what}: field 'value' is missing")
    if source == "Loadline":
        signal = spec.need("signal", "thresholdMetric")
        if op.text != "lte":
            raise op.error(f"{what}.op is {op.shown()}; a signal's histogram counts lte")
        return slower_than(signal, signal.string("signal"), limit, vocabulary, reading), ""
    query = spec.need("query", "thresholdMetric")
    try:
        parse(query.string("thresholdMetric.query"))
    except QueryError as error:
        raise query.error(f"thresholdMetric.query does not parse: {error}") from error
    return None, f"({query.text.strip()}) {_BAD_IF[op.text]} bool {limit:g}"


def _ratio(metric: Node, vocabulary: Vocabulary) -> Query:
    fields = metric.only(("counter", "good", "bad", "total", "rawType", "raw"), "ratioMetric")
    kinds = [kind for kind in ("good", "bad") if kind in fields]
    if len(kinds) != 1:
        raise metric.error(f"ratioMetric has {' and '.join(kinds) or 'neither'} of good, bad; it must have one")
    part, total = fields[kinds[0]], metric.need("total", "ratioMetric")
    source, spec = _source(part, f"ratioMetric.{kinds[0]}")
    _, whole = _source(total, "ratioMetric.total")
    if source == "Loadline":
        if kinds[0] == "good":
            raise part.error("ratioMetric of signals takes bad, not good")
        names = [each.need("signal", "ratioMetric").string("signal") for each in (spec, whole)]
        return share_of(spec, names[0], names[1], vocabulary)
    counter = "counter" not in fields or fields["counter"].boolean("ratioMetric.counter")
    one = windowed(spec.need("query", kinds[0]), f"ratioMetric.{kinds[0]}.query", counter=counter)
    all_of = windowed(whole.need("query", "total"), "ratioMetric.total.query", counter=counter)
    return good_over_total(one, all_of) if kinds[0] == "good" else bad_over_total(one, all_of)


def _source(metric: Node, what: str) -> tuple[str, Node]:
    source = metric.need("metricSource", what)
    fields = source.mapping(f"{what}.metricSource")
    kind = fields["type"].text if "type" in fields else "Prometheus"
    if kind not in ("Prometheus", "Loadline"):
        raise fields["type"].error(f'{what}.metricSource.type is "{kind}"; allowed are Prometheus, Loadline')
    return kind, source.need("spec", f"{what}.metricSource")


def _target(node: Node, what: str) -> float:
    fields = node.mapping(what)
    if "targetPercent" in fields:
        found, ratio = fields["targetPercent"], fields["targetPercent"].number(f"{what}.targetPercent") / 100
    else:
        found = node.need("target", what)
        ratio = found.number(f"{what}.target")
    if not 0 < ratio < 1:
        raise found.error(f"{what}: the target is {found.shown()}; it must lie between 0 and 1 (0 and 100 percent)")
    return round(ratio, 12)


def _window_s(node: Node | None) -> float:
    if node is None:
        return WINDOW_S
    items = node.sequence("spec.timeWindow")
    if len(items) != 1:
        raise node.error(f"spec.timeWindow has {len(items)} windows; it must have one")
    fields = items[0].mapping("spec.timeWindow[0]")
    if "calendar" in fields or ("isRolling" in fields and not fields["isRolling"].boolean("isRolling")):
        raise items[0].error("spec.timeWindow[0] is a calendar's; rolling windows are read")
    duration = items[0].need("duration", "spec.timeWindow[0]")
    duration_ms = parse_duration_ms(duration.string("duration"))
    if not duration_ms or duration_ms < 7 * 86_400_000:
        raise duration.error(f"spec.timeWindow[0].duration is {duration.shown()}; {SHAPE}, and 7d is the shortest")
    return duration_ms / 1000


def _name(document: Node) -> str:
    return document.need("metadata", "document").need("name", "metadata").string("metadata.name")


def _labels(document: Node) -> Labels:
    labels = document.need("metadata", "document").mapping("metadata").get("labels")
    if labels is None or labels.value is None:
        return ()
    return tuple(sorted((name, _text(value)) for name, value in labels.mapping("metadata.labels").items()))


def _text(node: Node | None) -> str:
    return "" if node is None or node.value is None else node.string("text")
