"""Azure LLM inference traces, 2023 and 2024: ``TIMESTAMP,ContextTokens,GeneratedTokens``.

Times keep their 100 ns; columns are found by name; the 2025 multimodal file's ``NumImages`` is understood. Any other
column is kept in ``extra``. Format: https://github.com/Azure/AzurePublicDataset.
"""

from collections.abc import Iterator

from planner.readers.digits import Text, wall_clock_ns, whole_numbers
from planner.readers.head import Head
from planner.readers.row import Chunk, Row
from planner.readers.source import Source
from planner.readers.stream import Format
from planner.readers.table import Bounds, Fields, Table, Together, table_chunks
from planner.readers.values import parse_time_ns, parse_tokens

TIME, INPUT, OUTPUT, IMAGES = "TIMESTAMP", "ContextTokens", "GeneratedTokens", "NumImages"


def _sniff(head: Head) -> bool:
    return {TIME, INPUT, OUTPUT}.issubset(head.columns)


def _chunks(source: Source) -> Iterator[Chunk]:
    return table_chunks(source, Table((TIME, INPUT, OUTPUT), _row, known=(IMAGES,), together=_together))


def _row(fields: Fields, source: Source) -> Row:
    time_ns, zone, digits = parse_time_ns(fields[TIME])
    tokens_in, tokens_out = parse_tokens(fields[INPUT]), parse_tokens(fields[OUTPUT])
    more = {"images": parse_tokens(fields[IMAGES])} if IMAGES in fields else {}
    source.saw_time(zone, digits)
    return Row(time_ns, tokens_in, tokens_out, more)


def _together(text: Text, bounds: Bounds, source: Source) -> Together:
    time_ns, timed, digits = wall_clock_ns(text, *bounds[TIME])
    tokens_in, counted_in = whole_numbers(text, *bounds[INPUT])
    tokens_out, counted_out = whole_numbers(text, *bounds[OUTPUT])
    understood = timed & counted_in & counted_out
    if understood.any():
        source.saw_time("", digits)
    return time_ns, tokens_in, tokens_out, understood


FORMAT = Format(
    name="azure",
    what="Azure 2023/2024 CSV (TIMESTAMP,ContextTokens,GeneratedTokens)",
    sniff=_sniff,
    chunks=_chunks,
    needs=(TIME, INPUT, OUTPUT),
    from_first=True,
)
