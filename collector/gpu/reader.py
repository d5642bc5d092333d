"""What telemetry asks of a GPU library, and a fake that answers from values.

A driver may not know a figure (a laptop has no power sensor): that figure is None or missing, never 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class GpuError(Exception):
    """The GPU library is absent or failed; the message says how."""


@dataclass(frozen=True, slots=True)
class NvLink:
    """One link of a GPU; ``errors`` by kind (``crc_flit``, ``replay``, ...)."""

    link: int
    is_up: bool
    sent_bytes: int | None = None
    received_bytes: int | None = None
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MigInstance:
    """One instance of a GPU that is split."""

    index: int
    uuid: str
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that computes on a GPU; ``name`` is empty where the collector may not see it (in a container)."""

    pid: int
    name: str = ""
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RemappedRows:
    """Rows of memory that were replaced after errors."""

    corrected: int
    uncorrected: int
    is_pending: bool
    has_failed: bool


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment.

    ``lost`` says why nothing could be read of it, None where it could. ``clocks_hertz`` by ``sm``, ``memory``,
    ``graphics``; ``throttled`` by reason, None where the driver cannot tell; ``ecc_errors`` by (``corrected`` or
    ``uncorrected``, ``volatile`` or ``aggregate``); ``xid_errors`` by code, since reading began.
    """

    index: int
    uuid: str
    name: str
    utilization_ratio: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    lost: str | None = None
    driver_version: str = ""
    memory_activity_ratio: float | None = None
    memory_temperature_celsius: float | None = None
    temperature_margin_celsius: float | None = None
    power_limit_watts: float | None = None
    energy_joules: float | None = None
    clocks_hertz: Mapping[str, float] = field(default_factory=dict)
    throttled: Mapping[str, bool] | None = None
    ecc_errors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    remapped_rows: RemappedRows | None = None
    pcie_sent_bytes_per_s: float | None = None
    pcie_received_bytes_per_s: float | None = None
    pcie_replays: int | None = None
    nvlinks: tuple[NvLink, ...] = ()
    xid_errors: Mapping[int, int] = field(default_factory=dict)
    mig_enabled: bool | None = None
    mig_instances: tuple[MigInstance, ...] = ()
    processes: tuple[GpuProcess, ...] = ()


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
