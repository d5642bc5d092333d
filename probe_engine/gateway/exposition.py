"""The few numbers that the gateway reads from a replica's ``/metrics``, whichever engine it is.

Not a parser of the format: it looks at lines whose name it knows and passes over the rest.
"""

import re
from dataclasses import dataclass
from math import isfinite

SAMPLE = re.compile(r"([A-Za-z_:][\w:]*)(?:\{.*\})?[ \t]+(\S+)")
WAITING = ("num_requests_waiting", "num_queue_reqs")  # ends of names: vllm:, loadline_, tgi, sglang:
RUNNING = ("num_requests_running", "num_running_reqs")
GPU_USED = {"loadline_gpu_memory_used_bytes", "DCGM_FI_DEV_FB_USED"}
GPU_TOTAL = {"loadline_gpu_memory_total_bytes"}
GPU_FREE = {"DCGM_FI_DEV_FB_FREE"}


@dataclass(frozen=True, slots=True)
class Observed:
    """Requests waiting and running, share of GPU memory in use; None is not exposed."""

    waiting: float | None = None
    running: float | None = None
    gpu_memory_ratio: float | None = None


def read(text: str) -> Observed:
    """What ``text`` says; series of one name are added up (of GPUs: the fullest counts)."""
    waiting: list[float] = []
    running: list[float] = []
    used: list[float] = []
    total: list[float] = []
    free: list[float] = []
    for line in text.splitlines():
        match = SAMPLE.match(line)
        if match is None:
            continue
        name, value = match[1], _number(match[2])
        if value is None:
            continue
        for ends, found in ((WAITING, waiting), (RUNNING, running)):
            if name.endswith(ends):
                found.append(value)
        for names, found in ((GPU_USED, used), (GPU_TOTAL, total), (GPU_FREE, free)):
            if name in names:
                found.append(value)
    totals = total or [one + other for one, other in zip(used, free, strict=False)]
    shares = [one / whole for one, whole in zip(used, totals, strict=False) if whole > 0]
    return Observed(_sum(waiting), _sum(running), max(shares, default=None))


def _sum(values: list[float]) -> float | None:
    return sum(values) if values else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None
