"""An autoscaling policy as Kubernetes objects: a HorizontalPodAutoscaler with adapter rules, or a KEDA ScaledObject.

A policy becomes queries in the engine's own metric names, each with the target that the simulation scaled by, so what
was compared is what is deployed. Delays become the interval and the window of the cool-down.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from collector.signals import SignalAbsent, Vocabulary
from planner.errors import CapacityError
from planner.room.autoscale import KV_TARGET, LOAD_TARGET_RATIO, UTILISATION_TARGET, WAITING_TARGET, Question
from planner.sim.scaling import WINDOW

ADAPTER = "prometheus-adapter"


@dataclass(frozen=True, slots=True)
class Trigger:
    """A query and its target: of the whole fleet divided by its replicas, or of the value as it is."""

    name: str
    query: str
    target: float
    kind: Literal["AverageValue", "Value"]


@dataclass(frozen=True, slots=True)
class Place:
    """What is scaled, and which Prometheus tells; ``pool`` narrows the queries to one model."""

    deployment: str
    namespace: str = "default"
    prometheus: str = "http://prometheus.monitoring:9090"
    pool: str | None = None


def triggers(question: Question, policy: str, vocabulary: Vocabulary, pool: str | None = None) -> tuple[Trigger, ...]:
    """What ``policy`` scales by, in the names of ``vocabulary``'s engine.

    Raises CapacityError for a policy that no autoscaler can follow, or one that asks for what the engine does not show.
    """
    builders = _builders(question, vocabulary, f'pool="{pool}"' if pool else "")
    if policy not in builders:
        raise CapacityError(f"policy {policy!r} is nothing to export: choose one of {', '.join(builders)}")
    try:
        return builders[policy]()
    except SignalAbsent as error:
        raise CapacityError(f"policy {policy!r} cannot be exported: {error}") from error


def hpa(question: Question, policy: str, vocabulary: Vocabulary, place: Place) -> str:
    """YAML of the HorizontalPodAutoscaler (autoscaling/v2) and of the adapter's rules that serve its metrics."""
    found = triggers(question, policy, vocabulary, place.pool)
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(place, place.deployment, policy),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": place.deployment},
            "minReplicas": question.delays.least,
            "maxReplicas": question.delays.most,
            "metrics": [
                {"type": "External", "external": {"metric": {"name": _metric(place, one)}, "target": _target(one)}}
                for one in found
            ],
            "behavior": _behavior(question, policy),
        },
    }
    rules = {"externalRules": [_adapter_rule(place, one) for one in found]}
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(place, f"{place.deployment}-{ADAPTER}", policy),
        "data": {"config.yaml": _text(rules)},
    }
    return _text(scaler) + "---\n" + f"# For {ADAPTER}: merge into its own configuration.\n" + _text(config)


def keda(question: Question, policy: str, vocabulary: Vocabulary, place: Place) -> str:
    """YAML of the ScaledObject (keda.sh/v1alpha1) with a prometheus trigger for each query."""
    found = triggers(question, policy, vocabulary, place.pool)
    delays = question.delays
    scaled = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": _metadata(place, place.deployment, policy),
        "spec": {
            "scaleTargetRef": {"name": place.deployment},
            "minReplicaCount": delays.least,
            "maxReplicaCount": delays.most,
            "pollingInterval": max(round(delays.interval_s), 1),
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(question, policy)}},
            "triggers": [
                {
                    "type": "prometheus",
                    "metricType": one.kind,
                    "metadata": {
                        "serverAddress": place.prometheus,
                        "query": one.query,
                        "threshold": _number(one.target),
                    },
                }
                for one in found
            ],
        },
    }
    return _text(scaled)


def _builders(
    question: Question, vocabulary: Vocabulary, where: str
) -> Mapping[str, Callable[[], tuple[Trigger, ...]]]:
    seats = question.twin.scheduler.max_num_seqs
    carries = question.per_replica_per_s * LOAD_TARGET_RATIO

    def gauge(signal: str, agg: Literal["sum", "avg"]) -> str:
        return vocabulary.gauge(signal, agg, (), where)

    def arrivals() -> str:
        signal = "e2e_latency" if vocabulary.present("e2e_latency") else "requests"
        return vocabulary.rate(signal, "1m", (), where)

    def ahead() -> str:
        """Mean, trend and spread of the last eight intervals, carried over the cold start, as the policy does."""
        interval_s = max(round(question.delays.interval_s), 1)
        recent = f"({arrivals()})[{WINDOW * interval_s}s:{interval_s}s]"
        reach_s = _number(question.delays.cold_start_s + question.delays.lag_s)
        return (
            f"avg_over_time({recent}) + {reach_s} * clamp_min(deriv({recent}), 0) + 1.645 * stddev_over_time({recent})"
        )

    def busy() -> tuple[Trigger, ...]:
        if vocabulary.present("step_time"):
            seconds = vocabulary.rate("step_time", "1m", (), where, part="sum")
            return (Trigger("busy", seconds, UTILISATION_TARGET, "AverageValue"),)
        return (Trigger("busy", vocabulary.gauge("gpu_utilization", "avg", ()), UTILISATION_TARGET, "Value"),)

    def queue(running: float) -> tuple[Trigger, ...]:
        return (
            Trigger("waiting", gauge("waiting_requests", "sum"), WAITING_TARGET, "AverageValue"),
            Trigger("running", gauge("running_requests", "sum"), running, "AverageValue"),
        )

    ttft_s = question.slo.ttft_p95_s / 2
    return {
        "HPA on utilisation": busy,
        "HPA on KV use": lambda: (Trigger("kv-use", gauge("kv_usage", "avg"), KV_TARGET, "Value"),),
        "HPA on queue": lambda: queue(seats),
        "HPA on TTFT": lambda: (Trigger("ttft", vocabulary.mean("ttft", "1m", (), where), ttft_s, "Value"),),
        "KEDA on requests": lambda: queue(seats * UTILISATION_TARGET),
        "by arrival rate": lambda: (Trigger("rate", arrivals(), carries, "AverageValue"),),
        "predictive": lambda: (Trigger("rate-ahead", ahead(), carries, "AverageValue"),),
    }


def _behavior(question: Question, policy: str) -> dict[str, Any]:
    """Up at once, at most doubling where the policy does; down by the largest of the window's wishes, as simulated."""
    interval_s = max(round(question.delays.interval_s), 1)
    up: dict[str, Any] = {"stabilizationWindowSeconds": 0}
    if policy == "HPA on TTFT":
        up["policies"] = [{"type": "Percent", "value": 100, "periodSeconds": interval_s}]
    return {"scaleUp": up, "scaleDown": {"stabilizationWindowSeconds": round(question.delays.cool_down_s)}}


def _metadata(place: Place, name: str, policy: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": place.namespace,
        "annotations": {"loadline/policy": policy},
    }


def _metric(place: Place, one: Trigger) -> str:
    return f"{place.deployment}-{one.name}".replace("-", "_")


def _target(one: Trigger) -> dict[str, str]:
    key = "averageValue" if one.kind == "AverageValue" else "value"
    return {"type": one.kind, key: _quantity(one.target)}


def _adapter_rule(place: Place, one: Trigger) -> dict[str, Any]:
    """An external metric that is the query's answer, whatever series were matched."""
    return {
        "seriesQuery": "up",
        "name": {"as": _metric(place, one)},
        "resources": {"namespaced": False},
        "metricsQuery": one.query,
    }


def _quantity(value: float) -> str:
    """A number as Kubernetes writes it: whole, or in thousandths."""
    return str(round(value)) if float(value).is_integer() else f"{round(value * 1000)}m"


def _number(value: float) -> str:
    return f"{value:.6g}"


def _text(document: Any) -> str:
    return yaml.safe_dump(document, sort_keys=False, width=10_000)
