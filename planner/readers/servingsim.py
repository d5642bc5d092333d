"""LLMServingSim's workloads and the vLLM runs that it was measured against, one JSON object a line.

Workloads: ``input_toks, output_toks, arrival_time_ns`` with or without token ids; the agentic form has ``session_id``
and ``sub_requests``, each after the one before it and ``tool_duration_ns``. Measured: ``request_id, arrival_time``
(epoch seconds) with ``queued_ts … last_token_ts`` on another, monotonic clock, of which only differences are taken.
Formats: https://github.com/casys-kaist/LLMServingSim.
"""

from collections.abc import Iterable, Iterator, Sequence

from planner.readers.head import Head
from planner.readers.lines import BadRow
from planner.readers.objects import Object, group_chunks, object_chunks, rest_of
from planner.readers.row import Chunk, Row
from planner.readers.source import Source
from planner.readers.stream import Format
from planner.readers.values import MAX_HASH, number_or_none, text_or_none, time_ns, tokens

_SECOND_NS = 1_000_000_000
_FLAT = ("input_toks", "output_toks", "arrival_time_ns", "input_tok_ids", "output_tok_ids")
_STAGES = ("queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts")


def _workload_chunks(source: Source) -> Iterator[Chunk]:
    return group_chunks(source, _workload)


def _workload(found: Object, _: Source) -> Iterable[Row | BadRow]:
    subs = found.get("sub_requests")
    if subs is None:
        return (_flat(found, time_ns(found.get("arrival_time_ns"), 1)),)
    if not isinstance(subs, list):
        raise BadRow("bad_sub_requests")
    return _session(found, subs)


def _flat(found: Object, arrival_ns: int) -> Row:
    ids = found.get("input_tok_ids")
    more = {"input_token_ids": None if ids is None else _token_ids(ids), "extra": rest_of(found, *_FLAT)}
    return Row(arrival_ns, tokens(found, "input_toks"), tokens(found, "output_toks"), more)


def _session(found: Object, subs: Sequence[object]) -> Iterator[Row | BadRow]:
    """The first request at the session's arrival; the others no earlier, ``after_ms`` of tool time behind the last."""
    arrival_ns = time_ns(found.get("arrival_time_ns"), 1)
    session = text_or_none(found.get("session_id"))
    wait_ns = 0
    for turn, sub in enumerate(subs):
        try:
            if not isinstance(sub, dict):
                raise BadRow("not_an_object")
            row = _flat({key: value for key, value in sub.items() if key != "tool_duration_ns"}, arrival_ns)
            tool_ns = time_ns(sub.get("tool_duration_ns") or 0, 1)
        except BadRow as bad:
            yield bad
            continue
        name = f"{session}/{turn}"
        before = f"{session}/{turn - 1}" if turn else None
        known = {"session_id": session, "turn": turn, "request_id": name, "parent_request_id": before}
        row.more = {**row.more, **known, "after_ms": wait_ns / 1e6 if turn else None}
        row.content = hash(name)
        wait_ns = tool_ns
        yield row


def _token_ids(value: object) -> list[int]:
    if not isinstance(value, list):
        raise BadRow("bad_token_ids")
    for one in value:
        if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one <= MAX_HASH:
            raise BadRow("bad_token_ids")
    return value


def _measured_chunks(source: Source) -> Iterator[Chunk]:
    return object_chunks(source, _measured)


def _measured(found: Object, source: Source) -> Row:
    arrival_ns = time_ns(found.get("arrival_time"), _SECOND_NS)
    queued, scheduled, first, last = (number_or_none(found.get(name)) for name in _STAGES)
    source.saw_time("Z", 9)
    more = {
        "request_id": text_or_none(found.get("request_id")),
        "rec_queue_ms": _between(queued, scheduled),
        "rec_ttft_ms": _between(queued, first),
        "rec_e2e_ms": _between(queued, last),
        "status": "ok" if last is not None else "unknown",
        "extra": rest_of(found, "request_id", "input_toks", "output_toks", "arrival_time", *_STAGES),
    }
    return Row(arrival_ns, tokens(found, "input_toks"), tokens(found, "output_toks"), more)


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None or end < start else (end - start) * 1e3


def _sniff(head: Head) -> bool:
    return head.has("arrival_time_ns") and (head.has("input_toks", "output_toks") or head.has("sub_requests"))


FORMAT = Format(
    name="servingsim",
    what="LLMServingSim JSONL (input_toks, output_toks, arrival_time_ns; or sub_requests)",
    sniff=_sniff,
    chunks=_workload_chunks,
    needs=_FLAT[:3],
)
MEASURED = Format(
    name="servingsim_measured",
    what="LLMServingSim's measured requests.jsonl (input_toks, output_toks, arrival_time, queued_ts …)",
    sniff=lambda head: head.has("input_toks", "output_toks", "arrival_time"),
    chunks=_measured_chunks,
    needs=("input_toks", "output_toks", "arrival_time"),
    from_first=True,
)
