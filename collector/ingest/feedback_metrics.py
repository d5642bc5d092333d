"""Count feedback by model and tenant, and write the counts as series.

    loadline_feedback_total{model_name, tenant, rating}
    loadline_feedback_hallucination_score_bucket{model_name, tenant, le}, _sum, _count
    loadline_feedback_retried_total, loadline_feedback_truncated_total{model_name, tenant}
    loadline_feedback_unmatched_total      feedback whose request is in no known span

Counts begin at zero with the process. A new series is written as zero once, just before its first count, so that a rate
sees the first.
"""

import threading
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from collector.model.feedback import Feedback
from collector.model.float_text import float_text
from collector.model.labels import METRIC_NAME, Labels, from_mapping
from collector.model.series import Float64Array

JOB = "loadline-feedback"
GROUP_KEY = "feedback metrics"
BOUNDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MAX_PAIRS = 200
"""Most pairs of model and tenant that are told apart: at most 22 series each."""

MORE = "(more)"
"""Model and tenant of what is not told apart."""

RATED, SCORE, RETRIED, TRUNCATED, UNMATCHED = (
    "loadline_feedback_total",
    "loadline_feedback_hallucination_score",
    "loadline_feedback_retried_total",
    "loadline_feedback_truncated_total",
    "loadline_feedback_unmatched_total",
)
METADATA = {
    RATED: ("counter", "Ratings of answers by model, tenant and rating."),
    SCORE: ("histogram", "Hallucination scores of answers by model and tenant, from 0 to 1."),
    RETRIED: ("counter", "Answers whose user asked again."),
    TRUNCATED: ("counter", "Answers that ended before they were complete."),
    UNMATCHED: ("counter", "Feedback whose request is in no known span."),
}


class FeedbackSink(Protocol):
    """What feedback metrics ask of a store."""

    def append_scrape(self, group_key: str, layout: Sequence[Labels], timestamp_ms: int, values: Float64Array) -> None:
        """Store all series at one moment. Raises StoreError."""
        ...

    def set_metadata(self, metric: str, type: str, help: str, unit: str) -> None:
        """Keep TYPE, HELP and UNIT of a metric family."""
        ...


class FeedbackMetrics:
    """Counts feedback, and writes the counts when told to. Thread-safe."""

    def __init__(self, sink: FeedbackSink, max_pairs: int = MAX_PAIRS) -> None:
        self._sink = sink
        self._max_pairs = max_pairs
        self._lock = threading.Lock()
        self._pairs: set[tuple[str, str]] = set()
        self._counts: dict[Labels, float] = {}
        self._layout: tuple[Labels, ...] = ()

    def observe(self, several: Iterable[Feedback], unmatched: int) -> None:
        """Count feedback, of which so many found no span."""
        with self._lock:
            for one in several:
                self._count(one)
                self._add(UNMATCHED, {}, 0.0)
            if unmatched:
                self._add(UNMATCHED, {}, float(unmatched))

    def write(self, timestamp_ms: int) -> None:
        """Store every count as of ``timestamp_ms``, nothing before the first feedback. Raises StoreError."""
        with self._lock:
            if not self._counts:
                return
            known = len(self._layout)
            values = np.fromiter(self._counts.values(), np.float64, len(self._counts))
            if known < len(values):
                self._layout = tuple(self._counts)
                for metric, (kind, text) in METADATA.items():
                    self._sink.set_metadata(metric, kind, text, "")
                before = values.copy()
                before[known:] = 0.0
                self._sink.append_scrape(GROUP_KEY, self._layout, timestamp_ms - 1, before)
            self._sink.append_scrape(GROUP_KEY, self._layout, timestamp_ms, values)

    def _count(self, feedback: Feedback) -> None:
        pair = (feedback.model, feedback.tenant)
        if pair not in self._pairs:
            if len(self._pairs) < self._max_pairs:
                self._pairs.add(pair)
            else:
                pair = (MORE, MORE)
        labels = dict(zip(("model_name", "tenant"), pair, strict=True))
        if feedback.rating is not None:
            self._add(RATED, labels | {"rating": feedback.rating}, 1.0)
        self._add(RETRIED, labels, float(bool(feedback.retried)))
        self._add(TRUNCATED, labels, float(bool(feedback.truncated)))
        score = feedback.hallucination_score
        if score is not None:
            for bound in BOUNDS:
                self._add(f"{SCORE}_bucket", labels | {"le": float_text(bound)}, float(score <= bound))
            self._add(f"{SCORE}_bucket", labels | {"le": "+Inf"}, 1.0)
            self._add(f"{SCORE}_sum", labels, score)
            self._add(f"{SCORE}_count", labels, 1.0)

    def _add(self, name: str, labels: dict[str, str], amount: float) -> None:
        series = from_mapping({METRIC_NAME: name, "job": JOB, **labels})
        self._counts[series] = self._counts.get(series, 0.0) + amount
