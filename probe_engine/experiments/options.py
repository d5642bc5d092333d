"""What an experiment is run with, and the engine that it runs on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from probe_engine.errors import ExperimentError
from probe_engine.experiments.steps import StepCost, Steps
from probe_engine.experiments.trace import TraceRequest, fitting
from probe_engine.sched import SchedulerConfig

StepsOf = Callable[[SchedulerConfig], Steps]


def silent(line: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Options:
    """trace: requests in order; trace_name: what it is called in the report. model, dtype: the engine's.

    requests: how many of the trace are served; None is the experiment's own choice. quick: small, for a first look.
    tell: takes lines of progress. steps: in place of the engine's own steps. image: the container image to try.
    """

    trace: tuple[TraceRequest, ...]
    trace_name: str
    model: str = "tiny"
    dtype: str = "float32"
    requests: int | None = None
    seed: int = 0
    quick: bool = False
    tell: Callable[[str], None] = silent
    steps: StepsOf | None = None
    image: str | None = None

    def count(self, usual: int, quick: int) -> int:
        """How many requests to serve."""
        return self.requests or (quick if self.quick else usual)

    def taken(self, max_model_len: int, usual: int, quick: int) -> tuple[TraceRequest, ...]:
        """The requests to serve, of at most ``max_model_len`` tokens; ``ExperimentError`` where there are none."""
        found = fitting(self.trace, max_model_len, self.count(usual, quick))
        if not found:
            raise ExperimentError(f"{self.trace_name}: no request of at most {max_model_len} tokens")
        return found

    @contextmanager
    def engine(self) -> Iterator[StepsOf]:
        """Load the model and hold torch to one thread; gives the steps of an engine of any configuration."""
        if self.steps is not None:
            yield self.steps
            return
        from probe_engine.experiments.engine_steps import EngineSteps, step_clock
        from probe_engine.profile.threads import torch_threads
        from probe_engine.runtime.parallel import load

        with torch_threads(1):
            loaded = load(self.model, self.dtype, seed=self.seed)
            clock = step_clock(loaded.device)
            yield lambda config: EngineSteps(loaded, config, self.seed, clock)

    def cost(self) -> StepCost:
        """The linear cost of the engine's steps, measured now."""
        if isinstance(self.steps, StepCost):
            return self.steps
        from probe_engine.experiments.engine_steps import measured_cost

        return measured_cost(self.model, dtype=self.dtype, seed=self.seed, quick=self.quick)

    def setup(self) -> dict[str, str | int]:
        """What every report says of its run."""
        return {"trace": self.trace_name, "model": f"{self.model} ({self.dtype})", "seed": self.seed}
