"""Every metric of the engine, declared once: name, type, labels, buckets, help.

Each also carries the label ``model_name``. Base units; counters end in ``_total``.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

# seconds
TTFT_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5),
    *(0.6, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0),
)
GAP_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05),
    *(0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0),
)
PHASE_BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 5.0),
    *(7.5, 10.0, 12.0, 15.0, 20.0, 30.0, 40.0, 60.0, 120.0, 240.0, 480.0),
)
STEP_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.04),
    *(0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0),
)
# tokens
LENGTH_BUCKETS = tuple(float(2**power) for power in range(18))
STEP_TOKEN_BUCKETS = tuple(float(2**power) for power in range(15))


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family; ``labels`` are those beside ``model_name``, ``values`` the allowed values of the only label.

    Families with ``values`` expose each of them from the start, at 0, so that a rate exists before the first event.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    values: tuple[str, ...] = ()


def _seconds(name: str, text: str, buckets: tuple[float, ...]) -> Metric:
    return Metric(f"loadline_{name}_seconds", "histogram", text, buckets=buckets)


FINISH_REASONS = ("stop", "length", "abort")
ERROR_REASONS = ("step_failed", "shutdown", "deadline", "worker_lost")
REJECT_REASONS = ("queue_full", "too_long", "invalid", "unknown_model", "not_ready", "unauthorized")

METRICS: tuple[Metric, ...] = (
    _seconds("time_to_first_token", "Arrival to first token.", TTFT_BUCKETS),
    _seconds("inter_token_latency", "Time between two tokens of one request, one observation per gap.", GAP_BUCKETS),
    _seconds("time_per_output_token", "Mean time per token after the first, one observation per request.", GAP_BUCKETS),
    _seconds("e2e_request_latency", "Arrival to last token.", PHASE_BUCKETS),
    _seconds("request_queue_time", "Arrival to first admission.", PHASE_BUCKETS),
    _seconds("request_prefill_time", "First admission to first token.", PHASE_BUCKETS),
    _seconds("request_decode_time", "First token to last token.", PHASE_BUCKETS),
    Metric("loadline_request_prompt_tokens", "histogram", "Prompt length of a request.", buckets=LENGTH_BUCKETS),
    Metric("loadline_request_generation_tokens", "histogram", "Output length of a request.", buckets=LENGTH_BUCKETS),
    Metric("loadline_iteration_tokens", "histogram", "Tokens computed in one step.", buckets=STEP_TOKEN_BUCKETS),
    _seconds("step_time", "Wall time of one whole engine step, scheduling and hand-over included.", STEP_BUCKETS),
    Metric("loadline_prompt_tokens_total", "counter", "Prompt tokens of requests that reached their first token."),
    Metric("loadline_prompt_tokens_cached_total", "counter", "Those of them taken from the prefix cache."),
    Metric("loadline_generation_tokens_total", "counter", "Tokens generated."),
    Metric(
        "loadline_request_success_total",
        "counter",
        "Requests ended, by reason (abort: the client went away).",
        ("finished_reason",),
        values=FINISH_REASONS,
    ),
    Metric(
        "loadline_request_errors_total",
        "counter",
        "Requests that were accepted and failed, by reason.",
        ("reason",),
        values=ERROR_REASONS,
    ),
    Metric(
        "loadline_requests_rejected_total",
        "counter",
        "Requests not accepted, by reason.",
        ("reason",),
        values=REJECT_REASONS,
    ),
    Metric("loadline_tenant_requests_total", "counter", "Requests ended, by tenant (20, then `other`).", ("tenant",)),
    Metric("loadline_tenant_prompt_tokens_total", "counter", "Prompt tokens of requests ended.", ("tenant",)),
    Metric("loadline_tenant_generation_tokens_total", "counter", "Tokens generated for requests ended.", ("tenant",)),
    Metric("loadline_priority_requests_total", "counter", "Requests that reached their first token.", ("priority",)),
    Metric("loadline_priority_queue_seconds_total", "counter", "Their time from arrival to admission.", ("priority",)),
    Metric("loadline_preemptions_total", "counter", "Running requests that lost their KV blocks and start over."),
    Metric("loadline_prefix_cache_queries_total", "counter", "Prompt tokens looked up in the prefix cache."),
    Metric("loadline_prefix_cache_hits_total", "counter", "Prompt tokens found in the prefix cache."),
    Metric("loadline_step_prefill_tokens_total", "counter", "Tokens computed in prefill chunks."),
    Metric("loadline_step_prefill_attention_total", "counter", "Query-key pairs computed in prefill chunks."),
    Metric("loadline_step_decode_sequences_total", "counter", "Sequences decoded, summed over steps."),
    Metric("loadline_step_decode_kv_tokens_total", "counter", "Keys read by decodes, summed over steps."),
    Metric("loadline_num_requests_running", "gauge", "Requests that hold KV blocks."),
    Metric("loadline_num_requests_waiting", "gauge", "Requests in the queue."),
    Metric("loadline_batch_limit_requests", "gauge", "Most requests that may run now, to keep the ITL SLO."),
    Metric("loadline_kv_cache_usage_ratio", "gauge", "Share of KV blocks in use, 0 to 1."),
    Metric("loadline_kv_cache_block_size_tokens", "gauge", "Tokens in one KV block."),
    Metric("loadline_kv_cache_blocks", "gauge", "KV blocks in all."),
    Metric(
        "loadline_engine_info",
        "gauge",
        "Always 1; what runs is in the labels.",
        ("version", "dtype", "device", "max_num_batched_tokens", "max_num_seqs", "max_model_len", "prefix_cache"),
    ),
    Metric("loadline_model_load_seconds", "gauge", "How long each phase of loading took.", ("phase",)),
)
