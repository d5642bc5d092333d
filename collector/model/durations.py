"""Durations as Prometheus writes them: ``5m``, ``1h30m``, ``1d12h``, ``500ms``, ``0``."""

import re

SHAPE = "a duration looks like 5m or 1h30m"

_WHOLE = re.compile(
    r"(?:([0-9]+)y)?(?:([0-9]+)w)?(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?(?:([0-9]+)ms)?"
)
_UNITS_MS = {"y": 31_536_000_000, "w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def parse_duration_ms(text: str) -> int | None:
    """Milliseconds of a duration; None where ``text`` is none. Units go from large to small, each once."""
    if text == "0":
        return 0
    found = _WHOLE.fullmatch(text)
    if found is None or not text:
        return None
    return sum(int(count) * size for count, size in zip(found.groups(), _UNITS_MS.values(), strict=True) if count)


def format_duration(duration_ms: int) -> str:
    """Shortest text that ``parse_duration_ms`` turns back into ``duration_ms``, which is not negative.

    As in Prometheus, years and weeks only where nothing smaller is left over.
    """
    if duration_ms == 0:
        return "0s"
    out = []
    for unit, size_ms in _UNITS_MS.items():
        if unit in ("y", "w") and duration_ms % size_ms:
            continue
        count, duration_ms = divmod(duration_ms, size_ms)
        if count:
            out.append(f"{count}{unit}")
    return "".join(out)
