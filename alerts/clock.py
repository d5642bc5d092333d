"""Moments as Prometheus's and Alertmanager's JSON write them."""

from datetime import UTC, datetime

NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time."""


def rfc3339(time_s: float | None) -> str:
    """Unix seconds as ``2026-01-02T03:04:05.678Z``; None as Go's zero time."""
    if time_s is None:
        return NEVER
    time_ms = round(time_s * 1000)
    fraction = f"{time_ms % 1000:03d}".rstrip("0")
    return f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}{'.' + fraction if fraction else ''}Z"


def moment_s(name: str, text: str | None, absent_s: float) -> float:
    """Unix seconds from a number or RFC 3339; ``absent_s`` where there is no text. Raises ValueError, with ``name``."""
    if text is None:
        return absent_s
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f'{name} is "{text}"; a moment looks like 1767323045 or 2026-01-02T03:04:05Z') from error
    if moment.tzinfo is None:
        raise ValueError(f'{name} is "{text}"; it needs a time zone, such as Z')
    return moment.timestamp()
