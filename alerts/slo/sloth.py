"""Reads Sloth's ``prometheus/v1``, with one extension: ``sli.signal`` names signals instead of queries.

sli:
  signal: {name: ttft, threshold: 0.5}        # share of observations at or below 0.5 s
  signal: {bad: errors, total: requests}      # share of bad ones
"""

from alerts.slo.indicator import Query, bad_over_total, share_of, slower_than, windowed
from alerts.slo.objective import AlertSpec, Objective, Reading
from collector.model.labels import Labels
from collector.signals import Node, Vocabulary

_FILE = ("version", "service", "labels", "slo_plugins", "slos")
_SLO = ("name", "description", "objective", "labels", "sli", "alerting")
_ALERTING = ("name", "labels", "annotations", "page_alert", "ticket_alert")


def read_sloth(document: Node, vocabulary: Vocabulary, reading: Reading) -> None:
    """Add the objectives of one document to ``reading``. Raises DocumentError."""
    fields = document.only(_FILE, "Sloth file")
    version = document.need("version", "Sloth file")
    if version.text != "prometheus/v1":
        raise version.error(f"version is {version.shown()}; prometheus/v1 is read")
    service = document.need("service", "Sloth file").string("service")
    shared = _texts(fields.get("labels"), "labels")
    for index, node in enumerate(document.need("slos", "Sloth file").sequence("slos")):
        reading.objectives.append(_objective(node, f"slos[{index}]", service, shared, vocabulary, reading))


def _objective(
    node: Node, what: str, service: str, shared: Labels, vocabulary: Vocabulary, reading: Reading
) -> Objective:
    fields = node.only(_SLO, what)
    percent = node.need("objective", what)
    ratio = round(percent.number(f"{what}.objective") / 100, 12)
    if not 0 < ratio < 1:
        raise percent.error(f"{what}.objective is {percent.shown()}; it must lie between 0 and 100 (percent)")
    alerting = fields["alerting"].only(_ALERTING, f"{what}.alerting") if "alerting" in fields else {}
    named = alerting.get("name")
    return Objective(
        service=service,
        name=node.need("name", what).string(f"{what}.name"),
        ratio=ratio,
        error_ratio=_sli(node.need("sli", what), f"{what}.sli", vocabulary, reading),
        description=_text(fields.get("description"), f"{what}.description"),
        labels=over(shared, _texts(fields.get("labels"), f"{what}.labels")),
        alert_name=_text(named, f"{what}.alerting.name"),
        page=_alert(alerting, "page_alert", "page", what),
        ticket=_alert(alerting, "ticket_alert", "ticket", what),
    )


def _sli(node: Node, what: str, vocabulary: Vocabulary, reading: Reading) -> Query:
    fields = node.only(("events", "raw", "signal"), what)
    if len(fields) != 1:
        raise node.error(f"{what} has {len(fields)} of events, raw, signal; it must have one")
    if "events" in fields:
        events = fields["events"]
        events.only(("error_query", "total_query"), f"{what}.events")
        return bad_over_total(
            windowed(events.need("error_query", f"{what}.events"), f"{what}.events.error_query"),
            windowed(events.need("total_query", f"{what}.events"), f"{what}.events.total_query"),
        )
    if "raw" in fields:
        fields["raw"].only(("error_ratio_query",), f"{what}.raw")
        return windowed(fields["raw"].need("error_ratio_query", f"{what}.raw"), f"{what}.raw.error_ratio_query")
    signal = fields["signal"]
    own = signal.only(("name", "threshold", "bad", "total"), f"{what}.signal")
    if "name" in own:
        threshold = signal.need("threshold", f"{what}.signal").number(f"{what}.signal.threshold")
        return slower_than(own["name"], own["name"].string(f"{what}.signal.name"), threshold, vocabulary, reading)
    bad = signal.need("bad", f"{what}.signal").string(f"{what}.signal.bad")
    return share_of(signal, bad, signal.need("total", f"{what}.signal").string(f"{what}.signal.total"), vocabulary)


def _alert(alerting: dict[str, Node], kind: str, severity: str, what: str) -> AlertSpec:
    own = (
        alerting[kind].only(("labels", "annotations", "disable"), f"{what}.alerting.{kind}") if kind in alerting else {}
    )
    labels = over(
        _texts(alerting.get("labels"), f"{what}.alerting.labels"), _texts(own.get("labels"), f"{kind}.labels")
    )
    return AlertSpec(
        labels=over((("severity", severity),), labels),
        annotations=over(
            _texts(alerting.get("annotations"), f"{what}.alerting.annotations"),
            _texts(own.get("annotations"), f"{kind}.annotations"),
        ),
        enabled=not ("disable" in own and own["disable"].boolean(f"{kind}.disable")),
    )


def over(under: Labels, own: Labels) -> Labels:
    """``under`` with ``own`` in front of it."""
    return tuple(sorted((dict(under) | dict(own)).items()))


def _text(node: Node | None, what: str) -> str:
    return "" if node is None or node.value is None else node.string(what)


def _texts(node: Node | None, what: str) -> Labels:
    if node is None or node.value is None:
        return ()
    return tuple(sorted((name, _text(value, f"{what}.{name}")) for name, value in node.mapping(what).items()))
