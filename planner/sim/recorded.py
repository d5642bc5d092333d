"""Step times that were recorded, played back: what then differs between twin and engine is a decision."""

from collections.abc import Iterable

from planner.errors import ModelError
from probe_engine.sched import StepStats


class RecordedSteps:
    """A step-time model of one replica that gives recorded times (seconds) in their order, whatever the steps hold."""

    def __init__(self, seconds: Iterable[float]) -> None:
        self._seconds = iter(seconds)
        self._given = 0

    def step_seconds(self, stats: StepStats) -> float:
        """The next recorded time. Raises ModelError when there is none left."""
        for seconds in self._seconds:
            self._given += 1
            return seconds
        raise ModelError(f"the twin takes more steps than the {self._given} that were recorded: their decisions differ")
