"""Moments as people and Prometheus's API write them: Unix seconds or RFC 3339."""

import math
from datetime import UTC, datetime


def parse_moment_s(text: str) -> float:
    """Unix seconds of ``1700000000.5`` or ``2026-11-24T09:00:00Z``; without a zone it is UTC. Raises ValueError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = _rfc3339_s(text)
    if not math.isfinite(seconds):
        raise ValueError(f'"{text}" is not a moment; one looks like 1700000000 or 2026-11-24T09:00:00Z')
    return seconds


def _rfc3339_s(text: str) -> float:
    if "T" not in text and "t" not in text:
        return math.nan
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return math.nan
