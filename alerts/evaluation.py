"""From a rule and its query's answer to alerts or series; asks nobody but the query that it is given."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from alerts.alert import Alert
from alerts.errors import EvaluationError, TemplateError
from alerts.rule import AlertRule, RecordRule
from alerts.template import AlertData, Query, Template, parse_template
from collector.model.errors import CollectorError
from collector.model.labels import METRIC_NAME, Labels, from_mapping
from collector.model.series import Sample

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outside:
    """What templates may tell of the server around them: its page for people and its external labels."""

    url: str = ""
    labels: Labels = ()


NOWHERE = Outside()


def alerts_found(
    rule: AlertRule, samples: Iterable[Sample], now_s: float, query: Query | None, outside: Outside = NOWHERE
) -> list[Alert]:
    """Each sample as an alert that begins now: the rule's labels and annotations expanded over its own.

    A template that fails leaves ``<error expanding template: ...>`` in its place, as in Prometheus.
    """
    return [_alert(rule, sample, now_s, query, outside) for sample in samples]


def recorded(rule: RecordRule, samples: Sequence[Sample], now_s: float, limit: int | None = None) -> list[Sample]:
    """The rule's answer under its own name and labels, at ``now_s``.

    Raises EvaluationError where two series become the same, or there are more than ``limit``.
    """
    if limit is not None and len(samples) > limit:
        raise EvaluationError(f"exceeded limit of {limit} with {len(samples)} series")
    timestamp_ms = round(now_s * 1000)
    own = {**dict(rule.labels), METRIC_NAME: rule.name}
    renamed = [Sample(from_mapping({**dict(sample.labels), **own}), timestamp_ms, sample.value) for sample in samples]
    if len({sample.labels for sample in renamed}) < len(renamed):
        raise EvaluationError("vector contains metrics with the same labelset after applying rule labels")
    return renamed


def _alert(rule: AlertRule, sample: Sample, now_s: float, query: Query | None, outside: Outside) -> Alert:
    own = {name: value for name, value in sample.labels if name != METRIC_NAME}
    data = AlertData(own, sample.value, outside.url, dict(outside.labels))

    def expand(pairs: Labels) -> dict[str, str]:
        return {name: _expanded(rule, text, data, query) for name, text in pairs}

    return Alert(
        labels=from_mapping({**own, **expand(rule.labels), "alertname": rule.name}),
        annotations=tuple(sorted(expand(rule.annotations).items())),
        value=sample.value,
        active_at_s=now_s,
    )


def _expanded(rule: AlertRule, text: str, data: AlertData, query: Query | None) -> str:
    try:
        return _template(text).expand(data, query)
    except (TemplateError, CollectorError) as error:
        _log.warning("alert %s: template %r: %s", rule.name, text, error)
        return f"<error expanding template: {error}>"


@lru_cache(maxsize=4096)
def _template(text: str) -> Template:
    return parse_template(text)
