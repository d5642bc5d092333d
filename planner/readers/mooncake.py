"""Mooncake request traces: one JSON object a line, ``{"timestamp", "input_length", "output_length", "hash_ids"}``.

``timestamp`` is milliseconds from the start; ``hash_ids`` names the prompt's blocks of 512 tokens, chained from the
first, so that two requests share exactly the blocks whose ids are equal.
Format: https://github.com/kvcache-ai/Mooncake (FAST'25 traces).
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from planner.errors import TraceError
from planner.readers.lines import BadRow, Ledger, physical_lines
from planner.trace import (
    MAX_TOKENS,
    Column,
    Flag,
    Quality,
    Ragged,
    Trace,
    TraceHeader,
    TraceRead,
    file_sha256,
)

VERSION = 1
BLOCK_TOKENS = 512
RESOLUTION_NS = 1_000_000
"""Rows that differ by less are in order, whichever comes first."""

KEYS = ("timestamp", "input_length", "output_length", "hash_ids")
QUANTISED_TIES = 0.2
"""Above this share of arrivals at the same moment, the source rounded its clock."""

MAX_HASH = 2**64 - 1
MAX_MS = 2**63 // 10**6


def sniff_mooncake(head: bytes) -> bool:
    """Whether the first line that is not blank is an object with Mooncake's lengths."""
    line = next((line for line in head.splitlines() if line.strip()), b"")
    return line.lstrip().startswith(b"{") and b'"input_length"' in line and b'"timestamp"' in line


def read_mooncake(path: Path, *, strict: bool = False) -> TraceRead:
    """Read a Mooncake trace; a row that cannot be used is set aside, or raises TraceError under ``strict``.

    Raises TraceError when no row can be used.
    """
    ledger, rows = Ledger(path, strict), _Rows()
    for line, offset, raw in physical_lines(path):
        ledger.lines += 1
        if not raw.strip():
            ledger.blank += 1
            continue
        try:
            ledger.accept(rows.add(line, raw))
        except BadRow as bad:
            ledger.set_aside(line, offset, str(bad), raw)
    if not rows.line:
        raise TraceError(f"{path}: no row can be used; {len(ledger.quarantine)} were set aside")
    return TraceRead(rows.trace(path, ledger), tuple(ledger.quarantine), ledger.counts())


def parse_row(raw: bytes) -> tuple[int, int, int, list[int] | None, dict[str, Any]]:
    """(arrival ns, input tokens, output tokens, hash ids or None, further fields). Raises BadRow."""
    try:
        row = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise BadRow("bad_json") from None
    if not isinstance(row, dict):
        raise BadRow("not_an_object")
    hashes = row.get("hash_ids")
    return (
        _time_ns(row.get("timestamp")),
        _tokens(row, "input_length"),
        _tokens(row, "output_length"),
        None if hashes is None else _hashes(hashes),
        {key: value for key, value in row.items() if key not in KEYS},
    )


def _time_ns(value: object) -> int:
    if value is None:
        raise BadRow("missing_timestamp")
    try:
        milliseconds = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
    except ValueError:
        milliseconds = None
    if milliseconds is None or not math.isfinite(milliseconds):
        raise BadRow("bad_timestamp")
    if milliseconds < 0:
        raise BadRow("negative_timestamp")
    if milliseconds >= MAX_MS:
        raise BadRow("bad_timestamp")
    return value * 1_000_000 if isinstance(value, int) else round(milliseconds * 1e6)


def _tokens(row: dict[str, Any], key: str) -> int:
    value = row.get(key)
    if value is None:
        raise BadRow(f"missing_{key}")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadRow(f"bad_{key}")
    if value < 0:
        raise BadRow(f"negative_{key}")
    if value > MAX_TOKENS:
        raise BadRow(f"too_large_{key}")
    return value


def _hashes(value: object) -> list[int]:
    if not isinstance(value, list):
        raise BadRow("bad_hash_ids")
    for one in value:
        if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one <= MAX_HASH:
            raise BadRow("bad_hash_ids")
    if len(set(value)) < len(value):
        raise BadRow("repeated_hash_id")
    return value


class _Rows:
    """Accepted rows while they are gathered, in the order of the file."""

    def __init__(self) -> None:
        self.line: list[int] = []
        self.time_ns: list[int] = []
        self.input: list[int] = []
        self.output: list[int] = []
        self.flags: list[int] = []
        self.hashes: list[list[int] | None] = []
        self.extra: list[str | None] = []
        self._seen: set[bytes] = set()
        self._latest_tick = 0

    def add(self, line: int, raw: bytes) -> Flag:
        """Take one line in; gives its flags. Raises BadRow and takes nothing then."""
        time_ns, tokens_in, tokens_out, hashes, extra = parse_row(raw)
        flags = _length_flags(tokens_in, tokens_out, hashes)
        key = raw.strip()
        if key in self._seen:
            flags |= Flag.DUPLICATE
        self._seen.add(key)
        tick = time_ns // RESOLUTION_NS
        if tick < self._latest_tick:
            flags |= Flag.OUT_OF_ORDER
        self._latest_tick = max(self._latest_tick, tick)
        self.line.append(line)
        self.time_ns.append(time_ns)
        self.input.append(tokens_in)
        self.output.append(tokens_out)
        self.flags.append(int(flags))
        self.hashes.append(hashes)
        self.extra.append(json.dumps(extra) if extra else None)
        return flags

    def trace(self, path: Path, ledger: Ledger) -> Trace:
        """All rows as a trace, sorted by arrival; arrival 0 is the trace's own start."""
        time_ns = np.array(self.time_ns, dtype=np.int64)
        order = np.argsort(time_ns, kind="stable")
        arrival_ns = time_ns[order]
        ties = float((np.diff(arrival_ns) == 0).mean()) if len(arrival_ns) > 1 else 0.0
        quality = Quality.QUANTISED if ties > QUANTISED_TIES else Quality.EXACT
        header = TraceHeader(
            source=path.name,
            source_sha256=file_sha256(path),
            reader="mooncake",
            reader_version=VERSION,
            origin_ns=0,
            zone="unstated",
            resolution_ns=RESOLUTION_NS,
            counts=ledger.counts(),
        )
        columns: dict[str, Column] = {}
        if any(hashes is not None for hashes in self.hashes):
            columns["prefix_hashes"] = _ragged([self.hashes[int(row)] or [] for row in order])
            columns["block_tokens"] = np.full(len(order), BLOCK_TOKENS, dtype=np.int64)
        if any(extra is not None for extra in self.extra):
            columns["extra"] = np.array(self.extra, dtype=object)[order]
        return Trace(
            header=header,
            row_id=order.astype(np.int64),
            src_line=np.array(self.line, dtype=np.int64)[order],
            arrival_ns=arrival_ns,
            arrival_quality=np.full(len(order), quality, dtype=np.uint8),
            input_tokens=np.array(self.input, dtype=np.int64)[order],
            output_tokens=np.array(self.output, dtype=np.int64)[order],
            flags=np.array(self.flags, dtype=np.uint32)[order],
            columns=columns,
            missing={"prefix_hashes": np.array([self.hashes[int(row)] is None for row in order])} if columns else {},
        )


def _length_flags(tokens_in: int, tokens_out: int, hashes: list[int] | None) -> Flag:
    """Doubts about a row's lengths. Raises BadRow where it names more blocks than its prompt has."""
    flags = Flag.NONE
    if tokens_in == 0:
        flags |= Flag.ZERO_INPUT
    if tokens_out == 0:
        flags |= Flag.ZERO_OUTPUT
    blocks = -(-tokens_in // BLOCK_TOKENS)
    if hashes is not None and tokens_in:
        if len(hashes) > blocks:
            raise BadRow("too_many_hash_ids")
        if len(hashes) < blocks:
            flags |= Flag.HASH_SHORT
    return flags


def _ragged(rows: list[list[int]]) -> Ragged:
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return Ragged(np.array([one for row in rows for one in row], dtype=np.uint64), offsets)
