"""What telemetry asks of a GPU library, and a fake that answers from values.

A driver may not know a figure (a laptop has no power sensor): that figure is None and its series is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class GpuError(Exception):
    """The GPU library is absent or failed; the message says how."""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment."""

    index: int
    uuid: str
    name: str
    utilization_ratio: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None


class GpuReader(Protocol):
    """A source of readings."""

    def read(self) -> Sequence[GpuReading]:
        """Every GPU now; raises GpuError."""
        ...

    def close(self) -> None:
        """Let go of the library."""
        ...


class FakeGpu:
    """Answers ``readings``, or raises ``error`` while it is set."""

    def __init__(self, readings: Sequence[GpuReading] = (), error: str = "") -> None:
        self.readings = readings
        self.error = error
        self.closed = False

    def read(self) -> Sequence[GpuReading]:
        """What was given."""
        if self.error:
            raise GpuError(self.error)
        return self.readings

    def close(self) -> None:
        """Remember that it was called."""
        self.closed = True
