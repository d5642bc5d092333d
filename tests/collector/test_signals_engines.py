"""Each engine's own names, loaded into a store: what the signals' PromQL answers about them, number by number.

A page's lines are ``series start+growth``, growth per scrape; scrapes are 15 s apart, so +15 is one per second.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from collector.model.exposition import ScrapeParser
from collector.model.labels import METRIC_NAME, Labels, from_mapping, get
from collector.promql import Engine
from collector.signals import Present, SignalAbsent, Vocabulary, detect, load_dialects
from collector.store import Store

STEP_MS, STEPS = 15_000, 20
NOW_MS = STEP_MS * STEPS

Question = Callable[[Vocabulary], str]
Answers = Mapping[str, float]


class Source:
    """A store that holds scraped pages, and what it speaks."""

    def __init__(self, folder: Path, *pages: str) -> None:
        self.store = Store.open(folder)
        self.names: set[str] = set()
        for number, page in enumerate(pages):
            self._load(f"target {number}", page)
        self.vocabulary = detect(self.names)

    def _load(self, group: str, page: str) -> None:
        lines = [line.rsplit(" ", 1) for line in page.strip().splitlines() if line.strip()]
        layout = [_labels(series, group) for series, _ in lines]
        start, growth = np.array([[float(part) for part in value.split("+")] for _, value in lines]).T
        for step in range(STEPS + 1):
            self.store.append_scrape(group, layout, step * STEP_MS, start + growth * step)
        self.names |= {get(labels, METRIC_NAME) for labels in layout}

    def ask(self, query: str, by: str = "pool") -> dict[str, float]:
        result = Engine().instant(self.store, query, NOW_MS)
        return {get(series.labels, by): float(series.values[-1]) for series in result.series}

    @property
    def engines(self) -> list[str]:
        return [dialect.engine for dialect in self.vocabulary.dialects]


def _labels(series: str, group: str) -> Labels:
    page = ScrapeParser().parse(f"{series.strip()} 0\n".encode(), "text/plain")
    assert not page.errors, series
    (labels,) = page.layout
    return from_mapping({"job": "j", "instance": group, **dict(labels)})


def histogram(name: str, labels: str, buckets: Mapping[str, float], total: float) -> str:
    """Lines of a histogram whose buckets and sum grow so much per scrape."""
    comma = "," if labels else ""
    lines = [f'{name}_bucket{{{labels}{comma}le="{le}"}} 0+{growth}' for le, growth in buckets.items()]
    lines += [f"{name}_sum{{{labels}}} 0+{total}", f"{name}_count{{{labels}}} 0+{buckets['+Inf']}"]
    return "\n".join(lines)


@dataclass(frozen=True)
class Case:
    """One engine's page, the dialects that it is taken for, and questions with their answers by pool."""

    page: str
    engines: tuple[str, ...]
    answers: tuple[tuple[Question, Answers], ...]
    refused: tuple[str, ...] = ()


SGL = 'model_name="m",engine_type="unified",tp_rank="0",pp_rank="0"'
LMD = 'model_name="m",engine="0"'
TRT = 'model_name="m",engine_type="trtllm"'
EPP = 'model_name="m",target_model_name="m",fairness_id="f",priority="0"'
TRI = 'model="m",version="1"'
GEN = 'gen_ai_request_model="m",gen_ai_operation_name="chat"'
GPU = 'gpu="0",UUID="GPU-1",modelName="H100"'
AMD = 'gpu_id="0",serial_number="S1",card_model="MI300X"'

CASES: dict[str, Case] = {
    "sglang": Case(
        "\n".join([
            f"sglang:num_running_reqs{{{SGL}}} 3+0",
            f'sglang:num_queue_reqs{{{SGL},priority=""}} 5+0',
            f'sglang:num_queue_reqs{{{SGL},priority="1"}} 2+0',
            f"sglang:token_usage{{{SGL}}} 0.4+0",
            f"sglang:max_total_num_tokens{{{SGL}}} 1000+0",
            'sglang:prompt_tokens_total{model_name="m",is_streaming="true"} 0+150',
            'sglang:prompt_tokens_total{model_name="m",is_streaming="false"} 0+150',
            f'sglang:realtime_tokens_total{{{SGL},mode="prefill_compute"}} 0+300',
            f'sglang:realtime_tokens_total{{{SGL},mode="prefill_cache"}} 0+100',
            f'sglang:realtime_tokens_total{{{SGL},mode="decode"}} 0+999',
            'sglang:cached_tokens_total{model_name="m",cache_source="device"} 0+90',
            'sglang:cached_tokens_total{model_name="m",cache_source="total"} 0+90',
            f"sglang:num_retracted_requests_total{{{SGL}}} 0+1.5",
            histogram("sglang:time_to_first_token_seconds", 'model_name="m",is_streaming="true"',
                      {"0.1": 0, "0.2": 10, "0.4": 30, "+Inf": 30}, 6),
            histogram("sglang:queue_time_s", SGL, {"0.1": 10, "0.2": 10, "+Inf": 10}, 0.5),
        ]),
        ("sglang",),
        (
            (lambda v: v.gauge("running_requests"), {"m": 3}),
            (lambda v: v.gauge("waiting_requests"), {"m": 5}),
            (lambda v: v.gauge("kv_usage", "max"), {"m": 0.4}),
            (lambda v: v.gauge("kv_capacity"), {"m": 1000}),
            (lambda v: v.rate("prompt_tokens"), {"m": 20}),
            (lambda v: v.rate("cached_prompt_tokens"), {"m": 100 / 15}),
            (lambda v: v.ratio("prefix_hits", "prefix_queries"), {"m": 0.25}),
            (lambda v: v.rate("preemptions"), {"m": 0.1}),
            (lambda v: v.mean("ttft"), {"m": 0.2}),
            (lambda v: v.quantile("ttft", 0.5), {"m": 0.25}),
            (lambda v: v.fraction_below("ttft", 0.2), {"m": 1 / 3}),
            (lambda v: v.mean("queue_time"), {"m": 0.05}),
        ),
        ("errors", "step_time", "finished_by_reason"),
    ),
    "tgi": Case(
        "\n".join([
            "tgi_queue_size 4+0",
            "tgi_batch_current_size 2+0",
            "tgi_batch_current_max_tokens 300+0",
            "tgi_batch_max_total_tokens 1200+0",
            "tgi_request_count 0+20",
            "tgi_request_success 0+12",
            'tgi_request_failure{err="overloaded"} 0+2',
            'tgi_request_failure{err="generation"} 0+1',
            'tgi_request_failure{err="validation"} 0+5',
            histogram("tgi_request_input_length", "", {"100": 10, "+Inf": 12}, 600),
            histogram("tgi_request_duration", "", {"0.5": 6, "1": 12, "+Inf": 12}, 6),
        ]),
        ("tgi",),
        (
            (lambda v: v.gauge("waiting_requests"), {"j": 4}),
            (lambda v: v.gauge("kv_usage"), {"j": 0.25}),
            (lambda v: v.rate("requests"), {"j": 20 / 15}),
            (lambda v: v.rate("errors"), {"j": 1 / 15}),
            (lambda v: v.rate("rejections"), {"j": 2 / 15}),
            (lambda v: v.rate("prompt_tokens"), {"j": 40}),
            (lambda v: v.mean("e2e_latency"), {"j": 0.5}),
            (lambda v: v.quantile("e2e_latency", 0.75), {"j": 0.75}),
        ),
        ("ttft", "itl", "preemptions", "finished_by_reason"),
    ),
    "triton core": Case(
        "\n".join([
            f"nv_inference_request_success{{{TRI}}} 0+10",
            f'nv_inference_request_failure{{{TRI},reason="OTHER"}} 0+5',
            f"nv_inference_count{{{TRI}}} 0+40",
            f"nv_inference_request_duration_us{{{TRI}}} 0+2500000",
            f"nv_inference_queue_duration_us{{{TRI}}} 0+100000",
            f"nv_inference_pending_request_count{{{TRI}}} 6+0",
            'nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5+0',
            'nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} 80+0',
            'nv_energy_consumption{gpu_uuid="GPU-1"} 0+4500',
        ]),
        ("triton", "triton_gpu"),
        (
            (lambda v: v.mean("e2e_latency"), {"m": 0.25}),
            (lambda v: v.mean("queue_time"), {"m": 0.01}),
            (lambda v: v.ratio("errors", "requests"), {"m": 1 / 3}),
            (lambda v: v.gauge("waiting_requests"), {"m": 6}),
            (lambda v: v.gauge("gpu_utilization", "avg", by=()), {"": 0.5}),
            (lambda v: v.rate("gpu_energy", by=()), {"": 300}),
        ),
        ("ttft", "kv_usage", "running_requests"),
    ),
    "triton with vllm": Case(
        "\n".join([
            f"nv_inference_request_success{{{TRI}}} 0+10",
            f"nv_inference_request_duration_us{{{TRI}}} 0+9000000",
            f"vllm:prompt_tokens_total{{{TRI}}} 0+150",
            f"vllm:num_requests_running{{{TRI}}} 2+0",
            f"vllm:gpu_cache_usage_perc{{{TRI}}} 0.5+0",
            histogram("vllm:time_per_output_token_seconds", TRI, {"0.01": 5, "0.025": 10, "+Inf": 10}, 0.1),
            histogram("vllm:e2e_request_latency_seconds", TRI, {"1.0": 10, "+Inf": 10}, 5),
        ]),
        ("triton", "triton_vllm", "vllm"),
        (
            (lambda v: v.rate("prompt_tokens"), {"m": 10}),
            (lambda v: v.gauge("running_requests"), {"m": 2}),
            (lambda v: v.gauge("kv_usage", "max"), {"m": 0.5}),
            (lambda v: v.mean("itl"), {"m": 0.01}),
            (lambda v: v.rate("e2e_latency"), {"m": 10 / 15}),
            (lambda v: v.mean("e2e_latency"), {"m": 0.5}),
            (lambda v: v.replicas(), {"m": 1}),
        ),
    ),
    "triton with tensorrt-llm": Case(
        "\n".join([
            f'nv_trt_llm_request_metrics{{{TRI},request_type="scheduled"}} 3+0',
            f'nv_trt_llm_request_metrics{{{TRI},request_type="waiting"}} 4+0',
            f'nv_trt_llm_request_metrics{{{TRI},request_type="max"}} 64+0',
            f'nv_trt_llm_kv_cache_block_metrics{{{TRI},kv_cache_block_type="fraction"}} 0.3+0',
            f'nv_trt_llm_kv_cache_block_metrics{{{TRI},kv_cache_block_type="max"}} 100+0',
            f'nv_trt_llm_kv_cache_block_metrics{{{TRI},kv_cache_block_type="tokens_per"}} 32+0',
            histogram("nv_llm_output_token_len", TRI, {"10": 0, "50": 10, "+Inf": 10}, 300),
        ]),
        ("triton_trtllm",),
        (
            (lambda v: v.gauge("running_requests"), {"m": 3}),
            (lambda v: v.gauge("waiting_requests"), {"m": 4}),
            (lambda v: v.gauge("kv_usage"), {"m": 0.3}),
            (lambda v: v.gauge("kv_capacity"), {"m": 3200}),
            (lambda v: v.rate("generated_tokens"), {"m": 20}),
        ),
        ("ttft", "preemptions"),
    ),
    "trtllm-serve": Case(
        "\n".join([
            f"trtllm_num_requests_running{{{TRT}}} 3+0",
            f"trtllm_kv_cache_utilization{{{TRT}}} 0.6+0",
            f"trtllm_kv_cache_max_blocks{{{TRT}}} 100+0",
            f"trtllm_kv_cache_tokens_per_block{{{TRT}}} 32+0",
            f"trtllm_kv_cache_reused_blocks_total{{{TRT}}} 0+15",
            f"trtllm_kv_cache_missed_blocks_total{{{TRT}}} 0+45",
            f"trtllm_num_requests_completed_total{{{TRT}}} 0+30",
            f'trtllm_request_error_total{{{TRT},http_code="500"}} 0+3',
            histogram("trtllm_time_to_first_token_seconds", TRT, {"0.1": 5, "0.25": 10, "+Inf": 10}, 1),
        ]),
        ("trtllm",),
        (
            (lambda v: v.gauge("kv_capacity"), {"m": 3200}),
            (lambda v: v.rate("prefix_queries"), {"m": 4 * 32}),
            (lambda v: v.ratio("prefix_hits", "prefix_queries"), {"m": 0.25}),
            (lambda v: v.ratio("errors", "requests"), {"m": 0.1}),
            (lambda v: v.fraction_below("ttft", 0.1), {"m": 0.5}),
        ),
        ("itl", "preemptions"),
    ),
    "ray serve with vllm": Case(
        "\n".join([
            'ray_serve_num_http_requests_total{application="app",route="/",status_code="200"} 0+99',
            'ray_serve_num_http_requests{application="app",route="/",status_code="200"} 0+99',
            'ray_serve_replica_processing_queries{application="app",deployment="d",replica="r"} 9+0',
            histogram("ray_serve_http_request_latency_ms", 'application="app"', {"500": 99, "+Inf": 99}, 49500),
            'ray_vllm_num_requests_running{model_name="m",engine="0",ReplicaId="r"} 4+0',
            'ray_vllm_request_success_total{model_name="m",finished_reason="stop",ReplicaId="r"} 0+30',
            'ray_vllm_request_success{model_name="m",finished_reason="stop",ReplicaId="r"} 0+30',
            histogram("ray_vllm_e2e_request_latency_seconds", 'model_name="m"', {"0.5": 30, "+Inf": 30}, 9),
            'ray_node_gpus_utilization{GpuIndex="0",GpuDeviceName="H100"} 50+0',
            'ray_node_gram_used{GpuIndex="0",GpuDeviceName="H100"} 1024+0',
            'ray_node_gram_available{GpuIndex="0",GpuDeviceName="H100"} 3072+0',
            'ray_node_gpu_power_milliwatts{GpuIndex="0",GpuDeviceName="H100"} 350000+0',
        ]),
        ("ray_node", "ray_serve", "ray_vllm"),
        (
            (lambda v: v.rate("requests"), {"m": 2}),
            (lambda v: v.gauge("running_requests"), {"m": 4}),
            (lambda v: v.mean("e2e_latency"), {"m": 0.3}),
            (lambda v: v.gauge("gpu_utilization", "avg", by=()), {"": 0.5}),
            (lambda v: v.gauge("gpu_memory_total", by=()), {"": 4096 * 1048576}),
            (lambda v: v.gauge("gpu_power", by=()), {"": 350}),
        ),
    ),
    "ray serve alone": Case(
        "\n".join([
            'ray_serve_num_http_requests_total{application="app",route="/",status_code="200"} 0+30',
            'ray_serve_num_http_error_requests_total{application="app",route="/",error_code="500"} 0+3',
            histogram("ray_serve_http_request_latency_ms", 'application="app"',
                      {"100": 15, "200": 30, "+Inf": 30}, 3600),
        ]),
        ("ray_serve",),
        (
            (lambda v: v.ratio("errors", "requests"), {"app": 0.1}),
            (lambda v: v.mean("e2e_latency"), {"app": 0.12}),
            (lambda v: v.quantile("e2e_latency", 0.75), {"app": 0.15}),
            (lambda v: v.fraction_below("e2e_latency", 0.1), {"app": 0.5}),
        ),
        ("ttft", "generated_tokens", "kv_usage"),
    ),
    "llama.cpp": Case(
        "\n".join([
            "llamacpp:requests_processing 1+0",
            "llamacpp:requests_deferred 2+0",
            "llamacpp:prompt_tokens_total 0+90",
            "llamacpp:prompt_tokens_cached_total 0+60",
            "llamacpp:tokens_predicted_total 0+150",
            "llamacpp:tokens_predicted_seconds_total 0+3",
        ]),
        ("llamacpp",),
        (
            (lambda v: v.rate("prompt_tokens"), {"j": 10}),
            (lambda v: v.rate("generated_tokens"), {"j": 10}),
            (lambda v: v.ratio("prefix_hits", "prefix_queries"), {"j": 0.4}),
            (lambda v: v.mean("tpot"), {"j": 0.02}),
            (lambda v: v.gauge("waiting_requests"), {"j": 2}),
        ),
        ("ttft", "e2e_latency", "requests", "kv_usage"),
    ),
    "lmdeploy": Case(
        "\n".join([
            f"lmdeploy:num_requests_running{{{LMD}}} 3+0",
            f"lmdeploy:num_requests_waiting{{{LMD}}} 2+0",
            f"lmdeploy:num_api_requests_waiting{{{LMD}}} 5+0",
            f"lmdeploy:gpu_cache_usage_perc{{{LMD}}} 0.7+0",
            f'lmdeploy:request_success_total{{{LMD},finished_reason="stop"}} 0+9',
            f"lmdeploy:num_requests_failed{{{LMD}}} 0+1",
            f"lmdeploy:prompt_tokens_total{{{LMD}}} 0+100",
            f"lmdeploy:cached_tokens_total{{{LMD}}} 0+25",
            histogram("lmdeploy:iter_token_latency", LMD, {"0.005": 0, "0.01": 10, "+Inf": 10}, 0.08),
        ]),
        ("lmdeploy",),
        (
            (lambda v: v.gauge("waiting_requests"), {"m": 7}),
            (lambda v: v.ratio("errors", "requests"), {"m": 0.1}),
            (lambda v: v.ratio("prefix_hits", "prefix_queries"), {"m": 0.25}),
            (lambda v: v.mean("itl"), {"m": 0.008}),
            (lambda v: v.gauge("kv_usage", "max"), {"m": 0.7}),
        ),
        ("preemptions",),
    ),
    "litellm": Case(
        "\n".join([
            'litellm_proxy_total_requests_metric_total{requested_model="m",route="/v1",status_code="200"} 0+30',
            'litellm_proxy_failed_requests_metric_total{requested_model="m",route="/v1",exception_status="500"} 0+3',
            'litellm_input_tokens_metric_total{model="m",requested_model="m"} 0+150',
            "litellm_in_flight_requests 4+0",
            histogram("litellm_llm_api_time_to_first_token_metric", 'requested_model="m"',
                      {"0.1": 5, "0.25": 10, "+Inf": 10}, 1.5),
        ]),
        ("litellm",),
        (
            (lambda v: v.ratio("errors", "requests"), {"m": 0.1}),
            (lambda v: v.rate("prompt_tokens"), {"m": 10}),
            (lambda v: v.mean("ttft"), {"m": 0.15}),
            (lambda v: v.gauge("running_requests", by=()), {"": 4}),
        ),
        ("itl", "kv_usage", "replicas"),
    ),
    "envoy ai gateway": Case(
        "\n".join([
            histogram("gen_ai_server_request_duration_seconds", GEN, {"0.64": 27, "1.28": 27, "+Inf": 27}, 9),
            f'gen_ai_server_request_duration_seconds_count{{{GEN},error_type="500"}} 0+3',
            f'gen_ai_client_token_usage_token_sum{{{GEN},gen_ai_token_type="input"}} 0+300',
            f'gen_ai_client_token_usage_token_sum{{{GEN},gen_ai_token_type="output"}} 0+150',
        ]),
        ("envoy_ai_gateway",),
        (
            (lambda v: v.ratio("errors", "requests"), {"m": 0.1}),
            (lambda v: v.rate("prompt_tokens"), {"m": 20}),
            (lambda v: v.rate("generated_tokens"), {"m": 10}),
        ),
        ("running_requests", "queue_time"),
    ),
    "llm-d epp": Case(
        "\n".join([
            f"llm_d_epp_request_total{{{EPP}}} 0+30",
            f'llm_d_epp_request_error_total{{{EPP},error_code="503"}} 0+3',
            f"llm_d_epp_request_running{{{EPP}}} 4+0",
            'inference_objective_running_requests{model_name="m"} 4+0',
            'llm_d_epp_average_kv_cache_utilization{name="pool"} 0.4+0',
            histogram("llm_d_epp_request_ttft_seconds", f'{EPP},streaming="true"', {"0.1": 10, "+Inf": 10}, 0.5),
            histogram("llm_d_epp_request_ttft_seconds", f'{EPP},streaming="false"', {"0.1": 0, "+Inf": 10}, 90),
        ]),
        ("llm_d_epp",),
        (
            (lambda v: v.ratio("errors", "requests"), {"m": 0.1}),
            (lambda v: v.gauge("running_requests"), {"m": 4}),
            (lambda v: v.mean("ttft"), {"m": 0.05}),
            (lambda v: v.fraction_below("ttft", 0.1), {"m": 1}),
            (lambda v: v.gauge("kv_usage", "avg", by=()), {"": 0.4}),
        ),
        ("waiting_requests", "queue_time", "preemptions"),
    ),
    "loadline's gateway before ollama": Case(
        "\n".join([
            'loadline_gateway_requests_total{outcome="served"} 0+27',
            'loadline_gateway_requests_total{outcome="failed"} 0+3',
            "loadline_gateway_in_flight_requests 2+0",
            histogram("loadline_gateway_first_byte_seconds", 'replica="http://o:11434"',
                      {"0.25": 15, "0.5": 30, "+Inf": 30}, 9),
        ]),
        ("gateway",),
        (
            (lambda v: v.ratio("errors", "requests"), {"j": 0.1}),
            (lambda v: v.mean("ttft"), {"j": 0.3}),
            (lambda v: v.quantile("ttft", 0.5), {"j": 0.25}),
        ),
        ("generated_tokens", "kv_usage"),
    ),
    "dcgm up to 4.8": Case(
        "\n".join([
            f"DCGM_FI_DEV_GPU_UTIL{{{GPU}}} 75+0",
            f"DCGM_FI_DEV_FB_USED{{{GPU}}} 1024+0",
            f"DCGM_FI_DEV_FB_FREE{{{GPU}}} 3000+0",
            f"DCGM_FI_DEV_FB_RESERVED{{{GPU}}} 72+0",
            f"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{{GPU}}} 0+4500000",
            f"DCGM_FI_DEV_SM_CLOCK{{{GPU}}} 1755+0",
            f"DCGM_FI_DEV_XID_ERRORS{{{GPU}}} 79+0",
        ]),
        ("dcgm",),
        (
            (lambda v: v.gauge("gpu_utilization", "avg", by=()), {"": 0.75}),
            (lambda v: v.gauge("gpu_memory_used", by=()), {"": 1024 * 1048576}),
            (lambda v: v.gauge("gpu_memory_total", by=()), {"": 4096 * 1048576}),
            (lambda v: v.rate("gpu_energy", by=()), {"": 300}),
            (lambda v: v.gauge("gpu_sm_clock", "max", by=()), {"": 1.755e9}),
            (lambda v: v.gauge("gpu_last_xid", "max", by=()), {"": 79}),
        ),
        ("gpu_sm_activity", "gpu_power_limit", "gpu_ecc_uncorrected", "gpu_xid_errors"),
    ),
    "dcgm from 4.9": Case(
        "\n".join([
            f"DCGM_FI_DEV_GPU_UTIL_RATIO{{{GPU}}} 0.75+0",
            f"DCGM_FI_DEV_FB_USED_BYTES{{{GPU}}} 1073741824+0",
            f"DCGM_FI_DEV_FB_CAPACITY_BYTES{{{GPU}}} 4294967296+0",
            f"DCGM_FI_DEV_GPU_ENERGY_JOULES_TOTAL{{{GPU}}} 0+4500",
            f"DCGM_FI_DEV_SM_CLOCK_HERTZ{{{GPU}}} 1755000000+0",
        ]),
        ("dcgm",),
        (
            (lambda v: v.gauge("gpu_utilization", "avg", by=()), {"": 0.75}),
            (lambda v: v.gauge("gpu_memory_used", by=()), {"": 1024 * 1048576}),
            (lambda v: v.gauge("gpu_memory_total", by=()), {"": 4096 * 1048576}),
            (lambda v: v.rate("gpu_energy", by=()), {"": 300}),
            (lambda v: v.gauge("gpu_sm_clock", "max", by=()), {"": 1.755e9}),
        ),
    ),
    "amd": Case(
        "\n".join([
            f"gpu_gfx_activity{{{AMD}}} 75+0",
            f"gpu_used_vram{{{AMD}}} 1024+0",
            f"gpu_total_vram{{{AMD}}} 4096+0",
            f"gpu_package_power{{{AMD}}} 500+0",
            f"gpu_power_usage{{{AMD}}} 501+0",
            f"gpu_energy_consumed{{{AMD}}} 0+4500000000",
            f"gpu_edge_temperature{{{AMD}}} 55+0",
        ]),
        ("amd",),
        (
            (lambda v: v.gauge("gpu_utilization", "avg", by=()), {"": 0.75}),
            (lambda v: v.gauge("gpu_memory_total", by=()), {"": 4096 * 1048576}),
            (lambda v: v.gauge("gpu_power", by=()), {"": 500}),
            (lambda v: v.rate("gpu_energy", by=()), {"": 300}),
            (lambda v: v.gauge("gpu_temperature", "max", by=()), {"": 55}),
        ),
        ("gpu_xid_errors",),
    ),
    "gaudi": Case(
        'habanalabs_utilization{UUID="g"} 40+0\nhabanalabs_power_mW{UUID="g"} 300000+0',
        ("gaudi",),
        (
            (lambda v: v.gauge("gpu_utilization", "avg", by=()), {"": 0.4}),
            (lambda v: v.gauge("gpu_power", by=()), {"": 300}),
        ),
    ),
    "nvidia_gpu_exporter": Case(
        'nvidia_smi_utilization_gpu_ratio{uuid="u"} 0.4+0\nnvidia_smi_power_draw_watts{uuid="u"} 300+0',
        ("nvidia_smi",),
        (
            (lambda v: v.gauge("gpu_utilization", "avg", by=()), {"": 0.4}),
            (lambda v: v.gauge("gpu_power", by=()), {"": 300}),
        ),
        ("gpu_energy",),
    ),
    "node_exporter": Case(
        "\n".join([
            'node_cpu_seconds_total{cpu="0",mode="idle"} 0+12',
            'node_cpu_seconds_total{cpu="0",mode="user"} 0+3',
            'node_cpu_seconds_total{cpu="1",mode="idle"} 0+6',
            'node_cpu_seconds_total{cpu="1",mode="user"} 0+9',
            "node_memory_MemTotal_bytes 100+0",
            "node_memory_MemAvailable_bytes 30+0",
            'node_filesystem_avail_bytes{mountpoint="/",fstype="ext4"} 7+0',
            'node_filesystem_avail_bytes{mountpoint="/tmp",fstype="tmpfs"} 9+0',
            'node_network_receive_bytes_total{device="eth0"} 0+150',
            'node_network_receive_bytes_total{device="lo"} 0+999',
        ]),
        ("node_exporter",),
        (
            (lambda v: v.gauge("host_cpu_usage", "avg", by=()), {"": 0.4}),
            (lambda v: v.gauge("host_cpu_usage", "avg", by=(), where='instance="target 0"'), {"": 0.4}),
            (lambda v: v.gauge("host_memory_used", by=()), {"": 70}),
            (lambda v: v.gauge("host_disk_free", by=()), {"": 7}),
            (lambda v: v.rate("host_network_received", by=()), {"": 10}),
        ),
        ("process_cpu",),
    ),
    "cadvisor": Case(
        "\n".join([
            'container_cpu_usage_seconds_total{pod="p",container="c"} 0+15',
            'container_cpu_usage_seconds_total{pod="p",container=""} 0+15',
            'container_memory_working_set_bytes{pod="p",container="c"} 50+0',
        ]),
        ("cadvisor",),
        (
            (lambda v: v.rate("container_cpu", by=()), {"": 1}),
            (lambda v: v.gauge("container_memory", by=()), {"": 50}),
        ),
    ),
    "redis": Case(
        "redis_up 1+0\nredis_keyspace_hits_total 0+30\nredis_keyspace_misses_total 0+15\nredis_memory_used_bytes 9+0",
        ("redis",),
        (
            (lambda v: v.ratio("cache_hits", "cache_misses", by=()), {"": 2}),
            (lambda v: v.gauge("cache_memory_used", by=()), {"": 9}),
        ),
    ),
    "qdrant": Case(
        "\n".join([
            'app_info{name="qdrant",version="1.16.0"} 1+0',
            'rest_responses_total{method="POST",endpoint="/collections/{name}/points/query",status="200"} 0+30',
            'grpc_responses_total{endpoint="/qdrant.Points/Search"} 0+15',
            'rest_responses_fail_total{method="POST",endpoint="/collections/{name}/points/query",status="500"} 0+3',
            histogram(
                "rest_responses_duration_seconds",
                'method="POST",endpoint="/collections/{name}/points/query",status="200"',
                {"0.1": 30, "+Inf": 30},
                1.5,
            ),
            histogram("rest_responses_duration_seconds", 'endpoint="/collections",status="200"', {"+Inf": 30}, 99),
        ]),
        ("qdrant",),
        (
            (lambda v: v.rate("vector_requests", by=()), {"": 3}),
            (lambda v: v.rate("vector_errors", by=()), {"": 0.2}),
            (lambda v: v.mean("vector_search_time", by=()), {"": 0.05}),
        ),
    ),
    "milvus": Case(
        "\n".join([
            'milvus_build_info{version="2.5.10"} 1+0',
            'milvus_proxy_req_count{function_name="Search",status="total"} 0+30',
            'milvus_proxy_req_count{function_name="Search",status="success"} 0+27',
            'milvus_proxy_req_count{function_name="Search",status="fail"} 0+3',
            histogram("milvus_proxy_sq_latency", 'query_type="search"', {"8": 15, "16": 30, "+Inf": 30}, 240),
        ]),
        ("milvus",),
        (
            (lambda v: v.ratio("vector_errors", "vector_requests", by=()), {"": 0.1}),
            (lambda v: v.mean("vector_search_time", by=()), {"": 0.008}),
            (lambda v: v.fraction_below("vector_search_time", 0.008, by=()), {"": 0.5}),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_engine_is_known_by_its_names_and_answers_in_them(name: str, tmp_path: Path):
    case = CASES[name]
    source = Source(tmp_path, case.page)
    assert source.engines == list(case.engines)
    for question, wanted in case.answers:
        query = question(source.vocabulary)
        assert source.ask(query) == pytest.approx(dict(wanted)), query
    for signal in case.refused:
        if signal == "replicas":
            with pytest.raises(SignalAbsent, match="stands before the servers"):
                source.vocabulary.replicas()
        else:
            assert not source.vocabulary.present(signal), signal


def test_every_dialect_of_an_engine_is_tried_here_or_elsewhere():
    tried = {engine for case in CASES.values() for engine in case.engines}
    elsewhere = {
        "alerts",
        "collector",
        "feedback",
        "host",
        "kserve",
        "loadline",
        "nvml",
        "ollama",
        "planner",
        "scrape",
        "spans",
    }
    mixed = {"dynamo", "dynamo_trtllm", "kserve_vllm", "ray_sglang", "vllm_underscored"}
    assert {dialect.engine for dialect in load_dialects()} == tried | elsewhere | mixed


def test_latencies_that_come_as_sums_have_a_mean_and_no_quantiles(tmp_path: Path):
    source = Source(tmp_path, CASES["triton core"].page)
    status = source.vocabulary.status("e2e_latency")
    assert isinstance(status, Present)
    assert status.mean_only
    assert str(status) == "present as nv_inference_request_duration_us (its mean alone)"
    for ask in (
        lambda v: v.quantile("e2e_latency", 0.95),
        lambda v: v.fraction_below("e2e_latency", 0.5),
        lambda v: v.buckets("e2e_latency"),
    ):
        with pytest.raises(SignalAbsent, match="without buckets: it has a mean, but no quantiles"):
            ask(source.vocabulary)


def test_a_fleet_with_and_without_buckets_tells_the_quantiles_of_those_that_have_them(tmp_path: Path):
    engine = histogram("vllm:e2e_request_latency_seconds", 'model_name="v"', {"1.0": 5, "2.0": 10, "+Inf": 10}, 10)
    source = Source(tmp_path, 'vllm:num_requests_running{model_name="v"} 1+0\n' + engine, CASES["llama.cpp"].page)
    assert source.ask(source.vocabulary.quantile("e2e_latency", 0.5)) == pytest.approx({"v": 1.0})


@pytest.mark.parametrize(
    ("engine", "prefix", "page"),
    [
        ("kserve_vllm", "kserve_vllm:", 'num_requests_running{model_name="m"} 2+0'),
        ("vllm_underscored", "vllm_", 'num_requests_running{model_name="m"} 2+0'),
        ("ray_sglang", "ray_sglang_", 'num_running_reqs{model_name="m"} 2+0'),
        ("dynamo_trtllm", "trtllm:", 'num_requests_running{model_name="m"} 2+0'),
    ],
)
def test_the_same_metrics_under_another_prefix_are_understood(engine: str, prefix: str, page: str, tmp_path: Path):
    source = Source(tmp_path, prefix + page)
    assert source.engines == [engine]
    assert source.ask(source.vocabulary.gauge("running_requests")) == pytest.approx({"m": 2})


def vllm(prefix: str, pool: str, running: int, more: str = "") -> str:
    labels = f'model_name="{pool}"{more}'
    tokens = f"{prefix}generation_tokens_total{{{labels}}} 0+15"
    return f"{prefix}num_requests_running{{{labels}}} {running}+0\n{tokens}\n" + histogram(
        f"{prefix}time_to_first_token_seconds", labels, {"0.1": 5, "0.25": 10, "+Inf": 10}, 1
    )


def all_of(vocabulary: Vocabulary) -> Iterable[str]:
    yield vocabulary.gauge("running_requests")
    yield vocabulary.rate("generated_tokens")
    yield vocabulary.rate("ttft")
    yield vocabulary.quantile("ttft", 0.5)
    yield vocabulary.mean("ttft")
    yield vocabulary.gauge("running_requests", "avg")
    yield vocabulary.gauge("running_requests", by=())


@pytest.mark.parametrize("other", ["kserve_vllm:", "ray_vllm_", "vllm_"])
def test_a_pool_that_is_shown_under_two_prefixes_counts_once(other: str, tmp_path: Path):
    once = Source(tmp_path / "once", vllm("vllm:", "m", 2))
    both = Source(tmp_path / "both", vllm("vllm:", "m", 2) + "\n" + vllm(other, "m", 2, ',WorkerId="w"'))
    assert len(both.engines) == 2
    for alone, merged in zip(all_of(once.vocabulary), all_of(both.vocabulary), strict=True):
        assert both.ask(merged) == pytest.approx(once.ask(alone)), merged


def test_pools_under_different_prefixes_are_all_counted(tmp_path: Path):
    source = Source(tmp_path, vllm("vllm:", "a", 2), vllm("ray_vllm_", "b", 3))
    assert source.ask(source.vocabulary.gauge("running_requests")) == pytest.approx({"a": 2, "b": 3})
    assert source.ask(source.vocabulary.gauge("running_requests", by=())) == pytest.approx({"": 5})


def test_standalone_vllm_and_vllm_in_triton_are_told_apart_by_their_labels(tmp_path: Path):
    source = Source(tmp_path, vllm("vllm:", "own", 2), CASES["triton with vllm"].page)
    assert source.ask(source.vocabulary.gauge("running_requests")) == pytest.approx({"own": 2, "m": 2})
    assert source.ask(source.vocabulary.rate("prompt_tokens")) == pytest.approx({"m": 10})
    assert source.ask(source.vocabulary.replicas(by=())) == pytest.approx({"": 2})


FRONTEND = "\n".join([
    'dynamo_frontend_requests_total{model="m",status="success"} 0+27',
    'dynamo_frontend_requests_total{model="m",status="error"} 0+3',
    'dynamo_frontend_active_requests{model="m"} 4+0',
    'dynamo_frontend_inflight_requests{model="m"} 4+0',
    'dynamo_frontend_output_tokens_total{model="m"} 0+150',
    histogram("dynamo_frontend_time_to_first_token_seconds", 'model="m"', {"0.1": 10, "0.22": 30, "+Inf": 30}, 3),
])  # fmt: skip
WORKER = "dynamo_component_uptime_seconds 9+0\n" + vllm("vllm:", "m", 3, ',dynamo_component="backend",model="m"')


def test_dynamos_frontend_alone_is_asked(tmp_path: Path):
    source = Source(tmp_path, FRONTEND)
    assert source.engines == ["dynamo"]
    assert source.ask(source.vocabulary.gauge("running_requests")) == pytest.approx({"m": 4})
    assert source.ask(source.vocabulary.ratio("errors", "requests")) == pytest.approx({"m": 0.1})
    assert source.ask(source.vocabulary.mean("ttft")) == pytest.approx({"m": 0.1})


def test_of_dynamos_frontend_and_its_workers_engines_only_the_engines_are_counted(tmp_path: Path):
    source = Source(tmp_path, FRONTEND, WORKER)
    vocabulary = source.vocabulary
    assert source.engines == ["dynamo", "vllm"]
    assert source.ask(vocabulary.gauge("running_requests")) == pytest.approx({"m": 3})
    assert source.ask(vocabulary.rate("generated_tokens")) == pytest.approx({"m": 1})
    assert source.ask(vocabulary.rate("ttft")) == pytest.approx({"m": 10 / 15})
    assert source.ask(vocabulary.ratio("errors", "requests")) == pytest.approx({"m": 0.1})  # only the frontend has it
    status = vocabulary.status("ttft")
    assert isinstance(status, Present)
    assert ("dynamo", "NVIDIA Dynamo sees the same from further out than vLLM") in status.lacking


def test_a_ratio_asks_one_layer_for_both_its_parts(tmp_path: Path):
    own = 'vllm:num_requests_running{model_name="m"} 1+0\nvllm:prompt_tokens_total{model_name="m"} 0+150'
    source = Source(
        tmp_path, own, CASES["litellm"].page + '\nlitellm_output_tokens_metric_total{requested_model="m"} 0+75'
    )
    assert source.ask(source.vocabulary.rate("prompt_tokens")) == pytest.approx({"m": 10})
    assert source.ask(source.vocabulary.ratio("generated_tokens", "prompt_tokens")) == pytest.approx({"m": 0.5})


DCGM = f"DCGM_FI_DEV_POWER_USAGE{{{GPU}}} 300+0\nDCGM_FI_DEV_GPU_TEMP{{{GPU}}} 60+0\nDCGM_FI_DEV_GPU_UTIL{{{GPU}}} 50+0"


def nvml(uuid: str, watts: int) -> str:
    labels = f'gpu="0",uuid="{uuid}"'
    return (
        f"loadline_gpu_devices 1+0\nloadline_gpu_power_watts{{{labels}}} {watts}+0\n"
        f"loadline_gpu_utilization_ratio{{{labels}}} 0.9+0"
    )


def test_a_gpu_that_two_exporters_show_counts_once(tmp_path: Path):
    source = Source(tmp_path, DCGM, nvml("GPU-1", 301))
    assert source.engines == ["dcgm", "nvml"]
    assert source.ask(source.vocabulary.gauge("gpu_power", by=())) == pytest.approx({"": 300})
    assert source.ask(source.vocabulary.gauge("gpu_utilization", "avg", by=())) == pytest.approx({"": 0.5})
    by_uuid = source.vocabulary.gauge("gpu_power", by=("uuid",))
    assert source.ask(by_uuid, "uuid") == pytest.approx({"GPU-1": 300})


def test_gpus_that_only_one_exporter_shows_are_all_counted(tmp_path: Path):
    source = Source(tmp_path, DCGM, nvml("GPU-2", 200), CASES["amd"].page)
    assert source.ask(source.vocabulary.gauge("gpu_power", by=())) == pytest.approx({"": 300 + 200 + 500})
    assert source.ask(source.vocabulary.gauge("gpu_utilization", "avg", by=())) == pytest.approx(
        {"": (0.5 + 0.9 + 0.75) / 3}
    )


def test_gpus_without_a_uuid_are_taken_for_different_ones(tmp_path: Path):
    bare = 'DCGM_FI_DEV_POWER_USAGE{gpu="0"} 300+0\nDCGM_FI_DEV_GPU_TEMP{gpu="0"} 60+0'
    source = Source(tmp_path, bare, 'loadline_gpu_devices 1+0\nloadline_gpu_power_watts{gpu="0"} 200+0')
    assert source.ask(source.vocabulary.gauge("gpu_power", by=())) == pytest.approx({"": 500})


def test_an_engine_and_gpus_are_counted_apart(tmp_path: Path):
    source = Source(tmp_path, vllm("vllm:", "m", 2), DCGM, nvml("GPU-1", 301))
    assert source.ask(source.vocabulary.gauge("running_requests", by=())) == pytest.approx({"": 2})
    assert source.ask(source.vocabulary.gauge("gpu_power", by=())) == pytest.approx({"": 300})


def test_servers_of_both_dcgm_versions_add_up_in_one_unit(tmp_path: Path):
    newer = CASES["dcgm from 4.9"].page.replace("GPU-1", "GPU-2")
    source = Source(tmp_path, CASES["dcgm up to 4.8"].page, newer)
    assert source.ask(source.vocabulary.gauge("gpu_memory_used", by=())) == pytest.approx({"": 2 * 1024 * 1048576})
    assert source.ask(source.vocabulary.gauge("gpu_utilization", "avg", by=())) == pytest.approx({"": 0.75})
