"""Prefix hashes of copies: what two copies of a request share must not be more than what two requests would."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from planner.traces.trace import IntArray, Ragged, Trace

_PLAIN = 2**40


def renamed(trace: Trace, copy: IntArray) -> Trace:
    """The blocks of copy ``k`` of a trace under names of their own, shared among that copy's requests as before.

    ``copy`` is (rows,) numbers; 0 keeps its names.
    """
    hashes = trace.column("prefix_hashes")
    if not isinstance(hashes, Ragged) or not copy.any():
        return trace
    of_block = np.repeat(copy, np.diff(hashes.offsets)).astype(np.uint64)
    columns = {**trace.columns, "prefix_hashes": Ragged(_named(hashes.values, of_block), hashes.offsets)}
    return replace(trace, columns=columns)


def _named(values: npt.NDArray[np.uint64], copy: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Small numbers are counted on, so that they stay small; 64-bit hashes are mixed with the copy's number."""
    highest = int(values.max(initial=0)) + 1
    if highest * (int(copy.max()) + 1) < _PLAIN:
        return values + copy * np.uint64(highest)
    mixed = values ^ (copy * np.uint64(0x9E3779B97F4A7C15))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(31)
    return np.where(copy == 0, values, mixed)
