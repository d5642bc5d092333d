"""Take feedback on answers: read it, find the request's span, keep it as a log record, count it.

A record is kept as OpenTelemetry would have it sent as a log: attributes ``event.name``, ``gen_ai.response.id``,
``gen_ai.request.model``, ``loadline.tenant`` and ``loadline.feedback.*``, trace and span of the request. Its body
begins with ``MARK``, so that the index of words finds feedback among other logs.
"""

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import orjson

from collector.ingest.feedback_metrics import FeedbackMetrics
from collector.model.errors import IngestError
from collector.model.feedback import Feedback, feedback_from_json
from collector.model.logs import LogRecord
from collector.model.spans import AttributeValue, Span

MARK = "loadline.feedback"
INFO = 9
SERVICE = "loadline-feedback"
"""Service of feedback that belongs to no known span."""

MAX_ENTRIES = 1000
"""Of one request."""

MAX_REQUESTS = 20_000
"""Requests remembered for the spans that came last: some 10 MB."""

SEARCH_NS = 3_600_000_000_000
"""How far back the stored spans are looked through for a request that is not remembered."""

ID_KEYS = ("gen_ai.response.id", "loadline.request_id")
MODEL_KEYS = ("gen_ai.response.model", "gen_ai.request.model")
TENANT_KEYS = ("loadline.tenant", "tenant.id", "enduser.id")
ANSWER_PREFIXES = ("", "chatcmpl-", "cmpl-")
"""What an OpenAI-compatible engine puts before the caller's ``x-request-id`` to make the answer's id."""

_SAID = ("rating", "hallucination_score", "retried", "truncated")


@dataclass(frozen=True, slots=True)
class RequestSpan:
    """Where a request is in the traces, and whose it was."""

    trace_id: str
    span_id: str
    service: str
    model: str
    tenant: str


class SpanSource(Protocol):
    """Where spans are looked for."""

    def search(
        self,
        *,
        trace_id: str | None = None,
        start_ns: int | None = None,
        attributes: Mapping[str, str] | None = None,
        limit: int = 100,
    ) -> list[Span]:
        """Spans that satisfy every condition given, latest first. Raises StoreError."""
        ...


class RecordSink(Protocol):
    """Takes log records."""

    def append(self, records: Sequence[LogRecord]) -> int:
        """Store records and return how many. Raises StoreError."""
        ...


class Requests:
    """Spans by request id: the latest remembered, the others looked up. Thread-safe."""

    def __init__(self, spans: SpanSource, most: int = MAX_REQUESTS) -> None:
        self._spans = spans
        self._most = most
        self._known: dict[str, RequestSpan] = {}
        self._lock = threading.Lock()

    def observe(self, spans: Iterable[Span]) -> None:
        """Remember the requests of spans that are new."""
        with self._lock:
            for span in spans:
                for request_id in dict.fromkeys(_texts(span.attributes, ID_KEYS)):
                    self._known.pop(request_id, None)
                    self._known[request_id] = _request_of(span)
            for oldest in list(self._known)[: max(0, len(self._known) - self._most)]:
                del self._known[oldest]

    def find(self, request_id: str, trace_id: str, now_ns: int) -> RequestSpan | None:
        """The span of a request, or None where there is none. Raises StoreError."""
        if trace_id:
            return self._in_trace(trace_id, request_id)
        ids = [prefix + request_id for prefix in ANSWER_PREFIXES]
        with self._lock:
            for one in ids:
                if one in self._known:
                    return self._known[one]
        for one in ids:
            found = self._spans.search(start_ns=now_ns - SEARCH_NS, attributes={ID_KEYS[0]: one}, limit=1)
            if found:
                return _request_of(found[0])
        return None

    def _in_trace(self, trace_id: str, request_id: str) -> RequestSpan | None:
        """Of a trace the span that bears the id, else one that names a model, else its first."""
        spans = self._spans.search(trace_id=trace_id, limit=MAX_ENTRIES)
        ids = {prefix + request_id for prefix in ANSWER_PREFIXES}

        def rank(span: Span) -> tuple[bool, bool, bool, int]:
            bears = bool(request_id) and not ids.isdisjoint(_texts(span.attributes, ID_KEYS))
            names = any(_texts(span.attributes, (*ID_KEYS, *MODEL_KEYS)))
            return not bears, not names, span.parent_id is not None, span.start_ns

        return _request_of(min(spans, key=rank)) if spans else None


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one request: how many were stored, how many of these found their span, what was refused."""

    stored: int
    joined: int
    refused: tuple[str, ...] = ()


class FeedbackReceiver:
    """All feedback of all callers; ``take`` may be called by many threads.

    Read by others, counted since the start: ``stored``, ``unmatched``, ``refused``.
    """

    def __init__(
        self, requests: Requests, records: RecordSink, metrics: FeedbackMetrics, now_s: Callable[[], float]
    ) -> None:
        self.stored = self.unmatched = self.refused = 0
        self.requests = requests
        self.metrics = metrics
        self._records = records
        self._now_s = now_s
        self._lock = threading.Lock()

    def take(self, body: bytes) -> Taken:
        """Store the feedback of one body: an object, or a list of them.

        Raises IngestError where it cannot be read at all, StoreError where it cannot be kept.
        """
        entries = _entries(body)
        kept, refused = [], []
        for place, entry in enumerate(entries):
            try:
                kept.append(feedback_from_json(entry))
            except ValueError as error:
                refused.append(f"feedback[{place}]: {error}" if len(entries) > 1 else f"feedback: {error}")
        now_s = self._now_s()
        found = [self.requests.find(one.request_id, one.trace_id, int(now_s * 1e9)) for one in kept]
        whole = [_filled(one, span, now_s) for one, span in zip(kept, found, strict=True)]
        self._records.append([_record(one, span) for one, span in zip(whole, found, strict=True)])
        self.metrics.observe(whole, found.count(None))
        with self._lock:
            self.stored += len(kept)
            self.unmatched += found.count(None)
            self.refused += len(refused)
        return Taken(len(kept), len(kept) - found.count(None), tuple(refused))


def feedback_of(record: LogRecord) -> Feedback | None:
    """The feedback that a record keeps; None for any other record."""
    given = record.attributes
    if given.get("event.name") != MARK:
        return None
    said = {key: given.get(f"{MARK}.{key}") for key in _SAID}
    score, rating = said["hallucination_score"], said["rating"]
    start = f"{MARK}.label."
    return Feedback(
        request_id=_first(given, ID_KEYS),
        trace_id=record.trace_id or "",
        rating=rating if isinstance(rating, str) else None,
        hallucination_score=float(score) if isinstance(score, int | float) else None,
        retried=said["retried"] if isinstance(said["retried"], bool) else None,
        truncated=said["truncated"] if isinstance(said["truncated"], bool) else None,
        model=_first(given, MODEL_KEYS),
        tenant=_first(given, TENANT_KEYS),
        labels={key.removeprefix(start): str(value) for key, value in given.items() if key.startswith(start)},
        comment=_first(given, (f"{MARK}.comment",)),
        time_s=record.time_ns / 1e9,
    )


def search_text(request_id: str) -> str:
    """Words by which the log's index finds feedback, of one request or all."""
    return f"{MARK} {request_id}".strip()


def _entries(body: bytes) -> list[object]:
    try:
        read = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise IngestError(f"feedback:{error.lineno}:{error.colno}: the body is not JSON: {error.msg}") from error
    entries = read if isinstance(read, list) else [read]
    if len(entries) > MAX_ENTRIES:
        raise IngestError(f"feedback: {len(entries)} entries; at most {MAX_ENTRIES} are taken at once")
    return entries


def _filled(feedback: Feedback, span: RequestSpan | None, now_s: float) -> Feedback:
    """With time, model and tenant; what the span says of the last two outweighs what the caller says."""
    time_s = now_s if feedback.time_s is None else feedback.time_s
    model, tenant = (span.model, span.tenant) if span else ("", "")
    return replace(feedback, time_s=time_s, model=model or feedback.model, tenant=tenant or feedback.tenant)


def _record(feedback: Feedback, span: RequestSpan | None) -> LogRecord:
    attributes: dict[str, AttributeValue] = {"event.name": MARK}
    texts = {
        ID_KEYS[0]: feedback.request_id,
        MODEL_KEYS[1]: feedback.model,
        TENANT_KEYS[0]: feedback.tenant,
        f"{MARK}.comment": feedback.comment,
    }
    attributes |= {key: text for key, text in texts.items() if text}
    said = {key: value for key in _SAID if (value := getattr(feedback, key)) is not None}
    attributes |= {f"{MARK}.{key}": value for key, value in said.items()}
    attributes |= {f"{MARK}.label.{name}": value for name, value in feedback.labels.items()}
    words = ", ".join(f"{key} {str(value).lower()}" for key, value in said.items())
    body = " ".join(text for text in (MARK, feedback.request_id, words, feedback.comment) if text)
    time_s = feedback.time_s or 0.0
    return LogRecord(
        time_ns=math.floor(time_s * 1e9),
        severity=INFO,
        severity_text="INFO",
        body=body,
        service=span.service if span else SERVICE,
        attributes=attributes,
        trace_id=(span.trace_id if span else feedback.trace_id) or None,
        span_id=span.span_id if span else None,
    )


def _request_of(span: Span) -> RequestSpan:
    model, tenant = _first(span.attributes, MODEL_KEYS), _first(span.attributes, TENANT_KEYS)
    return RequestSpan(span.trace_id, span.span_id, span.service, model, tenant)


def _texts(attributes: Mapping[str, AttributeValue], keys: Sequence[str]) -> list[str]:
    return [value for key in keys if isinstance(value := attributes.get(key), str) and value]


def _first(attributes: Mapping[str, AttributeValue], keys: Sequence[str]) -> str:
    return next(iter(_texts(attributes, keys)), "")
