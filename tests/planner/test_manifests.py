"""Exported autoscalers: objects that Kubernetes knows, queries that Prometheus reads, decisions that were simulated."""

import json
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from collector.promql import parse, selectors
from collector.signals import Vocabulary, load_dialects
from planner.cli import app
from planner.errors import CapacityError
from planner.room.autoscale import STARTS_S, Question, other_starts, policies, start_s
from planner.room.manifests import Place, Trigger, hpa, keda, triggers
from planner.sim import Twin
from planner.sim.scaling import Delays, View
from planner.slo import Slo
from planner.steps.latency import LinearModel
from planner.traces.trace import from_lengths
from probe_engine.sched import SchedulerConfig

CONFIG = SchedulerConfig(num_blocks=4000, max_num_batched_tokens=512, max_num_seqs=32)
TRACE = from_lengths(np.sort(np.random.default_rng(0).uniform(0, 120, 200)), np.full(200, 100), np.full(200, 20))
QUESTION = Question(
    TRACE, Twin(CONFIG, LinearModel(20e-3, 2e-4, 0.0, 1e-3, 1e-6)), Slo(), 2.0, Delays(least=2, most=12)
)
PLACE = Place("llama", "serving", "http://prom:9090", "llama-8b")
EXPORTED = (
    "HPA on utilisation",
    "HPA on KV use",
    "HPA on queue",
    "HPA on TTFT",
    "KEDA on requests",
    "by arrival rate",
    "predictive",
)


def vocabulary(*names: str) -> Vocabulary:
    return Vocabulary.of([dialect for dialect in load_dialects() if dialect.engine in names])


def wanted(found: tuple[Trigger, ...], seen: dict[str, float], replicas: int) -> int:
    """Kubernetes's rule for external metrics: the largest of what each metric asks for, tolerance left out."""
    return max(
        ceil(seen[one.name] / one.target)
        if one.kind == "AverageValue"
        else ceil(replicas * seen[one.name] / one.target)
        for one in found
    )


@pytest.mark.parametrize("engine", ["loadline", "vllm", "sglang"])
@pytest.mark.parametrize("policy", EXPORTED)
def test_every_query_is_promql_over_the_engines_own_names(policy: str, engine: str) -> None:
    spoken = vocabulary(engine, "dcgm")
    known = {name for dialect in spoken.dialects for name in dialect.names()}
    for one in triggers(QUESTION, policy, spoken, "llama-8b"):
        asked = [selector.name or "" for selector in selectors(parse(one.query))]
        assert asked
        assert all(name.removesuffix("_count").removesuffix("_sum") in known or name in known for name in asked)
        assert one.target > 0


def test_a_keda_object_has_a_prometheus_trigger_for_each_query() -> None:
    found: dict[str, Any] = yaml.safe_load(keda(QUESTION, "KEDA on requests", vocabulary("vllm"), PLACE))
    assert (found["apiVersion"], found["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    assert found["metadata"]["namespace"] == "serving"
    spec = found["spec"]
    assert spec["scaleTargetRef"] == {"name": "llama"}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"], spec["pollingInterval"]) == (2, 12, 15)
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"] == {"stabilizationWindowSeconds": 300}
    waiting, running = spec["triggers"]
    assert (waiting["type"], waiting["metricType"], waiting["metadata"]["threshold"]) == (
        "prometheus",
        "AverageValue",
        "2",
    )
    assert waiting["metadata"]["serverAddress"] == "http://prom:9090"
    assert waiting["metadata"]["query"] == 'sum(vllm:num_requests_waiting{model_name="llama-8b"})'
    assert running["metadata"]["threshold"] == "22.4"


def test_an_hpa_asks_for_the_metrics_that_its_adapter_rules_serve() -> None:
    scaler, config = yaml.safe_load_all(hpa(QUESTION, "HPA on queue", vocabulary("vllm"), PLACE))
    assert (scaler["apiVersion"], scaler["kind"]) == ("autoscaling/v2", "HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llama"}
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 12)
    asked = {one["external"]["metric"]["name"]: one["external"]["target"] for one in scaler["spec"]["metrics"]}
    assert asked["llama_waiting"] == {"type": "AverageValue", "averageValue": "2"}
    rules = yaml.safe_load(config["data"]["config.yaml"])["externalRules"]
    assert [rule["name"]["as"] for rule in rules] == list(asked)
    assert all(parse(rule["metricsQuery"]) for rule in rules)


def test_quantities_are_whole_or_in_thousandths() -> None:
    scaler, _ = yaml.safe_load_all(hpa(QUESTION, "HPA on KV use", vocabulary("vllm"), PLACE))
    (metric,) = scaler["spec"]["metrics"]
    assert metric["external"]["target"] == {"type": "Value", "value": "700m"}


@pytest.mark.parametrize("policy", ["KEDA on requests", "by arrival rate", "HPA on queue", "HPA on KV use"])
def test_kubernetes_decides_what_the_simulated_policy_decides(policy: str) -> None:
    draw = np.random.default_rng(1)
    exported, simulated = triggers(QUESTION, policy, vocabulary("vllm")), policies(QUESTION)[policy]
    for _ in range(200):
        replicas = int(draw.integers(1, 10))
        waiting, running = int(draw.integers(0, 40)), int(draw.integers(0, 32 * replicas))
        kv, rate = float(draw.uniform(0, 1)), float(draw.uniform(0, 30))
        view = View(0.0, replicas, 0.0, kv, running, waiting, 0.0, rate, (rate,))
        seen = {"waiting": float(waiting), "running": float(running), "kv-use": kv, "rate": rate}
        told = max(wanted(exported, seen, replicas), 1)
        assert simulated(view) in {told, replicas}  # within a tenth of the target nothing is changed


@pytest.mark.parametrize("policy", ["static for the peak", "oracle", "no such"])
def test_what_no_autoscaler_can_follow_is_refused(policy: str) -> None:
    with pytest.raises(CapacityError, match=f"policy '{policy}' is nothing to export: choose one of HPA on"):
        keda(QUESTION, policy, vocabulary("vllm"), PLACE)


def test_what_the_engine_does_not_show_is_named() -> None:
    with pytest.raises(CapacityError, match=r"'HPA on utilisation' cannot be exported: .*gpu_utilization"):
        keda(QUESTION, "HPA on utilisation", vocabulary("vllm"), PLACE)


def test_slower_starts_keep_the_promise_less() -> None:
    found = other_starts(QUESTION, "KEDA on requests")
    assert list(found) == list(STARTS_S)
    assert found["warm"].goodput_ratio >= found["vm"].goodput_ratio
    with pytest.raises(CapacityError, match="start 'lorry': must be one of vm, container"):
        start_s("lorry")


def test_the_command_writes_both_objects(tmp_path: Path) -> None:
    model = tmp_path / "model.json"
    draw = np.random.default_rng(0)
    truth = LinearModel(20e-3, 2e-4, 0.0, 1e-3, 1e-6)
    seen = []
    for _ in range(60):
        prefill, seqs = int(draw.choice([0, draw.integers(1, 500)])), int(draw.integers(1, 30))
        wall_s = truth.step_s + truth.prefill_token_s * prefill + truth.decode_seq_s * seqs
        seen.append(
            {
                "prefill_tokens": prefill,
                "prefill_attention": 0,
                "decode_seqs": seqs,
                "decode_kv_tokens": 0,
                "wall_s": wall_s,
            }
        )
    (tmp_path / "p.json").write_text(
        json.dumps({"observations": seen, "scheduler": {"num_blocks": 4000, "max_num_seqs": 32}})
    )
    assert CliRunner().invoke(app, ["calibrate", str(tmp_path / "p.json"), "-o", str(model)]).exit_code == 0
    trace = tmp_path / "trace.csv"
    rows = np.sort(draw.uniform(0, 90, 150))
    lines = ["Timestamp,Request tokens,Response tokens,Model", *(f"{at:.3f},80,20,m" for at in rows)]
    trace.write_text("\n".join(lines) + "\n")
    files = ["--hpa", str(tmp_path / "hpa.yaml"), "--keda", str(tmp_path / "keda.yaml"), "--policy", "HPA on queue"]
    done = CliRunner().invoke(app, ["autoscale", str(trace), "--model", str(model), "--start", "vm", *files, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["result"]["chosen"] == "HPA on queue"
    assert report["inputs"]["delays"]["cold_start_s"] == 300
    assert yaml.safe_load((tmp_path / "keda.yaml").read_text())["kind"] == "ScaledObject"
    assert next(yaml.safe_load_all((tmp_path / "hpa.yaml").read_text()))["kind"] == "HorizontalPodAutoscaler"
