"""What became of one of several queries that were asked together: an answer of its own, or an error of its own."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from collector.model.errors import CollectorError
from collector.model.series import Sample


@dataclass(frozen=True, slots=True)
class Answered:
    """Samples of an instant query, or the ``error`` that it met; ``took_s``: how long it was evaluated."""

    samples: Sequence[Sample] = ()
    error: CollectorError | None = None
    took_s: float = 0.0


def each_alone(
    query: Callable[[str, float], Sequence[Sample]],
    exprs: Sequence[str],
    time_s: float,
    timer: Callable[[], float] = time.perf_counter,
) -> tuple[Answered, ...]:
    """Ask one after the other; an error is kept to its own query."""

    def ask(expr: str) -> Answered:
        began_s = timer()
        try:
            return Answered(query(expr, time_s), None, timer() - began_s)
        except CollectorError as error:
            return Answered((), error, timer() - began_s)

    return tuple(map(ask, exprs))
