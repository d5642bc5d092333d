"""What other load generators leave behind: GuideLLM's report, AIBrix's workloads, the request log of BurstGPT's bench.

Their requests can be played again at the times at which they were sent.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from planner.readers.lines import BadRow
from planner.readers.objects import Object, group_chunks
from planner.readers.row import Chunk, Row
from planner.readers.source import Source
from planner.readers.stream import Format
from planner.readers.values import number_or_none, text_or_none, time_ns, tokens, tokens_or_none

_SECOND_NS = 1_000_000_000
_ENDED = {"successful": "ok", "errored": "error", "incomplete": "cancelled"}


def _guidellm(found: Object, source: Source) -> Iterable[Row | BadRow]:
    benchmarks = found.get("benchmarks")
    if not isinstance(benchmarks, list):
        raise BadRow("no_benchmarks")
    for benchmark in benchmarks:
        requests = benchmark.get("requests") if isinstance(benchmark, dict) else None
        for ended, status in _ENDED.items():
            for request in (requests.get(ended) if isinstance(requests, dict) else None) or ():
                yield _part(request, partial(_guidellm_row, status=status, source=source))


def _guidellm_row(one: Object, status: str, source: Source) -> Row:
    source.saw_time("Z", 9)
    start = one.get("request_start_time")
    return Row(
        time_ns(start, _SECOND_NS),
        tokens_or_none(one, "prompt_tokens"),
        tokens_or_none(one, "output_tokens"),
        {
            "request_id": text_or_none(one.get("response_id") or one.get("request_id")),
            "status": status,
            "rec_ttft_ms": number_or_none(one.get("time_to_first_token_ms")),
            "rec_e2e_ms": number_or_none(one.get("request_latency"), 1e3),
            "rec_itl_ms": number_or_none(one.get("inter_token_latency_ms")),
        },
        content=hash(str(one.get("request_id"))),
    )


def _aibrix(found: Object, _: Source) -> Iterable[Row | BadRow]:
    arrival_ns = time_ns(found.get("timestamp"), 1_000_000)
    requests = found.get("requests")
    if not isinstance(requests, list):
        raise BadRow("no_requests")
    for number, request in enumerate(requests):
        yield _part(request, partial(_aibrix_row, arrival_ns=arrival_ns, number=number))


def _aibrix_row(one: Object, arrival_ns: int, number: int) -> Row:
    known = {key.lower().replace(" ", "_"): value for key, value in one.items()}
    more = {
        "session_id": text_or_none(known.get("session_id")),
        "model": text_or_none(known.get("model")),
        "prompt_ref": text_or_none(known.get("prompt")),
    }
    row = Row(arrival_ns, tokens(known, "prompt_length"), tokens_or_none(known, "output_length"), more)
    row.content = hash((number, str(known.get("prompt"))))
    return row


def _detail_log(found: Object, source: Source) -> Iterable[Row | BadRow]:
    source.remark("arrivals are the recorded ends less the time that each request took, on a clock of its own")
    for request in found.values():
        yield _part(request, _detail_row)


def _detail_row(one: Object) -> Row:
    ended_ns = time_ns(one.get("record_time"), _SECOND_NS)
    took_s = number_or_none(one.get("total_chunk_time"))
    if took_s is None or took_s > 1e9:
        raise BadRow("bad_total_chunk_time")
    return Row(
        ended_ns - round(took_s * 1e9),
        tokens(one, "in_len"),
        tokens_or_none(one, "sampled_out_len"),
        {
            "request_id": text_or_none(one.get("event_id")),
            "rec_ttft_ms": number_or_none(one.get("first_chunk_time"), 1e3),
            "rec_e2e_ms": took_s * 1e3,
            "status": "ok",
        },
        content=hash(one.get("event_id") if isinstance(one.get("event_id"), int) else None),
    )


def _part(request: object, row: Callable[[Object], Row]) -> Row | BadRow:
    if not isinstance(request, dict):
        return BadRow("not_an_object")
    try:
        return row(request)
    except BadRow as bad:
        return bad


def _reader(parse: Callable[[Object, Source], Iterable[Row | BadRow]]) -> Callable[[Source], Iterator[Chunk]]:
    return lambda source: group_chunks(source, parse)


GUIDELLM = Format(
    name="guidellm",
    what="GuideLLM report (JSON with benchmarks)",
    sniff=lambda head: b"guidellm_version" in head.text or head.has("benchmarks", "metadata"),
    chunks=_reader(_guidellm),
    from_first=True,
)
AIBRIX = Format(
    name="aibrix",
    what="AIBrix JSONL (timestamp in ms, requests with Prompt Length and Output Length)",
    sniff=lambda head: head.has("timestamp", "requests"),
    chunks=_reader(_aibrix),
    needs=("timestamp", "requests"),
    tick_ns=1_000_000,
)
DETAIL_LOG = Format(
    name="burstgpt_log",
    what="request log of BurstGPT's bench (JSON of in_len, sampled_out_len, record_time …)",
    sniff=lambda head: head.has("record_time", "in_len", "total_chunk_time"),
    chunks=_reader(_detail_log),
    needs=("record_time", "in_len", "total_chunk_time"),
    from_first=True,
)
