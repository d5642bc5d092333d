"""Requests as their spans tell them: one server span each, with queue, prefill and decode inside.

Reads OpenTelemetry's GenAI attributes; the token gaps are those of Loadline's engine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collector.model.spans import AttributeValue, Span

MODEL = "gen_ai.request.model"
TTFT = "gen_ai.latency.time_to_first_token"
QUEUE = "gen_ai.latency.time_in_queue"
PREFILL = "gen_ai.latency.time_in_model_prefill"
DECODE = "gen_ai.latency.time_in_model_decode"
INPUT = "gen_ai.usage.input_tokens"
CACHED = "gen_ai.usage.cache_read.input_tokens"
OUTPUT = "gen_ai.usage.output_tokens"
PREEMPTIONS = "loadline.preemptions"
GAPS = "loadline.token_gaps_ms"
TENANT = "loadline.tenant"


@dataclass(frozen=True, slots=True)
class Served:
    """One request: when it came (Unix seconds), how long its phases took (seconds), its tokens. None: not told."""

    trace_id: str
    at_s: float
    pool: str
    e2e_s: float
    ttft_s: float | None
    queue_s: float | None
    prefill_s: float | None
    decode_s: float | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int
    preemptions: int
    failed: bool
    tenant: str = ""

    @property
    def wait_s(self) -> float:
        """Time to the first token, or the whole where that is not told."""
        return self.ttft_s if self.ttft_s is not None else self.e2e_s

    @property
    def pace_s(self) -> float | None:
        """Mean seconds per token after the first."""
        if self.decode_s is None or self.output_tokens is None or self.output_tokens < 2:
            return None
        return self.decode_s / (self.output_tokens - 1)


def served(span: Span) -> Served:
    """Read a server span."""
    told = span.attributes
    return Served(
        trace_id=span.trace_id,
        at_s=span.start_ns / 1e9,
        pool=str(told.get(MODEL, "")),
        e2e_s=(span.end_ns - span.start_ns) / 1e9,
        ttft_s=_number(told, TTFT),
        queue_s=_number(told, QUEUE),
        prefill_s=_number(told, PREFILL),
        decode_s=_number(told, DECODE),
        input_tokens=_count(told, INPUT),
        output_tokens=_count(told, OUTPUT),
        cached_tokens=_count(told, CACHED) or 0,
        preemptions=_count(told, PREEMPTIONS) or 0,
        failed=span.status == "error",
        tenant=str(told.get(TENANT) or ""),
    )


def slowest(spans: Sequence[Span]) -> list[Served]:
    """Requests among ``spans``, slowest first token first."""
    found = [served(span) for span in spans if MODEL in span.attributes]
    return sorted(found, key=lambda one: -one.wait_s)


def gaps_s(spans: Sequence[Span]) -> list[float]:
    """Seconds between tokens that follow each other, from whichever span of a trace tells them."""
    for span in spans:
        told = span.attributes.get(GAPS)
        if isinstance(told, list):
            return [float(gap) / 1000 for gap in told]
    return []


def _number(told: Mapping[str, AttributeValue], name: str) -> float | None:
    value = told.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _count(told: Mapping[str, AttributeValue], name: str) -> int | None:
    value = _number(told, name)
    return None if value is None else round(value)
