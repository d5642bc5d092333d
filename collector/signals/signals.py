"""The engine-neutral vocabulary: every quantity that panels, rules and plans may ask for, with its canonical unit.

It does not know what any engine calls them: dialects do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["histogram", "counter", "gauge", "info"]
KINDS: tuple[Kind, ...] = ("histogram", "counter", "gauge", "info")


@dataclass(frozen=True, slots=True)
class Signal:
    """One quantity. ``unit`` is canonical (s, tokens, requests, ratio, bytes, ...); ``what`` says what is measured."""

    name: str
    kind: Kind
    unit: str
    what: str


_DECLARED: tuple[tuple[str, Kind, str, str], ...] = (
    # latency of requests
    ("ttft", "histogram", "s", "time from a request's arrival to its first token"),
    ("itl", "histogram", "s", "time between two tokens of one request that follow each other"),
    ("tpot", "histogram", "s", "mean time per output token of a request after its first token"),
    ("e2e_latency", "histogram", "s", "time from a request's arrival to its last token"),
    ("queue_time", "histogram", "s", "time that a request waits before it is first scheduled"),
    ("prefill_time", "histogram", "s", "time from a request's first scheduling to its first token"),
    ("decode_time", "histogram", "s", "time from a request's first token to its last"),
    # what requests bring and take
    ("prompt_tokens", "counter", "tokens", "prompt tokens taken in"),
    ("cached_prompt_tokens", "counter", "tokens", "prompt tokens that were found in the prefix cache"),
    ("generated_tokens", "counter", "tokens", "tokens generated"),
    ("prompt_length", "histogram", "tokens", "prompt tokens per request"),
    ("output_length", "histogram", "tokens", "generated tokens per request"),
    # how requests end
    ("requests", "counter", "requests", "requests that ended, however they ended"),
    ("finished_by_reason", "counter", "requests", "requests that ended, by finished_reason"),
    ("errors", "counter", "requests", "requests that failed"),
    ("rejections", "counter", "requests", "requests turned away before they were queued"),
    # whose they are, by the label tenant
    ("tenant_requests", "counter", "requests", "requests that ended, by tenant"),
    ("tenant_prompt_tokens", "counter", "tokens", "prompt tokens of requests that ended, by tenant"),
    ("tenant_generated_tokens", "counter", "tokens", "tokens generated for requests that ended, by tenant"),
    # occupancy
    ("running_requests", "gauge", "requests", "requests that are being computed"),
    ("waiting_requests", "gauge", "requests", "requests that wait to be scheduled"),
    ("kv_usage", "gauge", "ratio", "share of the KV cache that is in use"),
    ("kv_capacity", "gauge", "tokens", "tokens that the KV cache holds"),
    ("kv_block_size", "gauge", "tokens", "tokens that one block of the KV cache holds"),
    ("prefix_queries", "counter", "tokens", "prompt tokens looked up in the prefix cache"),
    ("prefix_hits", "counter", "tokens", "prompt tokens found in the prefix cache"),
    ("preemptions", "counter", "events", "running requests put back into the queue for want of KV cache"),
    # engine steps
    ("iteration_tokens", "histogram", "tokens", "tokens computed per engine step"),
    ("step_time", "histogram", "s", "time that one engine step takes"),
    ("step_prefill_tokens", "counter", "tokens", "tokens computed by prefill, summed over steps"),
    ("step_prefill_attention", "counter", "pairs", "query-key pairs computed by prefill, summed over steps"),
    ("step_decode_sequences", "counter", "sequences", "sequences decoded, summed over steps"),
    ("step_decode_kv_tokens", "counter", "tokens", "KV tokens read by decodes, summed over steps"),
    ("kv_block_lifetime", "histogram", "s", "time from a KV block's allocation to its eviction"),
    ("estimated_flops", "counter", "flop", "floating point operations per GPU, as the engine estimates them"),
    ("engine_info", "info", "labels", "the engine's configuration, in labels"),
    # GPUs and other accelerators, hosts, processes
    ("gpu_utilization", "gauge", "ratio", "share of time in which a kernel ran on the GPU"),
    ("gpu_memory_used", "gauge", "bytes", "GPU memory in use"),
    ("gpu_memory_total", "gauge", "bytes", "GPU memory that there is"),
    ("gpu_temperature", "gauge", "celsius", "temperature of the GPU's core"),
    ("gpu_memory_temperature", "gauge", "celsius", "temperature of the GPU's memory"),
    ("gpu_temperature_margin", "gauge", "celsius", "how much hotter the GPU may get before it slows down"),
    ("gpu_power", "gauge", "watts", "power drawn by the GPU"),
    ("gpu_power_limit", "gauge", "watts", "power that the GPU may draw"),
    ("gpu_energy", "counter", "joules", "energy that the GPU has used"),
    ("gpu_sm_clock", "gauge", "hertz", "clock of the GPU's processors"),
    ("gpu_memory_clock", "gauge", "hertz", "clock of the GPU's memory"),
    ("gpu_throttled", "gauge", "bool", "1 for each reason for which the GPU now runs slower than it could"),
    ("gpu_memory_activity", "gauge", "ratio", "share of time in which GPU memory was read or written"),
    ("gpu_sm_activity", "gauge", "ratio", "share of the GPU's processors that had work, on average"),
    ("gpu_tensor_activity", "gauge", "ratio", "share of time in which the tensor cores worked"),
    ("gpu_ecc_corrected", "counter", "errors", "memory errors that the GPU corrected"),
    ("gpu_ecc_uncorrected", "counter", "errors", "memory errors that the GPU could not correct"),
    ("gpu_pcie_sent", "gauge", "bytes/s", "bytes per second that the GPU sends over PCIe"),
    ("gpu_pcie_received", "gauge", "bytes/s", "bytes per second that the GPU receives over PCIe"),
    ("gpu_pcie_replays", "counter", "events", "PCIe packets that were sent again"),
    ("gpu_nvlink_sent", "counter", "bytes", "bytes that the GPU sent over NVLink"),
    ("gpu_nvlink_received", "counter", "bytes", "bytes that the GPU received over NVLink"),
    ("gpu_nvlink_errors", "counter", "errors", "errors on the GPU's NVLink links"),
    ("gpu_xid_errors", "counter", "events", "Xid errors that the driver reported, by xid"),
    ("gpu_last_xid", "gauge", "code", "the last Xid that the driver reported; it stays until another comes"),
    ("gpu_process_memory", "gauge", "bytes", "GPU memory in use, by process"),
    ("gpu_devices", "gauge", "devices", "GPUs that the host shows; 0 where there is none"),
    ("gpu_info", "info", "labels", "the GPU's identity, in labels"),
    ("host_cpu_usage", "gauge", "ratio", "share of the host's CPU time in use"),
    ("host_memory_used", "gauge", "bytes", "host memory in use"),
    ("host_memory_total", "gauge", "bytes", "host memory that there is"),
    ("host_swap_used", "gauge", "bytes", "swap in use on the host"),
    ("host_load", "gauge", "processes", "processes that run or want to, averaged over one minute"),
    ("host_disk_free", "gauge", "bytes", "bytes that are free, by file system"),
    ("host_disk_total", "gauge", "bytes", "bytes that there are, by file system"),
    ("host_disk_read", "counter", "bytes", "bytes read from the host's disks"),
    ("host_disk_written", "counter", "bytes", "bytes written to the host's disks"),
    ("host_network_received", "counter", "bytes", "bytes that the host received"),
    ("host_network_sent", "counter", "bytes", "bytes that the host sent"),
    ("process_cpu", "counter", "s", "processor time that a process has used"),
    ("process_memory", "gauge", "bytes", "memory of a process that is resident"),
    ("process_open_files", "gauge", "files", "files and sockets that a process holds open"),
    # containers
    ("container_cpu", "counter", "s", "processor time that a container has used"),
    ("container_memory", "gauge", "bytes", "memory that a container cannot give back"),
    (
        "container_throttled",
        "counter",
        "periods",
        "periods in which a container was denied processor time",
    ),
    ("container_ooms", "counter", "events", "times that a container ran out of memory"),
    # stores beside the engines: caches and vector databases
    ("cache_hits", "counter", "lookups", "lookups that the cache answered"),
    ("cache_misses", "counter", "lookups", "lookups that the cache could not answer"),
    ("cache_evictions", "counter", "keys", "keys that the cache dropped for want of memory"),
    ("cache_memory_used", "gauge", "bytes", "memory that the cache uses"),
    ("vector_search_time", "histogram", "s", "time that a vector search takes"),
    ("vector_requests", "counter", "requests", "requests to the vector database"),
    ("vector_errors", "counter", "requests", "requests that the vector database failed"),
    # what the planner foretells, by failures: replicas taken to be gone
    ("load_line_headroom", "gauge", "ratio", "share of the load line that the load leaves; negative beyond it"),
    ("load_line", "gauge", "requests/s", "highest rate at which the promise is kept"),
    ("load_line_crossing", "gauge", "s", "Unix time at which the load is expected to reach the load line"),
    ("load_line_model_error", "gauge", "ratio", "mean error of the step times that the load line stands on"),
    # scraping
    ("target_up", "gauge", "bool", "1 where the last scrape of the target succeeded, else 0"),
    ("scrape_duration", "gauge", "s", "time that the last scrape of the target took"),
    ("scrape_samples", "gauge", "samples", "samples that the last scrape of the target gave"),
)

SIGNALS: Mapping[str, Signal] = MappingProxyType({row[0]: Signal(*row) for row in _DECLARED})
