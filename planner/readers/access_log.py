"""Access logs of OpenAI-compatible servers: uvicorn's, vLLM's and nginx's lines, and JSON lines of gateways.

A line is a request when it names a route that generates; probes, scrapes and other lines are set aside by reason. Most
logs tell when a request ended and nothing of its length: arrivals are then ``completion_derived`` (moved back by the
time it took, where that is told) and lengths are missing, to be drawn from another trace.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from planner.readers.head import Head
from planner.readers.lines import BadRow
from planner.readers.objects import Object, object_chunks, rest_of
from planner.readers.row import CHUNK_ROWS, Chunk, Gather, Row
from planner.readers.source import Source
from planner.readers.stream import Format
from planner.readers.values import number_or_none, parse_time_ns, text_or_none, time_ns, tokens_or_none
from planner.traces.trace import Quality

_SECOND_NS = 1_000_000_000
_YEAR_UNSTATED = "the year is not stated: dates are taken as of the year 2000"
_AT_THE_END = "arrivals are times at which answers were logged, later than the truth by what the request took"
_ROUTE = re.compile(
    r"/(v\d/)?(chat/completions|completions|responses|messages|generate(_stream)?|embeddings)\b|/api/chat\b"
)
_REQUEST = re.compile(r'"(?:POST|PUT) (\S{1,2000})(?: HTTP/[\d.]+)?" (\d{3})\b')
_ANY_REQUEST = re.compile(r'"[A-Z]{3,7} \S+ HTTP/[\d.]+" \d{3}')
_ISO = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?")
_NGINX = re.compile(r"\[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\]")
_NO_YEAR = re.compile(r"\b(\d\d-\d\d) (\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?")
_TOOK = re.compile(r"(?:request_time|\brt|duration)[=:]\s*\"?(\d{1,9}\.\d{1,9})")
_CLIENT = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:]+\])")
_RECEIVED = re.compile(r"Received request ([^\s:]+)")
_TOKEN_IDS = re.compile(r"prompt_token_ids: \[([\d, ]*)\]")

_TIMES = ("start_time", "time_iso8601", "@timestamp", "timestamp", "time", "ts", "msec", "time_local")
_PATHS = ("path", "uri", "request_uri", "url", "route", "endpoint", "request")
_STATUSES = ("status", "status_code", "response_code", "code")
_DURATIONS = (("request_time", 1e3), ("duration_ms", 1.0), ("latency_ms", 1.0), ("duration_s", 1e3), ("latency_s", 1e3))


def _log_lines(source: Source) -> Iterator[tuple[int, int, bytes, str]]:
    for line, offset, raw in source.records():
        try:
            yield line, offset, raw, raw.decode("utf-8")
        except UnicodeDecodeError:
            source.ledger.set_aside(line, offset, "invalid_utf8", raw)


def _text_chunks(source: Source) -> Iterator[Chunk]:
    return _rows_of_lines(source, _access)


def _rows_of_lines(source: Source, read: Callable[[str, Source], Row]) -> Iterator[Chunk]:
    """The rows that ``read`` makes of the lines; those for which it raises BadRow are set aside."""
    gather = Gather()
    for line, offset, raw, text in _log_lines(source):
        try:
            row = read(text, source)
        except BadRow as bad:
            source.ledger.set_aside(line, offset, str(bad), raw)
            continue
        source.ledger.accepted += 1
        gather.add(line, row)
        yield from gather.chunks(CHUNK_ROWS)
    yield from gather.chunks()


def _access(text: str, source: Source) -> Row:
    found = _REQUEST.search(text)
    if found is None or not _ROUTE.search(found[1]):
        raise BadRow("not_a_generating_route" if _ANY_REQUEST.search(text) else "not_a_request_line")
    logged_ns, resolution_ns = _logged(text, source)
    took = _TOOK.search(text, found.end())
    took_ns = time_ns(took[1], _SECOND_NS) if took else 0
    if not took:
        source.remark(_AT_THE_END)
    client = _CLIENT.search(text)
    more = {
        "status": _status(int(found[2])),
        "kind": found[1].split("?")[0],
        "tenant": client[1] if client else None,
        "rec_e2e_ms": took_ns / 1e6 if took else None,
    }
    exact = took is not None and resolution_ns < _SECOND_NS
    return Row(logged_ns - took_ns, None, None, more, quality=_quality(exact, resolution_ns), content=hash(text))


def _quality(exact: bool, resolution_ns: int) -> Quality:
    if exact:
        return Quality.EXACT
    return Quality.QUANTISED if resolution_ns >= _SECOND_NS else Quality.COMPLETION_DERIVED


def _logged(text: str, source: Source) -> tuple[int, int]:
    """(time that a line bears, its resolution), ns. Raises BadRow where it has none."""
    if found := _NGINX.search(text):
        try:
            at = datetime.strptime(found[1], "%d/%b/%Y:%H:%M:%S %z")
        except ValueError:
            raise BadRow("bad_timestamp") from None
        source.saw_time(found[1][-5:], 0)
        return round(at.timestamp()) * _SECOND_NS, _SECOND_NS
    if iso := _ISO.search(text):
        at_ns, zone, digits = parse_time_ns(iso[0])
    elif short := _NO_YEAR.search(text):
        at_ns, zone, digits = parse_time_ns(f"2000-{short[1]} {short[2]}.{short[3] or '0'}")
        digits = len(short[3] or "")
        source.remark(_YEAR_UNSTATED)
    else:
        raise BadRow("no_timestamp")
    source.saw_time(zone, digits)
    return at_ns, 10 ** (9 - digits)


def _status(code: int) -> str:
    return {408: "timeout", 504: "timeout", 499: "cancelled"}.get(code, "ok" if code < 400 else "error")


def _vllm_chunks(source: Source) -> Iterator[Chunk]:
    return _rows_of_lines(source, _received)


def _received(text: str, source: Source) -> Row:
    found = _RECEIVED.search(text)
    if found is None:
        raise BadRow("not_a_received_request")
    at_ns, resolution_ns = _logged(text[: found.start()], source)
    ids = _TOKEN_IDS.search(text)
    tokens_in = ids[1].count(",") + 1 if ids and ids[1].strip() else None
    source.remark("answer lengths are not in the log: max_tokens is a limit, not a length")
    quality = Quality.QUANTISED if resolution_ns >= _SECOND_NS else Quality.EXACT
    return Row(at_ns, tokens_in, None, {"request_id": found[1]}, quality=quality, content=hash(text))


def _json_chunks(source: Source) -> Iterator[Chunk]:
    return object_chunks(source, _entry)


def _entry(found: Object, source: Source) -> Row:
    inner = found.get("request")
    fields = {**found, **inner} if isinstance(inner, dict) else found
    path = next((str(fields[name]) for name in _PATHS if isinstance(fields.get(name), str)), "")
    if not _ROUTE.search(path):
        raise BadRow("not_a_generating_route" if path else "not_a_request_line")
    name = next((name for name in _TIMES if fields.get(name) is not None), None)
    if name is None:
        raise BadRow("no_timestamp")
    at_ns = _json_time(fields[name], source)
    took_ms = _took_ms(fields)
    if name != "start_time":
        at_ns -= round((took_ms or 0.0) * 1e6)
        if took_ms is None:
            source.remark(_AT_THE_END)
    usage = found.get("usage") if isinstance(found.get("usage"), dict) else found
    code = next((fields[name] for name in _STATUSES if fields.get(name) is not None), None)
    more = {
        "request_id": text_or_none(fields.get("request_id") or fields.get("id")),
        "model": text_or_none(fields.get("model")),
        "tenant": text_or_none(fields.get("tenant") or fields.get("user")),
        "kind": path.split("?")[0][:100],
        "status": _status(int(str(code))) if re.fullmatch("[1-5][0-9][0-9]", str(code)) else "unknown",
        "rec_e2e_ms": took_ms,
        "extra": rest_of(found, name, "usage", "model"),
    }
    exact = took_ms is not None or name == "start_time"
    return Row(
        at_ns, _count(usage, "prompt", "input"), _count(usage, "completion", "output"), more, quality=_quality(exact, 1)
    )


def _json_time(value: object, source: Source) -> int:
    if isinstance(value, str) and not value.replace(".", "", 1).isdecimal():
        at_ns, zone, digits = parse_time_ns(value)
        source.saw_time(zone, digits)
        return at_ns
    at_ns = time_ns(value, _SECOND_NS)
    if at_ns > 10**11 * _SECOND_NS:
        at_ns = time_ns(value, 1_000_000)
        source.remark("epoch times of this size are taken as milliseconds")
    source.saw_time("Z", 9)
    return at_ns


def _took_ms(fields: Mapping[str, Any]) -> float | None:
    for name, factor in _DURATIONS:
        value = fields.get(name)
        if isinstance(value, str):
            value = float(value) if value.replace(".", "", 1).isdecimal() else None
        if (found := number_or_none(value, factor)) is not None and found < 1e12:
            return found
    return None


def _count(usage: Any, *words: str) -> int | None:
    return next((found for word in words if (found := tokens_or_none(usage, f"{word}_tokens")) is not None), None)


def _sniff_text(head: Head) -> bool:
    text = head.text.decode("utf-8", "replace")
    return not head.keys and _ANY_REQUEST.search(text) is not None


def _sniff_json(head: Head) -> bool:
    return any(map(head.has, _TIMES)) and any(map(head.has, _PATHS)) and any(map(head.has, _STATUSES))


TEXT = Format(
    name="access_log",
    what='access log of uvicorn, vLLM or nginx ("POST /v1/… HTTP/1.1" 200)',
    sniff=_sniff_text,
    chunks=_text_chunks,
    from_first=True,
    draws=True,
)
VLLM = Format(
    name="vllm_log",
    what="vLLM log with request lines (Received request …)",
    sniff=lambda head: not head.keys and _RECEIVED.search(head.text.decode("utf-8", "replace")) is not None,
    chunks=_vllm_chunks,
    from_first=True,
)
JSON = Format(
    name="json_log",
    what="JSON lines of a gateway or proxy (time, path, status; usage where told)",
    sniff=_sniff_json,
    chunks=_json_chunks,
    needs=("time", "path", "status"),
    from_first=True,
    draws=True,
)
