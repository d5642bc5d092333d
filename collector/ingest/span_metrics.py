"""Request rate, errors and duration by hop, counted from the spans that come by, with exemplars that lead to traces.

A hop is what calls look like from outside: service, span name, kind and status. Counts begin at zero with the process.

    loadline_span_calls_total{service, span, kind, status}
    loadline_span_duration_seconds_bucket{service, span, kind, status, le}, _sum, _count
    loadline_span_hops_limited_total     spans that were counted as "(more)" because there were MAX_HOPS hops already
"""

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from collector.model.exemplars import Exemplar
from collector.model.float_text import float_text
from collector.model.labels import METRIC_NAME, Labels, from_mapping
from collector.model.series import Float64Array
from collector.model.spans import Span

JOB = "loadline-spans"
GROUP_KEY = "span metrics"
BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
MAX_HOPS = 1000
"""Most hops that are told apart: 19 series each."""

MORE = "(more)"
"""Service and span of what is not told apart."""

CALLS, DURATION, LIMITED = (
    "loadline_span_calls_total",
    "loadline_span_duration_seconds",
    "loadline_span_hops_limited_total",
)
METADATA = {
    CALLS: ("counter", "Spans by service, name, kind and status.", ""),
    DURATION: ("histogram", "Duration of spans by service, name, kind and status.", "seconds"),
    LIMITED: ("counter", "Spans counted as (more), beyond the limit of hops.", ""),
}

Hop = tuple[str, str, str, str]


class SpanMetricsSink(Protocol):
    """What span metrics ask of a store."""

    def append_scrape(self, group_key: str, layout: Sequence[Labels], timestamp_ms: int, values: Float64Array) -> None:
        """Store all series at one moment. Raises StoreError."""
        ...

    def append_exemplars(self, exemplars: Iterable[Exemplar]) -> int:
        """Store exemplars and return how many were kept. Raises StoreError."""
        ...

    def set_metadata(self, metric: str, type: str, help: str, unit: str) -> None:
        """Keep TYPE, HELP and UNIT of a metric family."""
        ...


class _Counted:
    """Of one hop: spans by bucket, seconds, and the latest exemplar of each bucket."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.seconds = 0.0
        self.exemplars: dict[int, Span] = {}


class SpanMetrics:
    """Counts spans, and writes the counts when told to. Thread-safe.

    Read by others: ``limited``, spans counted as "(more)".
    """

    def __init__(self, sink: SpanMetricsSink, max_hops: int = MAX_HOPS) -> None:
        self.limited = 0
        self._sink = sink
        self._max_hops = max_hops
        self._lock = threading.Lock()
        self._hops: dict[Hop, _Counted] = {}
        self._layout: list[Labels] = []

    def observe(self, spans: Iterable[Span]) -> None:
        """Count spans that are new."""
        with self._lock:
            for span in spans:
                duration_s = (span.end_ns - span.start_ns) / 1e9
                hop = self._hop(span)
                bucket = bisect_left(BOUNDS_S, duration_s)
                hop.counts[bucket] += 1
                hop.seconds += duration_s
                hop.exemplars[bucket] = span

    def write(self, timestamp_ms: int) -> None:
        """Store every count as of ``timestamp_ms``, nothing before the first span. Raises StoreError."""
        with self._lock:
            if not self._hops:
                return
            layout, values, exemplars = self._known_layout(), self._figures(), self._take_exemplars()
        self._sink.append_scrape(GROUP_KEY, layout, timestamp_ms, values)
        if exemplars:
            self._sink.append_exemplars(exemplars)

    def _hop(self, span: Span) -> _Counted:
        key = (span.service, span.name, span.kind, span.status)
        hop = self._hops.get(key)
        if hop is None:
            if len(self._hops) >= self._max_hops:
                self.limited += 1
                key = (MORE, MORE, span.kind, span.status)
            hop = self._hops.setdefault(key, _Counted())
        return hop

    def _known_layout(self) -> list[Labels]:
        """The same object for as long as no hop is new."""
        width = len(BOUNDS_S) + 4
        if len(self._layout) != len(self._hops) * width + 1:
            self._layout = [from_mapping({METRIC_NAME: LIMITED, "job": JOB})]
            for hop in self._hops:
                self._layout += _series(hop)
            for metric, (kind, text, unit) in METADATA.items():
                self._sink.set_metadata(metric, kind, text, unit)
        return self._layout

    def _figures(self) -> Float64Array:
        counts = np.array([hop.counts for hop in self._hops.values()], dtype=np.float64).cumsum(axis=1)
        seconds = np.array([hop.seconds for hop in self._hops.values()], dtype=np.float64)
        calls = counts[:, -1:]
        rows = np.concatenate((counts, seconds[:, None], calls, calls), axis=1)
        return np.concatenate(([float(self.limited)], rows.ravel()))

    def _take_exemplars(self) -> list[Exemplar]:
        taken = []
        width = len(BOUNDS_S) + 4
        for place, hop in enumerate(self._hops.values()):
            for bucket, span in hop.exemplars.items():
                series = self._layout[1 + place * width + bucket]
                labels = from_mapping({"trace_id": span.trace_id, "span_id": span.span_id})
                taken.append(Exemplar(series, labels, (span.end_ns - span.start_ns) / 1e9, span.end_ns // 1_000_000))
            hop.exemplars = {}
        return sorted(taken, key=lambda exemplar: exemplar.timestamp_ms)


def _series(hop: Hop) -> list[Labels]:
    labels = {"job": JOB, **dict(zip(("service", "span", "kind", "status"), hop, strict=True))}
    buckets = [{"le": bound, METRIC_NAME: f"{DURATION}_bucket"} for bound in (*map(float_text, BOUNDS_S), "+Inf")]
    others = [{METRIC_NAME: name} for name in (f"{DURATION}_sum", f"{DURATION}_count", CALLS)]
    return [from_mapping(labels | own) for own in (*buckets, *others)]
