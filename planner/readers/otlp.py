"""OpenTelemetry spans as OTLP JSON: ``{"resourceSpans": […]}`` a line, or one document; vLLM's, ours and others'.

A span is a request when it tells token counts under one of the names that the semantic conventions have had. It
arrives when it starts. Lines stand in the order of completion, so that many are flagged out of order. A line without
such a span is set aside; spans beside requests (queue, prefill, decode) are counted and left out.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from planner.readers.lines import BadRow
from planner.readers.objects import Object, group_chunks
from planner.readers.row import Chunk, Row
from planner.readers.source import Source
from planner.readers.stream import Format
from planner.readers.values import number_or_none, text_or_none, time_ns, tokens_or_none

_INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens")
_OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens")
_MODEL = ("gen_ai.request.model", "gen_ai.response.model")
_ID = ("gen_ai.request.id", "gen_ai.response.id")
_SESSION = ("gen_ai.conversation.id", "session.id")
_TENANT = ("loadline.tenant", "enduser.id", "user.id")
_CACHED = ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cached_tokens")
_ERROR = 2
_WHOLE = re.compile(r"-?[0-9]{1,19}")


def _chunks(source: Source) -> Iterator[Chunk]:
    return group_chunks(source, _requests)


def _requests(found: Object, source: Source) -> Iterable[Row | BadRow]:
    if "resourceSpans" not in found:
        raise BadRow("no_resource_spans")
    spans = list(_spans(found))
    rows: list[Row | BadRow] = []
    for span in spans:
        attributes = _attributes(span.get("attributes"))
        if not any(name in attributes for name in (*_INPUT, *_OUTPUT)):
            source.remark("spans that are no requests are left out")
            continue
        try:
            rows.append(_row(span, attributes, source))
        except BadRow as bad:
            rows.append(bad)
    if not rows:
        raise BadRow("no_request_span")
    return rows


def _spans(found: Object) -> Iterator[Mapping[str, Any]]:
    for resource in _list(found, "resourceSpans"):
        for scope in _list(resource, "scopeSpans"):
            yield from _list(scope, "spans")


def _list(holder: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = holder.get(key, [])
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadRow(f"bad_{key}")
    return value


def _attributes(found: object) -> dict[str, Any]:
    """Attributes by name, 64-bit numbers as numbers (OTLP writes them as text)."""
    if not isinstance(found, list):
        return {}
    known: dict[str, Any] = {}
    for one in found:
        value = one.get("value") if isinstance(one, dict) else None
        if isinstance(value, dict) and isinstance(one.get("key"), str):
            known[one["key"]] = _value(value)
    return known


def _value(value: Mapping[str, Any]) -> object:
    if "intValue" in value:
        number = value["intValue"]
        return (
            int(number) if isinstance(number, str) and number.lstrip("-").isdecimal() and len(number) < 20 else number
        )
    return next((value[kind] for kind in ("stringValue", "doubleValue", "boolValue") if kind in value), None)


def _row(span: Mapping[str, Any], attributes: Mapping[str, Any], source: Source) -> Row:
    start_ns = time_ns(span.get("startTimeUnixNano"), 1)
    if not start_ns:
        raise BadRow("missing_timestamp")
    source.saw_time("Z", 9)
    status = span.get("status")
    failed = isinstance(status, dict) and status.get("code") in (_ERROR, "STATUS_CODE_ERROR")
    span_id = text_or_none(span.get("spanId"))
    more = {
        "request_id": text_or_none(_first(attributes, _ID)) or span_id,
        "session_id": text_or_none(_first(attributes, _SESSION)),
        "model": text_or_none(_first(attributes, _MODEL)),
        "tenant": text_or_none(_first(attributes, _TENANT)),
        "cached_input_tokens": _count(attributes, _CACHED),
        "reasoning_tokens": _count(attributes, ("gen_ai.usage.reasoning.output_tokens",)),
        "status": "error" if failed else "ok",
        "rec_queue_ms": number_or_none(attributes.get("gen_ai.latency.time_in_queue"), 1e3),
        "rec_ttft_ms": number_or_none(attributes.get("gen_ai.latency.time_to_first_token"), 1e3),
        "rec_e2e_ms": number_or_none(attributes.get("gen_ai.latency.e2e"), 1e3) or _lasted_ms(span, start_ns),
    }
    tokens_in, tokens_out = _count(attributes, _INPUT), _count(attributes, _OUTPUT)
    if tokens_in is None:
        raise BadRow("missing_input_tokens")
    return Row(start_ns, tokens_in, tokens_out, more, content=hash(span_id))


def _first(attributes: Mapping[str, Any], names: Iterable[str]) -> object:
    return next((attributes[name] for name in names if attributes.get(name) is not None), None)


def _count(attributes: Mapping[str, Any], names: Iterable[str]) -> int | None:
    """The first of the counts that is told."""
    for name in names:
        if (found := tokens_or_none(attributes, name)) is not None:
            return found
    return None


def _lasted_ms(span: Mapping[str, Any], start_ns: int) -> float | None:
    end = span.get("endTimeUnixNano")
    if not isinstance(end, int | str):
        return None
    lasted = time_ns(end, 1) - start_ns
    return lasted / 1e6 if lasted >= 0 else None


FORMAT = Format(
    name="otlp",
    what="OTLP JSON spans (resourceSpans with gen_ai.usage.*, of vLLM, Loadline or another)",
    sniff=lambda head: head.has("resourceSpans"),
    chunks=_chunks,
    needs=("resourceSpans",),
    from_first=True,
)
