"""BurstGPT: ``Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type``, columns by name.

``Timestamp`` is seconds from midnight of the first day, in a zone that is not stated; whole seconds in the first file,
so that many arrivals tie. The third version has ``Session ID`` and ``Elapsed time`` (seconds that the request took)
besides. A response of no tokens is a request that failed. Format: https://github.com/HPMLL/BurstGPT.
"""

from collections.abc import Iterator

from planner.readers.head import Head
from planner.readers.lines import BadRow
from planner.readers.row import Chunk, Row
from planner.readers.source import Source
from planner.readers.stream import Format
from planner.readers.table import Fields, Table, table_chunks
from planner.readers.values import parse_tokens, time_ns

TIME, MODEL, INPUT, OUTPUT, TOTAL, KIND = (
    "Timestamp",
    "Model",
    "Request tokens",
    "Response tokens",
    "Total tokens",
    "Log Type",
)
SESSION, ELAPSED = "Session ID", "Elapsed time"
_SECOND_NS = 1_000_000_000


def _chunks(source: Source) -> Iterator[Chunk]:
    return table_chunks(source, Table((TIME, MODEL, INPUT, OUTPUT), _row, known=(TOTAL, KIND, SESSION, ELAPSED)))


def _row(fields: Fields, _: Source) -> Row:
    arrival_ns = time_ns(fields[TIME].strip(), _SECOND_NS)
    tokens_in, tokens_out = parse_tokens(fields[INPUT]), parse_tokens(fields[OUTPUT])
    if TOTAL in fields and fields[TOTAL].strip() and parse_tokens(fields[TOTAL]) != tokens_in + tokens_out:
        raise BadRow("total_is_not_the_sum")
    elapsed = fields.get(ELAPSED, "").strip()
    more = {
        "model": fields[MODEL].strip() or None,
        "kind": fields.get(KIND, "").strip() or None,
        "session_id": fields.get(SESSION, "").strip() or None,
        "status": "ok" if tokens_out else "error",
        "rec_e2e_ms": time_ns(elapsed, _SECOND_NS) / 1e6 if elapsed else None,
    }
    return Row(arrival_ns, tokens_in, tokens_out, more, content=hash((more["model"], more["session_id"])))


def _sniff(head: Head) -> bool:
    return {TIME, MODEL, INPUT, OUTPUT}.issubset(head.columns)


FORMAT = Format(
    name="burstgpt",
    what="BurstGPT CSV (Timestamp,Model,Request tokens,Response tokens; with or without Session ID)",
    sniff=_sniff,
    chunks=_chunks,
    needs=(TIME, MODEL, INPUT, OUTPUT),
    tick_ns=1_000_000,
)
