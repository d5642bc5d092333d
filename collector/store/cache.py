"""Decoded tiles and timestamp vectors, least recently used first out, bounded by bytes."""

from collections import OrderedDict
from threading import Lock
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]


class TileCache:
    """A map from (chunk, tile) to a read-only array that never holds more than ``capacity_bytes``. Thread-safe."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        self._arrays: OrderedDict[tuple[int, int], Array] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[int, int]) -> Array | None:
        """The array kept under ``key``, or None."""
        with self._lock:
            array = self._arrays.get(key)
            if array is not None:
                self._arrays.move_to_end(key)
            return array

    def put(self, key: tuple[int, int], array: Array) -> None:
        """Keep ``array``, which becomes read-only, and let go of the oldest until it fits."""
        array.flags.writeable = False
        with self._lock:
            known = self._arrays.pop(key, None)
            self.used_bytes -= known.nbytes if known is not None else 0
            if array.nbytes > self.capacity_bytes:
                return
            self._arrays[key] = array
            self.used_bytes += array.nbytes
            while self.used_bytes > self.capacity_bytes:
                self.used_bytes -= self._arrays.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._arrays.clear()
            self.used_bytes = 0
