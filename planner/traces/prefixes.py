"""What prompts share by their block hashes: the hits of a cache without bounds, and whether hashes are chained."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.traces.trace import BoolArray, IntArray, Ragged, Trace

DENSE = 2**28
"""Hashes below this are looked up in a table; others, such as 64-bit ones, in a sorted list."""

CHAINED = 2**21
"""Hashes below this are followed to their predecessors."""


@dataclass(frozen=True, slots=True)
class PrefixStats:
    """Blocks of a trace and what of them an earlier request had, rows in the order of the file, cache unbounded.

    ``block_hit_ratio`` and ``token_hit_ratio`` count the run of blocks at the beginning of a prompt that was seen;
    ``seen_ratio`` blocks seen anywhere before. ``mismatched_rows`` have not one hash per block of the prompt.
    ``several_parents``, ``several_positions`` and ``several_lengths`` count hashes that are not chained from the first
    block; they are looked for among hashes below 2 million.
    """

    block_tokens: int
    blocks: int
    unique: int
    block_hit_ratio: float
    token_hit_ratio: float
    seen_ratio: float
    requests_with_hit: float
    mismatched_rows: int
    several_parents: int
    several_positions: int
    several_lengths: int
    top: tuple[tuple[int, int], ...]


class _Seen:
    """The hashes that were seen."""

    def __init__(self) -> None:
        self._table: BoolArray = np.zeros(0, dtype=np.bool_)
        self._sorted: npt.NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self.count = 0

    def known(self, ids: npt.NDArray[np.uint64]) -> BoolArray:
        """Which of the distinct ``ids`` were seen before; all are afterwards."""
        dense = ids < DENSE
        found = np.zeros(len(ids), dtype=np.bool_)
        small = ids[dense].astype(np.int64)
        if len(small) and int(small.max()) >= len(self._table):
            grown = np.zeros(min(max(int(small.max()) + 1, 2 * len(self._table)), DENSE), dtype=np.bool_)
            grown[: len(self._table)] = self._table
            self._table = grown
        found[dense] = self._table[small]
        self._table[small] = True
        large = ids[~dense]
        at = np.searchsorted(self._sorted, large)
        there = np.zeros(len(large), dtype=np.bool_)
        inside = at < len(self._sorted)
        there[inside] = self._sorted[at[inside]] == large[inside]
        found[~dense] = there
        self._sorted = np.insert(self._sorted, at[~there], large[~there])
        self.count += int((~found).sum())
        return found


class _Chain:
    """Predecessor, position and length of each small hash, and which of them had several."""

    def __init__(self) -> None:
        self._first = {name: np.zeros(0, dtype=np.int32) for name in ("parents", "positions", "lengths")}
        self._several = {name: np.zeros(0, dtype=np.bool_) for name in self._first}
        self.counts = np.zeros(0, dtype=np.int32)

    def add(self, ids: IntArray, traits: dict[str, IntArray]) -> None:
        """Take blocks in with their traits, (blocks,) each."""
        self._grow(int(ids.max()) + 1)
        distinct, at, counts = np.unique(ids, return_index=True, return_counts=True)
        fresh = self.counts[distinct] == 0
        for name, values in traits.items():
            first = self._first[name]
            first[distinct[fresh]] = values[at[fresh]]
            self._several[name][ids[first[ids] != values]] = True
        self.counts[distinct] += counts.astype(np.int32)

    def several(self, name: str) -> int:
        """How many hashes had more than one of a trait."""
        return int(self._several[name].sum())

    def _grow(self, size: int) -> None:
        if len(self.counts) < size:
            more = min(max(size, 2 * len(self.counts)), CHAINED) - len(self.counts)
            self.counts = np.append(self.counts, np.zeros(more, dtype=np.int32))
            for name, first in self._first.items():
                self._first[name] = np.append(first, np.zeros(more, dtype=np.int32))
                self._several[name] = np.append(self._several[name], np.zeros(more, dtype=np.bool_))


class Prefixes:
    """Takes pieces of a trace and answers with what their prompts share."""

    def __init__(self) -> None:
        self.blocks = 0
        self._block_tokens = 0
        self._seen = _Seen()
        self._chain = _Chain()
        self._hit_blocks = self._hit_tokens = self._seen_blocks = self._tokens = 0
        self._rows = self._rows_with_hit = self._mismatched = 0

    def add(self, piece: Trace) -> None:
        """Take the next piece in."""
        hashes, sizes = piece.column("prefix_hashes"), piece.column("block_tokens")
        if not isinstance(hashes, Ragged) or sizes is None or isinstance(sizes, Ragged):
            self._take_plain(piece)
            return
        order = np.argsort(piece.row_id, kind="stable")
        ids = hashes.take(order)
        lengths, tokens = np.diff(ids.offsets), piece.input_tokens[order]
        block = np.maximum(sizes[order].astype(np.int64), 1)
        row = np.repeat(np.arange(len(order)), lengths)
        position = np.arange(len(ids.values)) - np.repeat(ids.offsets[:-1], lengths)
        seen = self._seen_before(ids.values)
        run = np.minimum(_leading(seen, ids.offsets), lengths)
        self.blocks += len(ids.values)
        self._block_tokens = int(block.max(initial=self._block_tokens))
        self._hit_blocks += int(run.sum())
        self._hit_tokens += int(np.minimum(run * block, tokens).sum())
        self._seen_blocks += int(seen.sum())
        self._rows_with_hit += int((run > 0).sum())
        named = lengths > 0
        self._mismatched += int((named & (lengths != -(-tokens // block))).sum())
        self._take_plain(piece)
        self._follow(ids, row, position, np.minimum(tokens[row] - position * block[row], block[row]))

    def _take_plain(self, piece: Trace) -> None:
        self._rows += len(piece)
        self._tokens += int(piece.input_tokens.sum())

    def _seen_before(self, ids: npt.NDArray[np.uint64]) -> BoolArray:
        distinct, first, where = np.unique(ids, return_index=True, return_inverse=True)
        known = self._seen.known(distinct)
        found: BoolArray = known[where] | (first[where] != np.arange(len(ids)))
        return found

    def _follow(self, ids: Ragged, row: IntArray, position: IntArray, length: IntArray) -> None:
        small = np.flatnonzero(ids.values < CHAINED)
        if not len(small):
            return
        values = ids.values.astype(np.int64)
        parent = np.where(position > 0, np.roll(values, 1) + 1, 0)
        traits = {"parents": parent[small], "positions": position[small], "lengths": length[small]}
        self._chain.add(values[small], traits)

    def result(self) -> PrefixStats:
        """The figures of all that was taken in; there must have been blocks."""
        counts = self._chain.counts
        top = np.argsort(-counts, kind="stable")[:5]
        return PrefixStats(
            block_tokens=self._block_tokens,
            blocks=self.blocks,
            unique=self._seen.count,
            block_hit_ratio=self._hit_blocks / self.blocks,
            token_hit_ratio=self._hit_tokens / self._tokens if self._tokens else 0.0,
            seen_ratio=self._seen_blocks / self.blocks,
            requests_with_hit=self._rows_with_hit / self._rows,
            mismatched_rows=self._mismatched,
            several_parents=self._chain.several("parents"),
            several_positions=self._chain.several("positions"),
            several_lengths=self._chain.several("lengths"),
            top=tuple((int(one), int(counts[one])) for one in top if counts[one]),
        )


def _leading(seen: BoolArray, offsets: IntArray) -> IntArray:
    """How many blocks at the beginning of each row were seen; beyond its length where all were."""
    unseen = np.append(np.flatnonzero(~seen), len(seen))
    found: IntArray = unseen[np.searchsorted(unseen, offsets[:-1])] - offsets[:-1]
    return found
