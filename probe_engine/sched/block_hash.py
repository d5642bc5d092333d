"""Chained hashes of token blocks: equal hash means equal tokens from the first position on.

Stable over processes and machines (BLAKE2b, 64 bits), so that a trace's hashes and an engine's can be compared.
"""

from array import array
from collections.abc import Sequence
from hashlib import blake2b

ROOT = 0


def hash_blocks(parent: int, token_ids: Sequence[int], block_size: int) -> list[int]:
    """Hashes (unsigned 64-bit) of the full blocks in ``token_ids``, chained from ``parent`` (``ROOT`` at position 0).

    Tokens beyond the last full block are left out.
    """
    packed = array("q", token_ids).tobytes()
    width = block_size * 8
    hashes: list[int] = []
    for start in range(0, len(packed) - width + 1, width):
        digest = blake2b(packed[start : start + width], digest_size=8, key=parent.to_bytes(8, "little")).digest()
        parent = int.from_bytes(digest, "little")
        hashes.append(parent)
    return hashes
