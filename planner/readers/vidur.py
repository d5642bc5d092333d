"""Vidur's and Sarathi's CSV files: ``arrived_at,num_prefill_tokens,num_decode_tokens``, or the lengths alone.

``arrived_at`` is seconds from the start. Files of lengths are draws without arrivals: equal rows are no doubt, and
arrivals must be given before such a trace can be played. Formats: https://github.com/microsoft/vidur.
"""

from collections.abc import Iterator

import numpy as np

from planner.readers.digits import Text, seconds_as_ns, whole_numbers
from planner.readers.head import Head
from planner.readers.row import Chunk, Row
from planner.readers.source import Source
from planner.readers.stream import Format
from planner.readers.table import Bounds, Fields, Table, Together, table_chunks
from planner.readers.values import parse_tokens, time_ns

TIME, INPUT, OUTPUT = "arrived_at", "num_prefill_tokens", "num_decode_tokens"
_SECOND_NS = 1_000_000_000
_SPELLINGS = (
    (INPUT, OUTPUT),
    ("input_tokens", "output_tokens"),
    ("prompt_tokens", "completion_tokens"),
    ("input_length", "output_length"),
    ("prompt_len", "output_len"),
)


def _timed_chunks(source: Source) -> Iterator[Chunk]:
    return table_chunks(source, Table((TIME, INPUT, OUTPUT), _timed_row, together=_together))


def _timed_row(fields: Fields, _: Source) -> Row:
    arrival_ns = time_ns(fields[TIME].strip(), _SECOND_NS)
    return Row(arrival_ns, parse_tokens(fields[INPUT]), parse_tokens(fields[OUTPUT]))


def _together(text: Text, bounds: Bounds, _: Source) -> Together:
    arrival_ns, timed = seconds_as_ns(text, *bounds[TIME])
    tokens_in, counted_in = whole_numbers(text, *bounds[INPUT])
    tokens_out, counted_out = whole_numbers(text, *bounds[OUTPUT])
    return arrival_ns, tokens_in, tokens_out, timed & counted_in & counted_out


def _spelling(columns: tuple[str, ...]) -> tuple[str, str] | None:
    return next((pair for pair in _SPELLINGS if set(pair) <= set(columns)), None)


def _sniff_lengths(head: Head) -> bool:
    return _spelling(head.columns) is not None and not any("time" in c.lower() or "arriv" in c for c in head.columns)


def _length_chunks(source: Source) -> Iterator[Chunk]:
    from planner.readers.head import head_of

    pair = _spelling(head_of(source.path).columns) or (INPUT, OUTPUT)

    def row(fields: Fields, _: Source) -> Row:
        return Row(None, parse_tokens(fields[pair[0]]), parse_tokens(fields[pair[1]]))

    known = ("num_total_tokens", "pd_ratio") if pair == (INPUT, OUTPUT) else ()
    for chunk in table_chunks(source, Table(pair, row, known)):
        chunk.missing["arrival_ns"] = np.ones(len(chunk), dtype=np.bool_)
        yield chunk


FORMAT = Format(
    name="vidur",
    what="Vidur CSV (arrived_at,num_prefill_tokens,num_decode_tokens)",
    sniff=lambda head: {TIME, INPUT, OUTPUT}.issubset(head.columns),
    chunks=_timed_chunks,
    needs=(TIME, INPUT, OUTPUT),
    tick_ns=1,
)
LENGTHS = Format(
    name="lengths",
    what="CSV of lengths without arrivals (num_prefill_tokens,num_decode_tokens; ShareGPT statistics)",
    sniff=_sniff_lengths,
    chunks=_length_chunks,
    needs=(INPUT, OUTPUT),
    draws=True,
)
