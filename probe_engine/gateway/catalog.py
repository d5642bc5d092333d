"""Every metric of the gateway, declared once: name, type, labels, help."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


OUTCOMES = ("served", "cached", "refused", "failed", "client_gone")
FIRST_BYTE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

METRICS: tuple[Metric, ...] = (
    Metric(
        "loadline_gateway_requests_total",
        "counter",
        "Generation requests, by outcome (served: a replica's answer was passed on).",
        ("outcome",),
    ),
    Metric("loadline_gateway_refused_total", "counter", "Requests not let through, by the limit reached.", ("reason",)),
    Metric("loadline_gateway_retries_total", "counter", "Requests sent to another replica since none had answered."),
    Metric("loadline_gateway_tokens_total", "counter", "Tokens used by answers, prompt and output."),
    Metric("loadline_gateway_in_flight_requests", "gauge", "Generation requests being served now."),
    Metric("loadline_gateway_cached_answers", "gauge", "Answers in the cache."),
    Metric(
        "loadline_gateway_first_byte_seconds",
        "histogram",
        "Sending a request to a replica until the first byte of its answer.",
        ("replica",),
        FIRST_BYTE_BUCKETS,
    ),
    Metric("loadline_gateway_replica_requests_total", "counter", "Requests sent to a replica.", ("replica",)),
    Metric("loadline_gateway_replica_failures_total", "counter", "Those that it failed or lost.", ("replica",)),
    Metric("loadline_gateway_replica_in_flight_requests", "gauge", "Requests that a replica has of us.", ("replica",)),
    Metric("loadline_gateway_replica_waiting_requests", "gauge", "Requests that it says wait.", ("replica",)),
    Metric("loadline_gateway_replica_healthy", "gauge", "1 when probes find it serving, else 0.", ("replica",)),
    Metric("loadline_gateway_breaker_state", "gauge", "0 closed, 1 half open, 2 open.", ("replica",)),
    Metric("loadline_gateway_breaker_opened_total", "counter", "Times it opened, by trigger.", ("replica", "trigger")),
)
