"""Every metric that the collector writes about its own machine, declared once: name, type, labels, help."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family; its unit is in its name."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


_GPU = ("gpu", "uuid")
_PROCESS = ("part", "pid")

HOST_METRICS: tuple[Metric, ...] = (
    Metric("loadline_host_cpu_usage_ratio", "gauge", "Busy share of all processors."),
    Metric("loadline_host_cpus", "gauge", "Processors that there are."),
    Metric("loadline_host_load1", "gauge", "Processes that run or want to, averaged over one minute."),
    Metric("loadline_host_memory_used_bytes", "gauge", "Memory that is not available to others."),
    Metric("loadline_host_memory_total_bytes", "gauge", "Memory that there is."),
    Metric("loadline_host_swap_used_bytes", "gauge", "Swap in use."),
    Metric("loadline_host_swap_total_bytes", "gauge", "Swap that there is."),
    Metric("loadline_host_disk_free_bytes", "gauge", "Space free to those who are not root.", ("mountpoint", "fstype")),
    Metric("loadline_host_disk_total_bytes", "gauge", "Space that there is.", ("mountpoint", "fstype")),
    Metric("loadline_host_disk_read_bytes_total", "counter", "Bytes read since the start.", ("device",)),
    Metric("loadline_host_disk_written_bytes_total", "counter", "Bytes written since the start.", ("device",)),
    Metric("loadline_host_network_received_bytes_total", "counter", "Bytes received since the start.", ("device",)),
    Metric("loadline_host_network_sent_bytes_total", "counter", "Bytes sent since the start.", ("device",)),
    Metric("loadline_host_network_errors_total", "counter", "Packets lost or damaged, both ways.", ("device",)),
    Metric("loadline_host_process_cpu_seconds_total", "counter", "Processor time of a part of Loadline.", _PROCESS),
    Metric("loadline_host_process_resident_memory_bytes", "gauge", "Memory of a part of Loadline.", _PROCESS),
    Metric("loadline_host_process_open_files", "gauge", "Files and sockets that a part holds open.", _PROCESS),
)
"""What psutil tells."""

GPU_METRICS: tuple[Metric, ...] = (
    Metric("loadline_gpu_devices", "gauge", "GPUs that the driver shows; 0 where there is none."),
    Metric("loadline_gpu_up", "gauge", "1 where the GPU can be read, 0 where it is lost.", _GPU),
    Metric("loadline_gpu_info", "gauge", "1 for each GPU.", (*_GPU, "gpu_name", "driver_version")),
    Metric("loadline_gpu_utilization_ratio", "gauge", "Share of time in which a kernel ran.", _GPU),
    Metric("loadline_gpu_memory_activity_ratio", "gauge", "Share of time in which memory was read or written.", _GPU),
    Metric("loadline_gpu_memory_used_bytes", "gauge", "Memory in use, without what the driver reserves.", _GPU),
    Metric("loadline_gpu_memory_total_bytes", "gauge", "Memory that there is.", _GPU),
    Metric("loadline_gpu_temperature_celsius", "gauge", "Temperature of the core.", _GPU),
    Metric("loadline_gpu_memory_temperature_celsius", "gauge", "Temperature of the memory.", _GPU),
    Metric("loadline_gpu_temperature_margin_celsius", "gauge", "Degrees left until it slows down.", _GPU),
    Metric("loadline_gpu_power_watts", "gauge", "Power drawn.", _GPU),
    Metric("loadline_gpu_power_limit_watts", "gauge", "Power that may be drawn.", _GPU),
    Metric("loadline_gpu_energy_joules_total", "counter", "Energy used since the driver was loaded.", _GPU),
    Metric("loadline_gpu_clock_hertz", "gauge", "Present clock of sm, memory or graphics.", (*_GPU, "clock")),
    Metric("loadline_gpu_throttled", "gauge", "1 where clocks are held down for this reason.", (*_GPU, "reason")),
    Metric(
        "loadline_gpu_ecc_errors_total",
        "counter",
        "Memory errors, corrected or uncorrected; volatile since the driver was loaded, or aggregate over its life.",
        (*_GPU, "kind", "counting"),
    ),
    Metric("loadline_gpu_remapped_rows", "gauge", "Rows of memory replaced, by the kind of error.", (*_GPU, "kind")),
    Metric("loadline_gpu_row_remap_pending", "gauge", "1 where a row is to be replaced at the next reset.", _GPU),
    Metric("loadline_gpu_row_remap_failed", "gauge", "1 where a row could not be replaced.", _GPU),
    Metric("loadline_gpu_pcie_sent_bytes_per_second", "gauge", "Sent over PCIe, over 20 ms.", _GPU),
    Metric("loadline_gpu_pcie_received_bytes_per_second", "gauge", "Received over PCIe, over 20 ms.", _GPU),
    Metric("loadline_gpu_pcie_replays_total", "counter", "PCIe packets sent again.", _GPU),
    Metric("loadline_gpu_nvlink_up", "gauge", "1 where the link is active.", (*_GPU, "link")),
    Metric("loadline_gpu_nvlink_sent_bytes_total", "counter", "Bytes sent over the link.", (*_GPU, "link")),
    Metric("loadline_gpu_nvlink_received_bytes_total", "counter", "Bytes received over the link.", (*_GPU, "link")),
    Metric("loadline_gpu_nvlink_errors_total", "counter", "Errors of the link, by kind.", (*_GPU, "link", "kind")),
    Metric("loadline_gpu_xid_errors_total", "counter", "Xid errors since the collector began.", (*_GPU, "xid")),
    Metric("loadline_gpu_mig_enabled", "gauge", "1 where the GPU is split into instances (MIG).", _GPU),
    Metric("loadline_gpu_mig_memory_used_bytes", "gauge", "Memory in use, by instance.", (*_GPU, "mig", "mig_uuid")),
    Metric("loadline_gpu_mig_memory_total_bytes", "gauge", "Memory of the instance.", (*_GPU, "mig", "mig_uuid")),
    Metric("loadline_gpu_process_memory_bytes", "gauge", "GPU memory of a process.", (*_GPU, "pid", "process")),
)
"""What NVML tells; what a GPU or its driver does not know is left out, never 0."""

METRICS = (*HOST_METRICS, *GPU_METRICS)
