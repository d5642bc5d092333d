"""Durations inside expressions: those of ``collector.model.durations``, with PromQL's error."""

from collector.model import durations
from collector.model.durations import format_duration
from collector.model.errors import QueryError

__all__ = ["format_duration", "parse_duration_ms"]


def parse_duration_ms(text: str) -> int:
    """Milliseconds of ``1h30m``; raises QueryError for anything else."""
    duration_ms = durations.parse_duration_ms(text)
    if duration_ms is None:
        raise QueryError(f'"{text}" is not a duration; one looks like 5m or 1h30m')
    return duration_ms
