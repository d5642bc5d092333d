"""Exemplars: single observations that point from a series to a trace."""

from dataclasses import dataclass

from collector.model.labels import Labels


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One exemplar of the series ``series``; ``labels`` are its own, such as ``trace_id``; Unix milliseconds."""

    series: Labels
    labels: Labels
    value: float
    timestamp_ms: int
