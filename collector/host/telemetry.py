"""Write this machine's own figures, GPUs included, into the store beside what is scraped."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from collector.gpu.reader import GpuError, GpuReader, GpuReading
from collector.host.readings import HostReader, HostReading
from collector.model.errors import StoreError
from collector.model.labels import METRIC_NAME, Labels, from_mapping
from collector.scrape.scraper import ScrapeSink

JOB = "loadline-host"
GROUP_KEY = "telemetry"
METADATA = {
    "loadline_host_cpu_usage_ratio": "Busy share of all processors of the collector's machine.",
    "loadline_host_memory_used_bytes": "Memory in use on the collector's machine.",
    "loadline_host_memory_total_bytes": "Memory of the collector's machine.",
    "loadline_gpu_devices": "GPUs that the collector can read.",
    "loadline_gpu_info": "1 for each GPU, with its name.",
    "loadline_gpu_utilization_ratio": "Share of time in which a kernel ran on the GPU.",
    "loadline_gpu_memory_used_bytes": "Memory in use on the GPU.",
    "loadline_gpu_memory_total_bytes": "Memory of the GPU.",
    "loadline_gpu_temperature_celsius": "Temperature of the GPU.",
    "loadline_gpu_power_watts": "Power that the GPU draws.",
}
"""Help text of every metric; all are gauges in the unit of their name."""

_log = logging.getLogger(__name__)


class Telemetry:
    """Reads host and GPUs and stores the figures; ``open_gpus`` raises GpuError where there is no GPU library."""

    def __init__(self, store: ScrapeSink, host: HostReader, open_gpus: Callable[[], GpuReader], instance: str) -> None:
        self._store = store
        self._host = host
        self._instance = instance
        self._layout: tuple[Labels, ...] = ()
        self._trouble = ""
        self._gpus: GpuReader | None = None
        try:
            self._gpus = open_gpus()
        except GpuError as error:
            _log.warning("no GPU found: %s; GPU figures are left out", error)
        for name, text in METADATA.items():
            store.set_metadata(name, "gauge", text, "")

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
        figures = list(_figures(self._host.read(), gpus, self._instance))
        layout = tuple(labels for labels, _ in figures)
        if layout != self._layout:
            self._layout = layout
        try:
            values = np.array([value for _, value in figures], dtype=np.float64)
            self._store.append_scrape(GROUP_KEY, self._layout, timestamp_ms, values)
        except StoreError as error:
            trouble = f"host figures were not stored: {error}"
        if trouble and not self._trouble:
            _log.warning("%s", trouble)
        self._trouble = trouble


def _figures(host: HostReading, gpus: Sequence[GpuReading], instance: str) -> Iterator[tuple[Labels, float]]:
    def figure(name: str, value: float, **labels: str) -> tuple[Labels, float]:
        return from_mapping({METRIC_NAME: name, "job": JOB, "instance": instance, **labels}), float(value)

    yield figure("loadline_host_cpu_usage_ratio", host.cpu_usage_ratio)
    yield figure("loadline_host_memory_used_bytes", host.memory_used_bytes)
    yield figure("loadline_host_memory_total_bytes", host.memory_total_bytes)
    yield figure("loadline_gpu_devices", len(gpus))
    for gpu in gpus:
        identity = {"gpu": str(gpu.index), "uuid": gpu.uuid}
        yield figure("loadline_gpu_info", 1, **identity, gpu_name=gpu.name)
        for name, value in (
            ("loadline_gpu_utilization_ratio", gpu.utilization_ratio),
            ("loadline_gpu_memory_used_bytes", gpu.memory_used_bytes),
            ("loadline_gpu_memory_total_bytes", gpu.memory_total_bytes),
            ("loadline_gpu_temperature_celsius", gpu.temperature_celsius),
            ("loadline_gpu_power_watts", gpu.power_watts),
        ):
            if value is not None:
                yield figure(name, value, **identity)
