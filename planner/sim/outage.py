"""Failures in the middle of a run: replicas lost with what they held, clients that try again, replacements that load.

A lost request is sent again as a whole: its prompt is computed anew, and its first token is the new answer's. The
router stops choosing a lost replica at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.errors import CapacityError
from planner.sim.clock import Clock
from planner.sim.pace import to_ticks
from planner.sim.replica import Replica
from planner.sim.simulate import Script, Stage
from probe_engine.sched import Request


@dataclass(frozen=True, slots=True)
class Outage:
    """``replicas`` are lost at ``at_s``; each is replaced ``cold_start_s`` later, or never where that is None.

    Count whole failure domains: a node that holds four replicas loses four. Clients send what was lost again after
    ``retry_s``, twice that the second time and so on, ``attempts`` times in all.
    """

    at_s: float
    replicas: int
    cold_start_s: float | None = None
    retry_s: float = 0.5
    attempts: int = 3

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise CapacityError(f"an outage of {self.replicas} replicas: must be at least 1")
        if self.attempts < 1:
            raise CapacityError(f"{self.attempts} attempts of a client: must be at least 1")


def strike(outages: Sequence[Outage]) -> Script:
    """A script for ``play`` in which the outages happen; the longest-serving replicas are lost."""

    def script(clock: Clock, stage: Stage) -> None:
        for outage in outages:
            clock.at(to_ticks(outage.at_s), lambda clock, outage=outage: _lose(clock, stage, outage))  # type: ignore[misc]

    return script


def _lose(clock: Clock, stage: Stage, outage: Outage) -> None:
    for replica in list(clock.serving[: outage.replicas]):
        for request in clock.kill(replica):
            _retry(clock, stage, outage, request)
        if outage.cold_start_s is not None:
            clock.at(clock.now + to_ticks(outage.cold_start_s), lambda clock: clock.join(_fresh(stage)))


def _fresh(stage: Stage) -> Replica:
    return stage.new_replica()


def _retry(clock: Clock, stage: Stage, outage: Outage, lost: Request) -> None:
    tried = stage.attempts(lost)
    if tried >= outage.attempts:
        stage.given_up(lost)
        return
    at = clock.now + to_ticks(outage.retry_s * 2 ** (tried - 1))
    again = stage.again(lost, at)
    clock.at(at, lambda clock: clock.submit(again))
