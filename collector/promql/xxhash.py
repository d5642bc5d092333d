"""xxHash64 with seed 0: the hash by which Prometheus draws the series of ``limit_ratio``.

Source: github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
"""

import struct

_PRIMES = (
    0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5,
)  # fmt: skip
_MASK = (1 << 64) - 1


def xxhash64(data: bytes) -> int:
    """Hash of ``data``, 0 to 2**64 - 1."""
    first, second, third, fourth, fifth = _PRIMES
    position = 0
    if len(data) >= 32:
        lanes = [(first + second) & _MASK, second, 0, -first & _MASK]
        while position + 32 <= len(data):
            words = struct.unpack_from("<4Q", data, position)
            lanes = [_round(lane, word) for lane, word in zip(lanes, words, strict=True)]
            position += 32
        total = sum(_rotate(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
        for lane in lanes:
            total = ((total ^ _round(0, lane)) * first + fourth) & _MASK
    else:
        total = fifth
    total = (total + len(data)) & _MASK
    while position + 8 <= len(data):
        word = _round(0, struct.unpack_from("<Q", data, position)[0])
        total = (_rotate(total ^ word, 27) * first + fourth) & _MASK
        position += 8
    if position + 4 <= len(data):
        total ^= struct.unpack_from("<I", data, position)[0] * first & _MASK
        total = (_rotate(total, 23) * second + third) & _MASK
        position += 4
    for byte in data[position:]:
        total = _rotate(total ^ (byte * fifth & _MASK), 11) * first & _MASK
    total = (total ^ (total >> 33)) * second & _MASK
    total = (total ^ (total >> 29)) * third & _MASK
    return total ^ (total >> 32)


def _round(lane: int, word: int) -> int:
    return _rotate((lane + word * _PRIMES[1]) & _MASK, 31) * _PRIMES[0] & _MASK


def _rotate(value: int, by: int) -> int:
    return ((value << by) | (value >> (64 - by))) & _MASK
