"""TraceLab: one round of a coding agent's session a line, of which most input was a cached prefix.

A round arrives with the last of its inputs (the latest user message or tool result before the answer begins); tool
time before it is its ``after_ms``. Inputs are whole prompts. Format: https://github.com/uw-syfi/TraceLab.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from planner.readers.head import Head
from planner.readers.lines import BadRow
from planner.readers.objects import Object, object_chunks, rest_of
from planner.readers.row import Chunk, Row
from planner.readers.source import Source
from planner.readers.stream import Format
from planner.readers.values import parse_time_ns, text_or_none, tokens, tokens_or_none

_INPUTS = ("user_message", "tool_result")
_USED = (
    "session_id",
    "round_index",
    "round_id",
    "model",
    "input_tokens_total",
    "prefix_tokens",
    "output_tokens",
    "reasoning_output_tokens",
    "timing_events",
    "project",
)


def _chunks(source: Source) -> Iterator[Chunk]:
    last: dict[str, tuple[str | None, int]] = {}

    def row(found: Object, source: Source) -> Row:
        tokens_in, tokens_out = tokens(found, "input_tokens_total"), tokens(found, "output_tokens")
        arrival_ns, first_ns, end_ns = _times(found.get("timing_events"), source)
        session = text_or_none(found.get("session_id"))
        round_id = text_or_none(found.get("round_id"))
        before = last.get(session or "")
        more = {
            "request_id": round_id,
            "session_id": session,
            "parent_request_id": before[0] if before else None,
            "turn": tokens_or_none(found, "round_index"),
            "after_ms": max(arrival_ns - before[1], 0) / 1e6 if before else None,
            "context_mode": "full",
            "model": text_or_none(found.get("model")),
            "tenant": text_or_none(found.get("project")),
            "cached_input_tokens": tokens_or_none(found, "prefix_tokens"),
            "reasoning_tokens": tokens_or_none(found, "reasoning_output_tokens"),
            "rec_ttft_ms": None if first_ns is None else (first_ns - arrival_ns) / 1e6,
            "rec_e2e_ms": None if first_ns is None else (end_ns - arrival_ns) / 1e6,
            "extra": rest_of(found, *_USED),
        }
        if session is not None:
            last[session] = (round_id, end_ns)
        return Row(arrival_ns, tokens_in, tokens_out, more)

    return object_chunks(source, row)


def _times(events: object, source: Source) -> tuple[int, int | None, int]:
    """(arrival, first output or None, last output) of a round, ns. Raises BadRow where it has no input with a time."""
    if not isinstance(events, list):
        raise BadRow("missing_timing_events")
    inputs: list[int] = []
    outputs: list[int] = []
    for event in events:
        if not isinstance(event, Mapping):
            raise BadRow("bad_timing_events")
        at = _at(event, source)
        (inputs if event.get("event_type") in _INPUTS else outputs).append(at)
    first_ns = min(outputs, default=None)
    before = [at for at in inputs if first_ns is None or at <= first_ns]
    if not before:
        if first_ns is None:
            raise BadRow("missing_timestamp")
        source.remark("rounds whose input has no time arrive with their first output")
        return first_ns, first_ns, max(outputs)
    arrival_ns = max(before)
    return arrival_ns, first_ns, max(outputs, default=arrival_ns)


def _at(event: Mapping[str, Any], source: Source) -> int:
    text = event.get("timestamp")
    if not isinstance(text, str):
        raise BadRow("missing_timestamp")
    at, zone, digits = parse_time_ns(text)
    source.saw_time(zone, digits)
    return at


def _sniff(head: Head) -> bool:
    return head.has("session_id", "round_index", "input_tokens_total", "timing_events")


FORMAT = Format(
    name="tracelab",
    what="TraceLab JSONL (session_id, round_index, input_tokens_total, output_tokens, timing_events)",
    sniff=_sniff,
    chunks=_chunks,
    needs=("session_id", "round_index", "input_tokens_total", "timing_events"),
    from_first=True,
    tick_ns=1_000_000,
)
