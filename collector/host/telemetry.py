"""Write this machine's own figures, GPUs included, into the store beside what is scraped.

While a node_exporter of this machine is scraped, the figures that both have are left to it: nothing counts twice.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from collector.gpu.reader import GpuError, GpuReader, GpuReading
from collector.host.catalog import METRICS
from collector.host.readings import HostReader, HostReading
from collector.model.errors import StoreError
from collector.model.labels import METRIC_NAME, Labels, from_mapping
from collector.model.matchers import Matcher
from collector.model.series import Querier, is_stale
from collector.scrape.scraper import ScrapeSink

JOB = "loadline-host"
GROUP_KEY = "telemetry"
RECENT_MS = 300_000

Figure = tuple[str, float | None, dict[str, str]]
"""Name, value, labels; a value of None is left out."""

_log = logging.getLogger(__name__)


class Telemetry:
    """Reads host and GPUs and stores the figures; ``open_gpus`` raises GpuError where there is no GPU library.

    ``is_covered`` tells at a time in ms whether the host is read by another, too.
    """

    def __init__(
        self,
        store: ScrapeSink,
        host: HostReader,
        open_gpus: Callable[[], GpuReader],
        instance: str,
        is_covered: Callable[[int], bool] = lambda timestamp_ms: False,
    ) -> None:
        self._store = store
        self._host = host
        self._instance = instance
        self._is_covered = is_covered
        self._covered = False
        self._layout: tuple[Labels, ...] = ()
        self._trouble = ""
        self._lost: frozenset[int] = frozenset()
        self._gpus: GpuReader | None = None
        try:
            self._gpus = open_gpus()
        except GpuError as error:
            _log.warning("no GPU found: %s; GPU figures are left out", error)
        for metric in METRICS:
            store.set_metadata(metric.name, metric.kind, metric.help, "")

    async def record(self, timestamp_ms: int) -> None:
        """Read everything now and store it as of ``timestamp_ms``; trouble is said once, when it begins or ends."""
        await asyncio.to_thread(self._record, timestamp_ms)

    def close(self) -> None:
        """Let go of the GPU library."""
        if self._gpus is not None:
            self._gpus.close()

    def _record(self, timestamp_ms: int) -> None:
        trouble = ""
        gpus: Sequence[GpuReading] = ()
        try:
            gpus = self._gpus.read() if self._gpus is not None else ()
        except GpuError as error:
            trouble = f"GPUs cannot be read: {error}"
        self._tell_lost(gpus)
        host = self._host.read()
        figures = [*process_figures(host), *gpu_figures(gpus)]
        try:
            if not self._leaves_host(timestamp_ms):
                figures += host_figures(host)
            known = [(name, value, labels) for name, value, labels in figures if value is not None]
            layout = tuple(self._labels(name, labels) for name, _, labels in known)
            if layout != self._layout:
                self._layout = layout
            values = np.array([value for _, value, _ in known], dtype=np.float64)
            self._store.append_scrape(GROUP_KEY, self._layout, timestamp_ms, values)
        except StoreError as error:
            trouble = f"host figures were not stored: {error}"
        if trouble and not self._trouble:
            _log.warning("%s", trouble)
        self._trouble = trouble

    def _leaves_host(self, timestamp_ms: int) -> bool:
        covered = self._is_covered(timestamp_ms)
        if covered != self._covered:
            said = "left to the node_exporter of this machine" if covered else "written again, node_exporter is gone"
            _log.info("host figures are %s", said)
        self._covered = covered
        return covered

    def _labels(self, name: str, labels: dict[str, str]) -> Labels:
        return from_mapping({METRIC_NAME: name, "job": JOB, "instance": self._instance, **labels})

    def _tell_lost(self, gpus: Sequence[GpuReading]) -> None:
        lost = {gpu.index: gpu.lost for gpu in gpus if gpu.lost is not None}
        for index, reason in lost.items():
            if index not in self._lost:
                _log.warning("GPU %d cannot be read: %s", index, reason)
        self._lost = frozenset(lost)


def node_exporter_covers(store: Querier, node: str) -> Callable[[int], bool]:
    """Whether a node_exporter that calls its machine ``node`` is scraped at a time in ms."""
    matchers = (Matcher(METRIC_NAME, "=", "node_uname_info"), Matcher("nodename", "=", node))

    def covers(timestamp_ms: int) -> bool:
        groups = store.select(matchers, timestamp_ms - RECENT_MS, timestamp_ms)
        return any(not is_stale(group.values[-1:]).all() for group in groups)

    return covers


def host_figures(host: HostReading) -> Iterator[Figure]:
    """The host's series."""
    yield "loadline_host_cpu_usage_ratio", host.cpu_usage_ratio, {}
    yield "loadline_host_cpus", host.cpus, {}
    yield "loadline_host_load1", host.load1, {}
    yield "loadline_host_memory_used_bytes", host.memory_used_bytes, {}
    yield "loadline_host_memory_total_bytes", host.memory_total_bytes, {}
    yield "loadline_host_swap_used_bytes", host.swap_used_bytes, {}
    yield "loadline_host_swap_total_bytes", host.swap_total_bytes, {}
    for system in host.file_systems:
        place = {"mountpoint": system.mountpoint, "fstype": system.fstype}
        yield "loadline_host_disk_free_bytes", system.free_bytes, place
        yield "loadline_host_disk_total_bytes", system.total_bytes, place
    for disk in host.disks:
        yield "loadline_host_disk_read_bytes_total", disk.read_bytes, {"device": disk.device}
        yield "loadline_host_disk_written_bytes_total", disk.written_bytes, {"device": disk.device}
    for network in host.networks:
        yield "loadline_host_network_received_bytes_total", network.received_bytes, {"device": network.device}
        yield "loadline_host_network_sent_bytes_total", network.sent_bytes, {"device": network.device}
        yield "loadline_host_network_errors_total", network.errors, {"device": network.device}


def process_figures(host: HostReading) -> Iterator[Figure]:
    """The series of Loadline's own processes."""
    for process in host.processes:
        who = {"part": process.part, "pid": str(process.pid)}
        yield "loadline_host_process_cpu_seconds_total", process.cpu_s, who
        yield "loadline_host_process_resident_memory_bytes", process.resident_bytes, who
        yield "loadline_host_process_open_files", process.open_files, who


def gpu_figures(gpus: Sequence[GpuReading]) -> Iterator[Figure]:
    """The series of all GPUs; of one that is lost, that it is and what its driver reported."""
    yield "loadline_gpu_devices", len(gpus), {}
    for gpu in gpus:
        own = {"gpu": str(gpu.index), "uuid": gpu.uuid}
        yield "loadline_gpu_up", 0.0 if gpu.lost is not None else 1.0, own
        yield "loadline_gpu_info", 1.0, own | {"gpu_name": gpu.name, "driver_version": gpu.driver_version}
        for xid, count in sorted(gpu.xid_errors.items()):
            yield "loadline_gpu_xid_errors_total", count, own | {"xid": str(xid)}
        if gpu.lost is None:
            yield from _plain(gpu, own)
            yield from _by_kind(gpu, own)
            yield from _links(gpu, own)
            yield from _tenants(gpu, own)


def _plain(gpu: GpuReading, own: dict[str, str]) -> Iterator[Figure]:
    for name, value in (
        ("utilization_ratio", gpu.utilization_ratio),
        ("memory_activity_ratio", gpu.memory_activity_ratio),
        ("memory_used_bytes", gpu.memory_used_bytes),
        ("memory_total_bytes", gpu.memory_total_bytes),
        ("temperature_celsius", gpu.temperature_celsius),
        ("memory_temperature_celsius", gpu.memory_temperature_celsius),
        ("temperature_margin_celsius", gpu.temperature_margin_celsius),
        ("power_watts", gpu.power_watts),
        ("power_limit_watts", gpu.power_limit_watts),
        ("energy_joules_total", gpu.energy_joules),
        ("pcie_sent_bytes_per_second", gpu.pcie_sent_bytes_per_s),
        ("pcie_received_bytes_per_second", gpu.pcie_received_bytes_per_s),
        ("pcie_replays_total", gpu.pcie_replays),
        ("mig_enabled", gpu.mig_enabled),
    ):
        yield f"loadline_gpu_{name}", value, own


def _by_kind(gpu: GpuReading, own: dict[str, str]) -> Iterator[Figure]:
    for clock, hertz in gpu.clocks_hertz.items():
        yield "loadline_gpu_clock_hertz", hertz, own | {"clock": clock}
    for reason, is_so in (gpu.throttled or {}).items():
        yield "loadline_gpu_throttled", is_so, own | {"reason": reason}
    for (kind, counting), count in gpu.ecc_errors.items():
        yield "loadline_gpu_ecc_errors_total", count, own | {"kind": kind, "counting": counting}
    if (rows := gpu.remapped_rows) is not None:
        yield "loadline_gpu_remapped_rows", rows.corrected, own | {"kind": "corrected"}
        yield "loadline_gpu_remapped_rows", rows.uncorrected, own | {"kind": "uncorrected"}
        yield "loadline_gpu_row_remap_pending", rows.is_pending, own
        yield "loadline_gpu_row_remap_failed", rows.has_failed, own


def _links(gpu: GpuReading, own: dict[str, str]) -> Iterator[Figure]:
    for link in gpu.nvlinks:
        labels = own | {"link": str(link.link)}
        yield "loadline_gpu_nvlink_up", link.is_up, labels
        yield "loadline_gpu_nvlink_sent_bytes_total", link.sent_bytes, labels
        yield "loadline_gpu_nvlink_received_bytes_total", link.received_bytes, labels
        for kind, count in link.errors.items():
            yield "loadline_gpu_nvlink_errors_total", count, labels | {"kind": kind}


def _tenants(gpu: GpuReading, own: dict[str, str]) -> Iterator[Figure]:
    """Who uses the GPU: instances and processes."""
    for instance in gpu.mig_instances:
        labels = own | {"mig": str(instance.index), "mig_uuid": instance.uuid}
        yield "loadline_gpu_mig_memory_used_bytes", instance.memory_used_bytes, labels
        yield "loadline_gpu_mig_memory_total_bytes", instance.memory_total_bytes, labels
    for process in gpu.processes:
        labels = own | {"pid": str(process.pid), "process": process.name}
        yield "loadline_gpu_process_memory_bytes", process.memory_bytes, labels
