"""Qwen-Bailian usage traces: ``{"chat_id", "parent_chat_id", "timestamp", "input_length", …, "hash_ids"}`` a line.

``timestamp`` is seconds from the start; ``input_length`` is the whole prompt, history included; ``hash_ids`` names its
blocks of 16 tokens. ``parent_chat_id`` is the turn before (-1: none), so that a session is the chain from its root.
Format: https://github.com/alibaba-edu/qwen-bailian-usagetraces-anon.
"""

from collections.abc import Iterator

from planner.readers.head import Head
from planner.readers.lines import BadRow
from planner.readers.objects import Object, object_chunks, rest_of
from planner.readers.row import Chunk, Row, length_flags
from planner.readers.source import Source
from planner.readers.stream import Format
from planner.readers.values import hashes, text_or_none, time_ns, tokens, tokens_or_none

BLOCK_TOKENS = 16
KEYS = ("chat_id", "parent_chat_id", "timestamp", "input_length", "output_length", "type", "turn", "hash_ids")
_SECOND_NS = 1_000_000_000


def _chunks(source: Source) -> Iterator[Chunk]:
    roots: dict[str, str] = {}

    def row(found: Object, _: Source) -> Row:
        arrival_ns = time_ns(found.get("timestamp"), _SECOND_NS)
        tokens_in, tokens_out = tokens(found, "input_length"), tokens(found, "output_length")
        chat = text_or_none(found.get("chat_id"))
        if chat is None:
            raise BadRow("missing_chat_id")
        parent = text_or_none(found.get("parent_chat_id"))
        parent = None if parent == "-1" else parent
        ids = found.get("hash_ids")
        known = [] if ids is None else hashes(ids, tokens_in, BLOCK_TOKENS)
        turn = tokens_or_none(found, "turn")
        session = roots[chat] = chat if parent is None else roots.get(parent, parent)
        more: dict[str, object] = {
            "request_id": chat,
            "session_id": session,
            "parent_request_id": parent,
            "turn": turn,
            "context_mode": "full",
            "kind": text_or_none(found.get("type")),
            "extra": rest_of(found, *KEYS),
        }
        flags = 0
        if ids is not None:
            more |= {"prefix_hashes": known, "block_tokens": BLOCK_TOKENS}
            flags = length_flags(tokens_in, len(known), BLOCK_TOKENS)
        return Row(arrival_ns, tokens_in, tokens_out, more, flags)

    return object_chunks(source, row)


def _sniff(head: Head) -> bool:
    return head.has("chat_id", "timestamp", "input_length", "output_length")


FORMAT = Format(
    name="bailian",
    what="Qwen-Bailian JSONL (chat_id, parent_chat_id, timestamp in s, input_length, output_length, hash_ids of 16)",
    sniff=_sniff,
    chunks=_chunks,
    needs=("chat_id", "timestamp", "input_length", "output_length"),
    tick_ns=1_000_000,
)
