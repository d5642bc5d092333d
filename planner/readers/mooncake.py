"""Mooncake request traces: one JSON object a line, ``{"timestamp", "input_length", "output_length", "hash_ids"}``.

``timestamp`` is milliseconds from the start; ``hash_ids`` names the prompt's blocks of 512 tokens, chained from the
first, so that two requests share exactly the blocks whose ids are equal.
Format: https://github.com/kvcache-ai/Mooncake (FAST'25 traces).
"""

from collections.abc import Iterator

from planner.readers.head import Head
from planner.readers.objects import Object, object_chunks, rest_of
from planner.readers.row import Chunk, Row, length_flags
from planner.readers.source import Source
from planner.readers.stream import Format
from planner.readers.values import hashes, time_ns, tokens

BLOCK_TOKENS = 512
MILLISECOND_NS = 1_000_000
KEYS = ("timestamp", "input_length", "output_length", "hash_ids")


def _sniff(head: Head) -> bool:
    return head.has("timestamp", "input_length", "output_length") and not head.has("chat_id")


def _chunks(source: Source) -> Iterator[Chunk]:
    return object_chunks(source, _row)


def _row(found: Object, _: Source) -> Row:
    arrival_ns = time_ns(found.get("timestamp"), MILLISECOND_NS)
    tokens_in, tokens_out = tokens(found, "input_length"), tokens(found, "output_length")
    ids = found.get("hash_ids")
    row = Row(arrival_ns, tokens_in, tokens_out)
    if ids is not None:
        row.more = {"prefix_hashes": hashes(ids, tokens_in, BLOCK_TOKENS), "block_tokens": BLOCK_TOKENS}
        row.flags = length_flags(tokens_in, len(ids), BLOCK_TOKENS)
    if len(found) > 3 + (ids is not None):
        row.more = {**row.more, "extra": rest_of(found, *KEYS)}
    return row


FORMAT = Format(
    name="mooncake",
    what="Mooncake JSONL (timestamp in ms, input_length, output_length, hash_ids of 512 tokens)",
    sniff=_sniff,
    chunks=_chunks,
    needs=KEYS[:3],
    tick_ns=MILLISECOND_NS,
)
