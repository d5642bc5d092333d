"""Durations as Prometheus writes them: ``5m``, ``1h30m``, ``1d12h``, ``500ms``, ``0``."""

import re

_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_UNITS_MS = (365 * 86_400_000, 7 * 86_400_000, 86_400_000, 3_600_000, 60_000, 1_000, 1)
_NAMES = ("y", "w", "d", "h", "m", "s", "ms")

SHAPE = "a duration looks like 5m or 1h30m"


def parse_duration_ms(text: str) -> int | None:
    """Milliseconds of a Prometheus duration; None where ``text`` is none. Units go from large to small, each once."""
    if text == "0":
        return 0
    found = _DURATION.fullmatch(text)
    if found is None or not text:
        return None
    return sum(int(count) * unit for count, unit in zip(found.groups(), _UNITS_MS, strict=True) if count)


def format_duration(duration_ms: int) -> str:
    """Milliseconds as Prometheus writes them; weeks and years only where nothing smaller is left over."""
    if duration_ms == 0:
        return "0s"
    parts = []
    remaining = duration_ms
    for unit, name in zip(_UNITS_MS, _NAMES, strict=True):
        whole_only = name in ("y", "w", "d")
        if remaining >= unit and (not whole_only or remaining % unit == 0):
            parts.append(f"{remaining // unit}{name}")
            remaining %= unit
    return "".join(parts)
