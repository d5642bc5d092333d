"""The last steps, exactly: what a step-time model is calibrated from when a histogram is too coarse.

``forward_pass`` gives a step in the field set of NVIDIA Dynamo's ForwardPassMetrics, version 1.
"""

from collections import deque
from threading import Lock
from typing import Any, NamedTuple

CAPACITY = 65_536


class StepRecord(NamedTuple):
    """One engine step: its number, start on the monotonic clock, whole wall time, and how much work it was.

    What a step-time model needs first; then the number and spread of the requests behind it. Variances are those of a
    population, in tokens squared. prefill_kv_tokens: keys that prefills find computed (cached, or by earlier chunks).
    prefill_length: of whole prompts. queued: never admitted, their prompts; put_back: preempted, their contexts.
    """

    step: int
    start_s: float
    wall_s: float
    prefill_tokens: int
    prefill_attention: int
    decode_seqs: int
    decode_kv_tokens: int
    preempted: int
    waiting: int
    prefill_requests: int = 0
    prefill_length_variance: float = 0.0
    prefill_kv_tokens: int = 0
    decode_kv_variance: float = 0.0
    queued_requests: int = 0
    queued_tokens: int = 0
    queued_length_variance: float = 0.0
    put_back_requests: int = 0
    put_back_kv_tokens: int = 0
    put_back_kv_variance: float = 0.0


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


def forward_pass(step: StepRecord, worker_id: str) -> dict[str, Any]:
    """``step`` as Dynamo's ``ForwardPassMetrics`` v1; ``counter_id`` is the step's number."""
    return {
        "version": 1,
        "worker_id": worker_id,
        "dp_rank": 0,
        "counter_id": step.step,
        "wall_time": step.wall_s,
        "scheduled_requests": {
            "num_prefill_requests": step.prefill_requests,
            "sum_prefill_tokens": step.prefill_tokens,
            "var_prefill_length": step.prefill_length_variance,
            "sum_prefill_kv_tokens": step.prefill_kv_tokens,
            "num_decode_requests": step.decode_seqs,
            "sum_decode_kv_tokens": step.decode_kv_tokens,
            "var_decode_kv_tokens": step.decode_kv_variance,
        },
        "queued_requests": {
            "num_prefill_requests": step.queued_requests,
            "sum_prefill_tokens": step.queued_tokens,
            "var_prefill_length": step.queued_length_variance,
            "num_decode_requests": step.put_back_requests,
            "sum_decode_kv_tokens": step.put_back_kv_tokens,
            "var_decode_kv_tokens": step.put_back_kv_variance,
        },
    }
