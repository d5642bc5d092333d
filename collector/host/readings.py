"""What this machine's processors, memory, disks and network are doing, and Loadline's own processes, by psutil."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol

import psutil

PARTS = ("up", "engine", "collector", "alerts", "dashboard", "replay", "plan")
"""Subcommands of ``loadline`` whose processes are told apart."""

FEIGNED = frozenset(("squashfs", "iso9660"))
"""File systems that are full by nature."""


@dataclass(frozen=True, slots=True)
class FileSystem:
    """One mounted file system; ``free_bytes`` is what those who are not root may take."""

    mountpoint: str
    fstype: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk, in bytes since the machine's start."""

    device: str
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True, slots=True)
class Network:
    """One network device, since the machine's start; ``errors`` are packets lost or damaged, both ways."""

    device: str
    received_bytes: int
    sent_bytes: int
    errors: int


@dataclass(frozen=True, slots=True)
class PartProcess:
    """A process of a part of Loadline; ``open_files`` counts sockets too, None where it may not be known."""

    part: str
    pid: int
    cpu_s: float
    resident_bytes: int
    open_files: int | None = None


@dataclass(frozen=True, slots=True)
class HostReading:
    """The machine at one moment; ``cpu_usage_ratio`` is of all its processors, since the last reading."""

    cpu_usage_ratio: float
    memory_used_bytes: int
    memory_total_bytes: int
    cpus: int = 1
    load1: float = 0.0
    swap_used_bytes: int = 0
    swap_total_bytes: int = 0
    file_systems: tuple[FileSystem, ...] = ()
    disks: tuple[Disk, ...] = ()
    networks: tuple[Network, ...] = ()
    processes: tuple[PartProcess, ...] = ()


class HostReader(Protocol):
    """A source of readings."""

    def read(self) -> HostReading:
        """The machine now."""
        ...


class Psutil:
    """Reads the machine that it runs on."""

    def __init__(self) -> None:
        psutil.cpu_percent()
        self._parts: dict[psutil.Process, str | None] = {}

    def read(self) -> HostReading:
        """The machine now."""
        memory = psutil.virtual_memory()
        swap = psutil.swap_memory()
        return HostReading(
            cpu_usage_ratio=psutil.cpu_percent() / 100,
            memory_used_bytes=memory.total - memory.available,
            memory_total_bytes=memory.total,
            cpus=psutil.cpu_count() or 1,
            load1=psutil.getloadavg()[0],
            swap_used_bytes=swap.used,
            swap_total_bytes=swap.total,
            file_systems=tuple(_file_systems()),
            disks=tuple(
                Disk(device, disk.read_bytes, disk.write_bytes)
                for device, disk in (psutil.disk_io_counters(perdisk=True) or {}).items()
                if not device.startswith(("loop", "ram"))
            ),
            networks=tuple(
                Network(device, net.bytes_recv, net.bytes_sent, net.errin + net.errout + net.dropin + net.dropout)
                for device, net in psutil.net_io_counters(pernic=True).items()
                if device != "lo"
            ),
            processes=tuple(self._processes()),
        )

    def _processes(self) -> Iterator[PartProcess]:
        """Loadline's processes; what a process is, is looked up when it is first seen."""
        seen = {process: self._parts.get(process, "") for process in psutil.process_iter()}
        for process, known in seen.items():
            if known == "":
                seen[process] = _part_of(process)
        self._parts = {process: part or None for process, part in seen.items()}
        for process, part in self._parts.items():
            if part is not None and (found := _process(part, process)) is not None:
                yield found


def part_of(argv: Sequence[str]) -> str | None:
    """Which part of Loadline a command line starts (``.../loadline collector serve``), or None."""
    for place, word in enumerate(argv[:3]):
        follows = argv[place + 1] if place + 1 < len(argv) else ""
        if PurePath(word).name in ("loadline", "loadline.py") and follows in PARTS:
            return follows
    return None


def _part_of(process: psutil.Process) -> str | None:
    try:
        return part_of(process.cmdline())
    except psutil.Error:
        return None


def _process(part: str, process: psutil.Process) -> PartProcess | None:
    """None where the process has ended meanwhile."""
    try:
        with process.oneshot():
            spent = process.cpu_times()
            resident = process.memory_info().rss
        return PartProcess(part, process.pid, spent.user + spent.system, resident, _open_files(process))
    except psutil.Error:
        return None


def _open_files(process: psutil.Process) -> int | None:
    try:
        return int(process.num_fds())
    except psutil.AccessDenied:
        return None


def _file_systems() -> Iterator[FileSystem]:
    """Each device once, under the first place where it is mounted."""
    told = set[str]()
    for mounted in psutil.disk_partitions(all=False):
        if mounted.fstype in FEIGNED or mounted.device in told:
            continue
        try:
            usage = psutil.disk_usage(mounted.mountpoint)
        except OSError:  # an empty drive, or a place that we may not look at
            continue
        told.add(mounted.device)
        yield FileSystem(mounted.mountpoint, mounted.fstype, usage.free, usage.total)
