"""Endless streams of numbers, one per key, of which any piece is had at once; the same on every machine.

Position ``p`` of a stream is SplitMix64's output (Steele, Lea, Flood 2014) for state ``key + (p + 1) * golden``.
"""

import hashlib

import numpy as np
import numpy.typing as npt

UInts = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S32 = (np.uint64(shift) for shift in (30, 27, 31, 32))


def base_key(seed: int, kind: str) -> np.uint64:
    """The root of all keys of one kind under one seed."""
    digest = hashlib.blake2b(f"{seed}/{kind}".encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def keys(base: np.uint64, numbers: UInts) -> UInts:
    """One key per number."""
    return _mixed(numbers * _GOLDEN + base)


def key_of(base: np.uint64, name: str) -> UInts:
    """The key of a name, (1,)."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return keys(base, np.array([int.from_bytes(digest, "little")], dtype=np.uint64))


def draw(streams: UInts, counts: Counts, below: int) -> UInts:
    """The first ``counts[i]`` numbers of each stream, one after another, each in [0, below); below < 2**32."""
    total = int(counts.sum())
    state = np.arange(1, total + 1, dtype=np.uint64)
    if len(streams) == 1:
        state *= _GOLDEN
        state += streams[0]
    else:
        starts = (np.cumsum(counts) - counts).astype(np.uint64)
        state *= _GOLDEN
        state += np.repeat(streams - starts * _GOLDEN, counts)
    found = _mixed(state)
    found >>= _S32
    found *= np.uint64(below)
    found >>= _S32
    return found


def _mixed(state: UInts) -> UInts:
    state ^= state >> _S30
    state *= _FIRST
    state ^= state >> _S27
    state *= _SECOND
    state ^= state >> _S31
    return state
