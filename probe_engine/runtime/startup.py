"""How long this process has been running: what comes before a model can be loaded (interpreter, imports)."""

import time

import psutil


def process_age_s() -> float:
    """Seconds since the process was started; to 10 ms, as Linux keeps it."""
    return max(0.0, time.time() - psutil.Process().create_time())
