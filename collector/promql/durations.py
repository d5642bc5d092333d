"""Durations as PromQL writes them: ``5m``, ``1h30m``, ``250ms``."""

import re

from collector.model.errors import QueryError

UNITS_MS = {"y": 31_536_000_000, "w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_WHOLE = re.compile(r"(?:[0-9]+(?:ms|[smhdwy]))+")
_PART = re.compile(r"([0-9]+)(ms|[smhdwy])")


def parse_duration_ms(text: str) -> int:
    """Milliseconds of ``1h30m``; raises QueryError for anything else."""
    if not _WHOLE.fullmatch(text):
        raise QueryError(f'"{text}" is not a duration; one looks like 5m or 1h30m')
    return sum(int(number) * UNITS_MS[unit] for number, unit in _PART.findall(text))


def format_duration(duration_ms: int) -> str:
    """Shortest text that ``parse_duration_ms`` turns back into ``duration_ms``, which is not negative."""
    if duration_ms == 0:
        return "0s"
    out = []
    for unit, size_ms in UNITS_MS.items():
        if unit in ("y", "w") and duration_ms % size_ms:
            continue
        count, duration_ms = divmod(duration_ms, size_ms)
        if count:
            out.append(f"{count}{unit}")
    return "".join(out)
