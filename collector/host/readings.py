"""What this machine's processors and memory are doing, by psutil."""

from dataclasses import dataclass
from typing import Protocol

import psutil


@dataclass(frozen=True, slots=True)
class HostReading:
    """The machine at one moment; ``cpu_usage_ratio`` is of all its processors, since the last reading."""

    cpu_usage_ratio: float
    memory_used_bytes: int
    memory_total_bytes: int


class HostReader(Protocol):
    """A source of readings."""

    def read(self) -> HostReading:
        """The machine now."""
        ...


class Psutil:
    """Reads the machine that it runs on."""

    def __init__(self) -> None:
        psutil.cpu_percent()

    def read(self) -> HostReading:
        """The machine now."""
        memory = psutil.virtual_memory()
        return HostReading(psutil.cpu_percent() / 100, memory.total - memory.available, memory.total)
