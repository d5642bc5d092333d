"""NVML's real Python binding against a fake ``libnvidia-ml.so.1`` that is compiled here; no GPU is needed.

The binding loads the library by name, so each machine is a process of its own with its own library path.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")
ROOT = Path(__file__).resolve().parents[2]
READ = """
import json, sys, time
from dataclasses import asdict
from collector.gpu.nvml import Nvml
from collector.gpu.reader import GpuError
try:
    nvml = Nvml()
except GpuError as error:
    print(json.dumps({"error": str(error)}))
    sys.exit()
deadline = time.monotonic() + 10
readings = nvml.read()
while time.monotonic() < deadline:
    if sum(count > 0 for one in readings for count in one.xid_errors.values()) >= int(sys.argv[1]):
        break
    readings = nvml.read()
nvml.close()
def plain(reading):
    found = asdict(reading)
    found["ecc_errors"] = {" ".join(key): count for key, count in found["ecc_errors"].items()}
    return found
print(json.dumps({"gpus": [plain(one) for one in readings]}))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the fake library."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, so the fake libnvidia-ml.so.1 cannot be built")
    folder = tmp_path_factory.mktemp("nvml")
    command = [compiler, "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(folder / "libnvidia-ml.so.1"), str(SOURCE)]
    subprocess.run(command, check=True)
    return folder


def machine(name: str, library: Path | None, xids: int = 1) -> Any:
    """What ``Nvml`` reads on one of the fake's machines, once it has seen so many GPUs' kinds of Xid errors."""
    paths = {} if library is None else {"LD_LIBRARY_PATH": str(library)}
    environment = {**os.environ, **paths, "FAKE_NVML": name, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", READ, str(xids)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def two(library: Path) -> Any:
    return machine("two", library, xids=2)["gpus"]


def test_everything_that_a_gpu_knows_is_read_in_base_units(two: Any) -> None:
    gpu = two[0]
    assert (gpu["index"], gpu["uuid"], gpu["name"], gpu["driver_version"]) == (0, "GPU-0000", "Fake H100", "570.1")
    assert (gpu["utilization_ratio"], gpu["memory_activity_ratio"]) == (0.75, 0.4)
    assert (gpu["memory_used_bytes"], gpu["memory_total_bytes"]) == (30000, 80000)
    assert (gpu["temperature_celsius"], gpu["memory_temperature_celsius"]) == (61, 70)
    assert gpu["temperature_margin_celsius"] == 26
    assert (gpu["power_watts"], gpu["power_limit_watts"]) == (351.5, 700)
    assert gpu["energy_joules"] == pytest.approx(9_000_000.123)
    assert gpu["clocks_hertz"] == {"sm": 1.755e9, "memory": 2.619e9, "graphics": 1.75e9}
    assert (gpu["pcie_sent_bytes_per_s"], gpu["pcie_received_bytes_per_s"]) == (1e6, 2e6)
    assert gpu["pcie_replays"] == 7
    assert gpu["lost"] is None


def test_each_reason_for_slow_clocks_is_told(two: Any) -> None:
    assert {reason for reason, is_so in two[0]["throttled"].items() if is_so} == {"sw_power_cap", "hw_thermal_slowdown"}
    assert len(two[0]["throttled"]) == 9


def test_memory_errors_are_told_by_kind_and_counting(two: Any) -> None:
    assert two[0]["ecc_errors"] == {
        "corrected volatile": 1,
        "corrected aggregate": 2,
        "uncorrected volatile": 11,
        "uncorrected aggregate": 12,
    }
    rows = {"corrected": 3, "uncorrected": 1, "is_pending": True, "has_failed": False}
    assert two[0]["remapped_rows"] == rows


def test_links_are_told_with_traffic_and_those_errors_that_are_counted(two: Any) -> None:
    up, down = two[0]["nvlinks"]
    assert (up["link"], up["is_up"], up["sent_bytes"], up["received_bytes"]) == (0, True, 5_000_000_000, 6_000_000_000)
    assert (down["link"], down["is_up"], down["sent_bytes"]) == (1, False, 5_000_000_001)
    assert up["errors"] == {"replay": 0, "crc_flit": 2, "crc_data": 3}
    assert down["errors"] == {"replay": 100, "crc_flit": 102, "crc_data": 103}


def test_processes_are_told_with_their_memory_where_it_is_known(two: Any) -> None:
    own, foreign = two[0]["processes"]
    assert own["memory_bytes"] == 20000
    assert own["name"]
    assert (foreign["pid"], foreign["name"], foreign["memory_bytes"]) == (4194305, "", None)


def test_xid_errors_are_counted_for_the_gpu_that_had_them(two: Any) -> None:
    assert happened(two[0]) == {"48": 2}
    assert happened(two[1]) == {"79": 1}


def happened(gpu: Any) -> dict[str, int]:
    return {xid: count for xid, count in gpu["xid_errors"].items() if count}


def test_common_xid_errors_are_counted_from_zero_so_that_a_rate_sees_the_first(two: Any) -> None:
    assert two[0]["xid_errors"]["79"] == two[1]["xid_errors"]["48"] == 0


def test_a_gpu_whose_xid_errors_cannot_be_seen_has_no_counts(library: Path) -> None:
    assert machine("old", library)["gpus"][1]["xid_errors"] == {}


def test_what_a_gpu_does_not_support_is_unknown_and_never_zero(two: Any) -> None:
    gpu = two[1]
    known = {key for key, value in gpu.items() if value not in (None, {}, [])}
    assert known == {
        "index",
        "uuid",
        "name",
        "driver_version",
        "memory_used_bytes",
        "memory_total_bytes",
        "xid_errors",
    }
    assert gpu["memory_used_bytes"] == 5000


def test_an_older_driver_is_asked_in_the_older_way(library: Path) -> None:
    gpu = machine("old", library)["gpus"][0]
    assert gpu["memory_total_bytes"] == 16000
    assert gpu["temperature_margin_celsius"] == 90 - 61
    assert {reason for reason, is_so in gpu["throttled"].items() if is_so} == {"hw_slowdown"}
    assert [link["sent_bytes"] for link in gpu["nvlinks"]] == [4 * 1024, 5 * 1024]


def test_a_split_gpu_shows_its_instances(library: Path) -> None:
    gpu = machine("mig", library)["gpus"][0]
    assert gpu["mig_enabled"] is True
    assert [(one["index"], one["uuid"], one["memory_used_bytes"]) for one in gpu["mig_instances"]] == [
        (0, "MIG-aaaa", 900),
        (3, "MIG-bbbb", 900),
    ]


def test_a_gpu_that_is_whole_says_so(two: Any) -> None:
    assert (two[0]["mig_enabled"], two[0]["mig_instances"]) == (False, [])


@pytest.mark.parametrize(("name", "uuid"), [("lost", "GPU-1111"), ("gone", "")])
def test_a_lost_gpu_says_so_and_the_other_is_read_on(library: Path, name: str, uuid: str) -> None:
    first, second = machine(name, library)["gpus"]
    assert first["utilization_ratio"] == 0.75
    assert (second["uuid"], second["lost"], second["power_watts"]) == (uuid, "GPU is lost", None)


def test_a_driver_that_is_not_loaded_is_told(library: Path) -> None:
    assert machine("nodriver", library) == {"error": "Driver Not Loaded"}


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has NVIDIA's driver")
def test_a_machine_without_the_library_is_told() -> None:
    assert machine("two", None) == {"error": "NVML Shared Library Not Found"}
