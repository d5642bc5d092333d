"""The collector's own host and GPU figures in a real store."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collector.gpu.reader import FakeGpu, GpuError, GpuReader, GpuReading
from collector.host.readings import HostReading, Psutil
from collector.host.telemetry import METADATA, Telemetry
from collector.model.labels import get
from collector.model.matchers import Matcher
from collector.model.series import is_stale
from collector.store import Store


class Machine:
    """A host that is always the same."""

    def read(self) -> HostReading:
        return HostReading(0.25, 3, 8)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as opened:
        yield opened


def absent() -> GpuReader:
    raise GpuError("NVML Shared Library Not Found")


def record(store: Store, open_gpus: Callable[[], GpuReader], *times_ms: int) -> None:
    telemetry = Telemetry(store, Machine(), open_gpus, "h:9190")
    for time_ms in times_ms:
        asyncio.run(telemetry.record(time_ms))


def last(store: Store) -> dict[str, float]:
    found = {}
    for group in store.select([Matcher("job", "=", "loadline-host")], 0, 1 << 50):
        for column, labels in enumerate(group.labels):
            if not is_stale(group.values[-1:, column])[0]:
                found[get(labels, "__name__")] = float(group.values[-1, column])
    return found


def test_host_figures_are_stored_where_no_gpu_is_found(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        record(store, absent, 1000, 2000)
    assert last(store) == {
        "loadline_host_cpu_usage_ratio": 0.25,
        "loadline_host_memory_used_bytes": 3.0,
        "loadline_host_memory_total_bytes": 8.0,
        "loadline_gpu_devices": 0.0,
    }
    said = [item.getMessage() for item in caplog.records]
    assert said == ["no GPU found: NVML Shared Library Not Found; GPU figures are left out"]


def test_every_figure_of_a_gpu_is_stored(store: Store) -> None:
    gpu = GpuReading(0, "GPU-1", "NVIDIA H100", 0.5, 10, 80, 61.0, 350.5)
    record(store, lambda: FakeGpu([gpu]), 1000)
    figures = last(store)
    assert set(figures) == set(METADATA)
    assert figures["loadline_gpu_utilization_ratio"] == 0.5
    assert figures["loadline_gpu_power_watts"] == 350.5
    (labels,) = store.series([Matcher("__name__", "=", "loadline_gpu_info")], 0, 2000)
    assert dict(labels) == {
        "__name__": "loadline_gpu_info",
        "job": "loadline-host",
        "instance": "h:9190",
        "gpu": "0",
        "uuid": "GPU-1",
        "gpu_name": "NVIDIA H100",
    }


def test_a_figure_that_a_gpu_does_not_know_is_left_out(store: Store) -> None:
    record(store, lambda: FakeGpu([GpuReading(0, "GPU-1", "T")]), 1000)
    assert "loadline_gpu_power_watts" not in last(store)
    assert last(store)["loadline_gpu_devices"] == 1.0


def test_a_gpu_that_fails_becomes_stale_and_is_told_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    gpu = FakeGpu([GpuReading(0, "GPU-1", "T", 0.5)])
    telemetry = Telemetry(store, Machine(), lambda: gpu, "h:9190")
    asyncio.run(telemetry.record(1000))
    gpu.error = "fell off the bus"
    with caplog.at_level(logging.WARNING):
        asyncio.run(telemetry.record(2000))
        asyncio.run(telemetry.record(3000))
    assert last(store)["loadline_gpu_devices"] == 0.0
    assert "loadline_gpu_utilization_ratio" not in last(store)
    assert [item.getMessage() for item in caplog.records] == ["GPUs cannot be read: fell off the bus"]
    telemetry.close()
    assert gpu.closed


def test_this_machine_has_memory_and_its_processors_are_busy_by_a_share() -> None:
    reading = Psutil().read()
    assert 0 < reading.memory_used_bytes < reading.memory_total_bytes
    assert 0.0 <= reading.cpu_usage_ratio <= 1.0
