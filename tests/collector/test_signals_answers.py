"""What the builders' PromQL answers over a fleet of vLLM and our engine."""

import contextlib
import math
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import numpy as np
import orjson
import pytest
import yaml

from collector.model.labels import Labels, from_mapping, get
from collector.model.matchers import Matcher, all_match
from collector.model.series import SeriesGroup
from collector.promql import Engine, VectorSelector, parse
from collector.signals import Vocabulary, load_dialects

STEP_S, STEPS = 15, 40
NOW_MS = STEP_S * STEPS * 1000

V1 = "model_name='a',engine='0',instance='v1',job='vllm'"
V2 = "model_name='a',engine='0',instance='v2',job='vllm'"
V3 = "model_name='b',engine='0',instance='v3',job='vllm'"
L1 = "model_name='a',instance='l1',job='engine'"
L2 = "model_name='c',instance='l2',job='engine'"

VLLM_TTFT = "vllm:time_to_first_token_seconds"
OUR_TTFT = "loadline_time_to_first_token_seconds"

# value at the start and growth each 15 s
FLEET: dict[str, tuple[float, float]] = {
    f"vllm:generation_tokens_total{{{V1}}}": (0, 15),
    f"vllm:generation_tokens_total{{{V2}}}": (0, 30),
    f"vllm:generation_tokens_total{{{V3}}}": (0, 45),
    f"loadline_generation_tokens_total{{{L1}}}": (0, 60),
    f"loadline_generation_tokens_total{{{L2}}}": (0, 75),
    f"vllm:num_requests_running{{{V1}}}": (2, 0),
    f"vllm:num_requests_running{{{V2}}}": (4, 0),
    f"vllm:num_requests_running{{{V2.replace('0', '1')}}}": (1, 0),
    f"vllm:num_requests_running{{{V3}}}": (8, 0),
    f"loadline_num_requests_running{{{L1}}}": (5, 0),
    f"loadline_num_requests_running{{{L2}}}": (6, 0),
    f"vllm:kv_cache_usage_perc{{{V1}}}": (0.2, 0),
    f"vllm:gpu_cache_usage_perc{{{V1}}}": (0.2, 0),
    f"vllm:gpu_cache_usage_perc{{{V2}}}": (0.4, 0),
    f"loadline_kv_cache_usage_ratio{{{L1}}}": (0.9, 0),
    f"loadline_kv_cache_blocks{{{L1}}}": (100, 0),
    f"loadline_kv_cache_block_size_tokens{{{L1}}}": (16, 0),
    f"loadline_kv_cache_blocks{{{L2}}}": (200, 0),
    f"loadline_kv_cache_block_size_tokens{{{L2}}}": (16, 0),
    # TTFT of a on vLLM: half of 10 each 15 s below 0.25 s, the rest below 0.5 s
    **{
        f"{VLLM_TTFT}_bucket{{le='{le}',{V1}}}": (0, growth)
        for le, growth in {"0.1": 0, "0.25": 5, "0.5": 10, "0.75": 10, "1.0": 10, "+Inf": 10}.items()
    },
    f"{VLLM_TTFT}_sum{{{V1}}}": (0, 3),
    f"{VLLM_TTFT}_count{{{V1}}}": (0, 10),
    # and on our engine: 30 each 15 s, all between 0.8 s and 1 s
    **{
        f"{OUR_TTFT}_bucket{{le='{le}',{L1}}}": (0, growth)
        for le, growth in {"0.25": 0, "0.5": 0, "0.8": 0, "1.0": 30, "+Inf": 30}.items()
    },
    f"{OUR_TTFT}_sum{{{L1}}}": (0, 27),
    f"{OUR_TTFT}_count{{{L1}}}": (0, 30),
    # errors: a on vLLM fails 1 of 10, c on ours has never failed
    f"vllm:request_success_total{{finished_reason='stop',{V1}}}": (0, 9),
    f"vllm:request_success_total{{finished_reason='error',{V1}}}": (0, 1),
    f"loadline_request_success_total{{finished_reason='stop',{L2}}}": (0, 20),
    f"loadline_request_errors_total{{reason='step_failed',{L1}}}": (0, 5),
    f"loadline_request_success_total{{finished_reason='stop',{L1}}}": (0, 5),
    f"loadline_step_time_seconds_sum{{{L1}}}": (0, 12),
    f"loadline_step_time_seconds_count{{{L1}}}": (0, 300),
}

BOTH = Vocabulary.of([dialect for dialect in load_dialects() if dialect.engine in ("vllm", "loadline")])

Answer = Mapping[str, float]

CASES: dict[str, tuple[str, Answer]] = {
    "rates of a pool on both engines add up": (
        BOTH.rate("generated_tokens"), {"a": 1 + 2 + 4, "b": 3, "c": 5},
    ),
    "the whole fleet is one number": (BOTH.rate("generated_tokens", by=()), {"": 15}),
    "a pool may be picked by its canonical name": (BOTH.rate("generated_tokens", where='pool="a"'), {"a": 7}),
    "an increase counts what came in the window": (BOTH.increase("generated_tokens", "2m", by=()), {"": 1800}),
    "gauges of a pool add up": (BOTH.gauge("running_requests"), {"a": 12, "b": 8, "c": 6}),
    "the greatest gauge": (BOTH.gauge("running_requests", "max"), {"a": 5, "b": 8, "c": 6}),
    "the least gauge": (BOTH.gauge("running_requests", "min"), {"a": 1, "b": 8, "c": 6}),
    "an average is over all series of all engines": (BOTH.gauge("kv_usage", "avg"), {"a": (0.2 + 0.4 + 0.9) / 3}),
    "an old name beside the new one counts once": (
        BOTH.gauge("kv_usage", "sum", where='instance=~"v."'), {"a": 0.2 + 0.4},
    ),
    "capacity is blocks times their size": (BOTH.gauge("kv_capacity"), {"a": 1600, "c": 3200}),
    "replicas are servers, not series": (BOTH.replicas(), {"a": 3, "b": 1, "c": 1}),
    "all replicas": (BOTH.replicas(by=()), {"": 5}),
    "a mean is over all observations": (BOTH.mean("ttft"), {"a": 30 / 40}),
    "a quantile of two engines is the worse one": (
        BOTH.quantile("ttft", 0.5), {"a": 0.9, "b": math.nan, "c": math.nan},
    ),
    "a quantile of one engine": (BOTH.quantile("ttft", 0.75, where='instance="v1"'), {"a": 0.375}),
    "a share below a bound is exact": (BOTH.fraction_below("ttft", 0.5), {"a": 10 / 40}),
    "a share between bounds is interpolated for each engine": (  # 0.8 is our bound, and between 0.75 and 1 on vLLM
        BOTH.fraction_below("ttft", 0.9, where='instance="l1"'), {"a": 0.5},
    ),
    "a share above every bound is everything": (BOTH.fraction_below("ttft", 1.0), {"a": 1.0}),
    "failures over all that ended": (
        BOTH.ratio("errors", "requests"), {"a": (1 + 5) / (10 + 10), "c": 0},
    ),
    "requests are counted once, however they ended": (BOTH.rate("requests"), {"a": 20 / 15, "c": 20 / 15}),
    "step time of the engine that has it": (BOTH.mean("step_time"), {"a": 0.04}),
    "observations per second": (BOTH.rate("ttft"), {"a": 40 / 15}),
}  # fmt: skip


def labels_of(text: str) -> Labels:
    selector = parse(text)
    assert isinstance(selector, VectorSelector)
    return from_mapping({matcher.name: matcher.value for matcher in selector.matchers})


class Fleet:
    """The fleet's series in memory."""

    def __init__(self) -> None:
        self.timestamps_ms = np.arange(STEPS + 1, dtype=np.int64) * STEP_S * 1000
        self.series = [
            (labels_of(text), start + growth * np.arange(STEPS + 1.0)) for text, (start, growth) in FLEET.items()
        ]

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> Sequence[SeriesGroup]:
        inside = (self.timestamps_ms >= start_ms) & (self.timestamps_ms <= end_ms)
        return [
            SeriesGroup((labels,), self.timestamps_ms[inside], values[inside][:, None])
            for labels, values in self.series
            if all_match(matchers, labels)
        ]


@pytest.mark.parametrize("case", CASES)
def test_a_builder_answers(case: str):
    query, wanted = CASES[case]
    result = Engine().instant(Fleet(), query, NOW_MS)
    found = {get(series.labels, "pool"): float(series.values[-1]) for series in result.series}
    assert {name for series in result.series for name, _ in series.labels} <= {"pool"}
    wanted = {pool: value for pool, value in wanted.items() if pool in found or not math.isnan(value)}
    assert found == pytest.approx(wanted, nan_ok=True)


def test_buckets_keep_engines_apart():
    result = Engine().instant(Fleet(), BOTH.buckets("ttft", by=("pool",)), NOW_MS)
    found = {(get(s.labels, "dialect"), get(s.labels, "le")): float(s.values[-1]) for s in result.series}
    assert found["vllm", "+Inf"] == pytest.approx(10 / 15)
    assert found["loadline", "+Inf"] == pytest.approx(30 / 15)


def _peer(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed, and CI must run the peers")
        pytest.skip(f"{name} is not installed")
    return found


@pytest.mark.peer
def test_promtool_answers_the_same(tmp_path: Path):
    series = [{"series": text, "values": f"{start}+{growth}x{STEPS}"} for text, (start, growth) in FLEET.items()]
    checks = [
        {
            "expr": f"round({query}, 0.000001)",
            "eval_time": f"{NOW_MS // 1000}s",
            "exp_samples": [
                {"labels": f'{{pool="{pool}"}}' if pool else "{}", "value": round(value, 6)}
                for pool, value in wanted.items()
                if not math.isnan(value)
            ],
        }
        for query, wanted in CASES.values()
    ]
    suite = {"tests": [{"interval": f"{STEP_S}s", "input_series": series, "promql_expr_test": checks}]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(suite))
    command = [_peer("promtool"), "test", "rules", str(tmp_path / "test.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


@pytest.fixture
def victoria_metrics(tmp_path: Path) -> Iterator[str]:
    """Address of a real VictoriaMetrics."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [_peer("victoria-metrics"), f"-storageDataPath={tmp_path}", f"-httpListenAddr={address}"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://{address}/health", trust_env=False).is_success:
                    break
            time.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.mark.peer
def test_victoria_metrics_answers_the_same(victoria_metrics: str):
    end_s = int(time.time()) - 60
    times_ms = [(end_s - STEP_S * (STEPS - step)) * 1000 for step in range(STEPS + 1)]
    lines = [
        orjson.dumps({"metric": dict(labels), "values": values.tolist(), "timestamps": times_ms})
        for labels, values in Fleet().series
    ]
    with httpx.Client(base_url=victoria_metrics, trust_env=False) as client:
        client.post("/api/v1/import", content=b"\n".join(lines)).raise_for_status()
        client.get("/internal/force_flush").raise_for_status()
        for case, (query, wanted) in CASES.items():
            answer = client.get("/api/v1/query", params={"query": query, "time": str(end_s)}).json()
            assert answer["status"] == "success", (case, answer)
            found = {one["metric"].get("pool", ""): float(one["value"][1]) for one in answer["data"]["result"]}
            expected = {pool: value for pool, value in wanted.items() if not math.isnan(value)}
            assert found == pytest.approx(expected), case
