"""The collector's own host and GPU figures in a real store."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from collector.gpu.reader import (
    FakeGpu,
    GpuError,
    GpuProcess,
    GpuReader,
    GpuReading,
    MigInstance,
    NvLink,
    RemappedRows,
)
from collector.host.catalog import METRICS
from collector.host.readings import Disk, FileSystem, HostReading, Network, PartProcess, Psutil, part_of
from collector.host.telemetry import Telemetry, node_exporter_covers
from collector.model.labels import from_mapping, get
from collector.model.matchers import Matcher
from collector.model.series import is_stale
from collector.store import Store


class Machine:
    """A host that is always the same."""

    def read(self) -> HostReading:
        return HostReading(
            cpu_usage_ratio=0.25,
            memory_used_bytes=3,
            memory_total_bytes=8,
            cpus=4,
            load1=1.5,
            swap_used_bytes=1,
            swap_total_bytes=2,
            file_systems=(FileSystem("/", "ext4", 10, 20),),
            disks=(Disk("vda", 30, 40),),
            networks=(Network("eth0", 50, 60, 7),),
            processes=(PartProcess("engine", 17, 1.25, 70, 9),),
        )


FULL = GpuReading(
    index=0,
    uuid="GPU-1",
    name="NVIDIA H100",
    utilization_ratio=0.5,
    memory_used_bytes=10,
    memory_total_bytes=80,
    temperature_celsius=61.0,
    power_watts=350.5,
    driver_version="570.1",
    memory_activity_ratio=0.25,
    memory_temperature_celsius=70.0,
    temperature_margin_celsius=26.0,
    power_limit_watts=700.0,
    energy_joules=9e6,
    clocks_hertz={"sm": 1.7e9},
    throttled={"sw_power_cap": True},
    ecc_errors={("corrected", "volatile"): 1},
    remapped_rows=RemappedRows(1, 0, False, False),
    pcie_sent_bytes_per_s=1e6,
    pcie_received_bytes_per_s=2e6,
    pcie_replays=7,
    nvlinks=(NvLink(0, True, 5, 6, {"replay": 1}),),
    xid_errors={48: 2},
    mig_enabled=True,
    mig_instances=(MigInstance(0, "MIG-1", 1, 2),),
    processes=(GpuProcess(42, "python", 9),),
)


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
        "loadline_host_cpus": 4.0,
        "loadline_host_load1": 1.5,
        "loadline_host_memory_used_bytes": 3.0,
        "loadline_host_memory_total_bytes": 8.0,
        "loadline_host_swap_used_bytes": 1.0,
        "loadline_host_swap_total_bytes": 2.0,
        "loadline_host_disk_free_bytes": 10.0,
        "loadline_host_disk_total_bytes": 20.0,
        "loadline_host_disk_read_bytes_total": 30.0,
        "loadline_host_disk_written_bytes_total": 40.0,
        "loadline_host_network_received_bytes_total": 50.0,
        "loadline_host_network_sent_bytes_total": 60.0,
        "loadline_host_network_errors_total": 7.0,
        "loadline_host_process_cpu_seconds_total": 1.25,
        "loadline_host_process_resident_memory_bytes": 70.0,
        "loadline_host_process_open_files": 9.0,
        "loadline_gpu_devices": 0.0,
    }
    said = [item.getMessage() for item in caplog.records]
    assert said == ["no GPU found: NVML Shared Library Not Found; GPU figures are left out"]


def test_host_figures_are_left_to_a_node_exporter_of_this_machine(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = Telemetry(store, Machine(), absent, "h", node_exporter_covers(store, "h"))
    counted = []
    with caplog.at_level(logging.INFO):
        for time_ms, node in ((1000, "other"), (2000, "h"), (3000, "h"), (4000, "")):
            if node:
                layout = [from_mapping({"__name__": "node_uname_info", "nodename": node})]
                store.append_scrape(node, layout, time_ms - 1, np.ones(1))
            else:
                store.mark_stale("h", time_ms - 1)
            asyncio.run(telemetry.record(time_ms))
            counted.append({"loadline_host_cpus", "loadline_host_process_open_files"} & set(last(store)))
    both = {"loadline_host_cpus", "loadline_host_process_open_files"}
    assert counted == [both, {"loadline_host_process_open_files"}, {"loadline_host_process_open_files"}, both]
    assert [item.getMessage() for item in caplog.records if "host" in item.getMessage()] == [
        "host figures are left to the node_exporter of this machine",
        "host figures are written again, node_exporter is gone",
    ]


def test_every_metric_that_is_declared_is_stored_and_no_other(store: Store) -> None:
    record(store, lambda: FakeGpu([FULL]), 1000)
    assert set(last(store)) == {metric.name for metric in METRICS}


def test_every_series_carries_the_labels_that_are_declared(store: Store) -> None:
    record(store, lambda: FakeGpu([FULL]), 1000)
    declared = {metric.name: metric.labels for metric in METRICS}
    for labels in store.series([Matcher("job", "=", "loadline-host")], 0, 2000):
        own = {name for name, _ in labels} - {"__name__", "job", "instance"}
        assert own == set(declared[get(labels, "__name__")])


def test_types_and_help_are_stored(store: Store) -> None:
    record(store, absent, 1000)
    told = store.metadata()
    assert told["loadline_gpu_energy_joules_total"].type == "counter"
    assert told["loadline_gpu_power_watts"].type == "gauge"


def test_a_gpu_is_identified(store: Store) -> None:
    record(store, lambda: FakeGpu([FULL]), 1000)
    assert last(store)["loadline_gpu_utilization_ratio"] == 0.5
    (labels,) = store.series([Matcher("__name__", "=", "loadline_gpu_info")], 0, 2000)
    assert dict(labels) == {
        "__name__": "loadline_gpu_info",
        "job": "loadline-host",
        "instance": "h:9190",
        "gpu": "0",
        "uuid": "GPU-1",
        "gpu_name": "NVIDIA H100",
        "driver_version": "570.1",
    }


def test_a_lost_gpu_is_down_keeps_its_xids_and_is_told_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    lost = GpuReading(1, "GPU-2", "T", lost="GPU is lost", xid_errors={79: 1})
    with caplog.at_level(logging.WARNING):
        record(store, lambda: FakeGpu([FULL, lost]), 1000, 2000)
    assert [item.getMessage() for item in caplog.records] == ["GPU 1 cannot be read: GPU is lost"]
    matchers = [Matcher("uuid", "=", "GPU-2")]
    names = {get(labels, "__name__") for labels in store.series(matchers, 0, 3000)}
    assert names == {"loadline_gpu_up", "loadline_gpu_info", "loadline_gpu_xid_errors_total"}


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


def test_this_machine_has_memory_disks_and_processors_that_are_busy_by_a_share() -> None:
    reading = Psutil().read()
    assert 0 < reading.memory_used_bytes < reading.memory_total_bytes
    assert 0.0 <= reading.cpu_usage_ratio <= 1.0
    assert reading.cpus >= 1
    assert all(0 <= system.free_bytes <= system.total_bytes for system in reading.file_systems)


def test_a_process_of_loadline_is_found_with_what_it_uses(tmp_path: Path) -> None:
    script = tmp_path / "loadline"
    script.write_text("print('up', flush=True)\ninput()")
    command = [sys.executable, str(script), "collector", "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        machine = Psutil()
        machine.read()
        found = {one.pid: one for one in machine.read().processes}
        process.communicate(b"\n")
    one = found[process.pid]
    assert one.part == "collector"
    assert one.resident_bytes > 0
    assert one.cpu_s >= 0
    assert (one.open_files or 0) >= 3
    assert process.pid not in {each.pid for each in machine.read().processes}


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["/v/bin/python", "/v/bin/loadline", "engine", "serve"], "engine"),
        (["/v/bin/python", "-m", "loadline", "alerts", "serve"], "alerts"),
        (["loadline", "up"], "up"),
        (["/v/bin/python", "/v/bin/loadline"], None),
        (["vim", "loadline", "notes"], None),
        ([], None),
    ],
)
def test_a_part_is_known_by_its_command_line(argv: list[str], part: str | None) -> None:
    assert part_of(argv) == part
