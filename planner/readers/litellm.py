"""LiteLLM: call logs (``timestamp`` at completion), spend logs and standard logging payloads; JSONL or one array.

A spend log tells when the request started. A call log is written when it ended: its arrivals are then
``completion_derived``, which is said, for they stand later than the truth by the time that the request took.
"""

from collections.abc import Iterator

import orjson

from planner.readers.head import Head
from planner.readers.lines import BadRow
from planner.readers.objects import Object, object_chunks, rest_of
from planner.readers.row import Chunk, Row
from planner.readers.source import Source
from planner.readers.stream import Format
from planner.readers.values import parse_time_ns, text_or_none, time_ns, tokens, tokens_or_none
from planner.traces.trace import Quality

_SECOND_NS = 1_000_000_000
_USED = (
    "timestamp",
    "startTime",
    "endTime",
    "completionStartTime",
    "status",
    "model",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "request_id",
    "id",
    "trace_id",
    "session_id",
    "end_user",
    "team_id",
    "call_type",
)


def _chunks(source: Source) -> Iterator[Chunk]:
    return object_chunks(source, _row)


def _row(found: Object, source: Source) -> Row:
    tokens_in, tokens_out = tokens(found, "prompt_tokens"), tokens_or_none(found, "completion_tokens")
    start = found.get("startTime")
    arrival_ns = _time(found.get("timestamp") if start is None else start, source)
    first_ns, end_ns = _later(found.get("completionStartTime"), source), _later(found.get("endTime"), source)
    request, response = found.get("request"), found.get("response")
    messages = request.get("messages") if isinstance(request, dict) else found.get("messages")
    answered = response.get("id") if isinstance(response, dict) else None
    status = text_or_none(found.get("status"))
    more: dict[str, object] = {
        "request_id": text_or_none(found.get("request_id") or found.get("id") or answered),
        "session_id": text_or_none(found.get("session_id") or found.get("trace_id")),
        "model": text_or_none(found.get("model")),
        "tenant": text_or_none(found.get("team_id") or found.get("end_user")),
        "kind": text_or_none(found.get("call_type")),
        "messages": orjson.dumps(messages).decode() if messages else None,
        "status": {"success": "ok", "failure": "error"}.get(status or "", "unknown"),
        "extra": rest_of(found, *_USED, "request", "messages", "response"),
    }
    if start is not None:
        more["rec_ttft_ms"] = None if first_ns is None or first_ns < arrival_ns else (first_ns - arrival_ns) / 1e6
        more["rec_e2e_ms"] = None if end_ns is None or end_ns < arrival_ns else (end_ns - arrival_ns) / 1e6
        return Row(arrival_ns, tokens_in, tokens_out, more)
    source.remark("arrivals were written when the request ended: they are later than the truth by what it took")
    return Row(arrival_ns, tokens_in, tokens_out, more, quality=Quality.COMPLETION_DERIVED)


def _time(value: object, source: Source) -> int:
    """A time as ISO text or epoch seconds. Raises BadRow."""
    if isinstance(value, str):
        at, zone, digits = parse_time_ns(value)
        source.saw_time(zone, digits)
        return at
    source.saw_time("Z", 6)
    return time_ns(value, _SECOND_NS)


def _later(value: object, source: Source) -> int | None:
    try:
        return None if value is None else _time(value, source)
    except BadRow:
        source.remark("times of first token or end that cannot be read are left out")
        return None


def _sniff(head: Head) -> bool:
    counted = head.has("prompt_tokens", "completion_tokens", "model")
    return counted and (head.has("startTime") or head.has("timestamp", "status"))


FORMAT = Format(
    name="litellm",
    what="LiteLLM call or spend logs (prompt_tokens, completion_tokens, startTime or timestamp)",
    sniff=_sniff,
    chunks=_chunks,
    needs=("prompt_tokens", "completion_tokens", "model", "startTime"),
    from_first=True,
    tick_ns=1_000,
)
