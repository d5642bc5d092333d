"""One service level objective as rules are made from it, whatever format it was written in."""

from collections.abc import Callable
from dataclasses import dataclass, field

from collector.model.labels import Labels

WINDOW_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class AlertSpec:
    """What the page or the ticket of an objective carries beside what every one carries."""

    labels: Labels = ()
    annotations: Labels = ()
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Objective:
    """``ratio`` of events (0..1) must be good over a rolling ``window_s``.

    ``error_ratio`` writes PromQL for the share of bad events within a window such as ``5m``. Where the measure is a
    gauge, ``sampled`` is PromQL that is 1 where it is bad now and 0 where it is good; it is recorded, and
    ``error_ratio`` is None.
    """

    service: str
    name: str
    ratio: float
    error_ratio: Callable[[str], str] | None
    sampled: str = ""
    window_s: float = WINDOW_S
    description: str = ""
    labels: Labels = ()
    alert_name: str = ""
    page: AlertSpec = AlertSpec(labels=(("severity", "page"),))
    ticket: AlertSpec = AlertSpec(labels=(("severity", "ticket"),))

    @property
    def identity(self) -> str:
        """Tells objectives apart."""
        return f"{self.service}-{self.name}"

    @property
    def budget(self) -> float:
        """Share of events that may be bad."""
        return round(1.0 - self.ratio, 12)


@dataclass(slots=True)
class Reading:
    """Objectives of a file, and what is odd but allowed in it (``file:line:column: ...``)."""

    objectives: list[Objective] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
