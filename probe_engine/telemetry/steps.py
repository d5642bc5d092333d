"""The last steps, exactly: what a step-time model is calibrated from when a histogram is too coarse."""

from collections import deque
from threading import Lock
from typing import NamedTuple

CAPACITY = 65_536


class StepRecord(NamedTuple):
    """One engine step: its number, start on the monotonic clock, whole wall time, and how much work it was."""

    step: int
    start_s: float
    wall_s: float
    prefill_tokens: int
    prefill_attention: int
    decode_seqs: int
    decode_kv_tokens: int
    preempted: int
    waiting: int


class StepRing:
    """The newest ``capacity`` records; written by the engine's thread, read by any."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._records: deque[StepRecord] = deque(maxlen=capacity)
        self._lock = Lock()

    def append(self, record: StepRecord) -> None:
        """Add the newest record; the oldest falls out when the ring is full."""
        with self._lock:
            self._records.append(record)

    def since(self, step: int) -> list[StepRecord]:
        """Records with a number of at least ``step``, oldest first."""
        found: list[StepRecord] = []
        with self._lock:
            for record in reversed(self._records):
                if record.step < step:
                    break
                found.append(record)
        found.reverse()
        return found
