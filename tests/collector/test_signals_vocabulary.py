import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from collector.promql import parse, selectors
from collector.signals import (
    SIGNALS,
    NotExposed,
    Present,
    SignalAbsent,
    SignalError,
    SwitchedOff,
    UnknownSignal,
    Vocabulary,
    detect,
    load_dialects,
    read_dialect,
    series_known,
)
from collector.signals.promql import le_matcher, translate_where

ALL = load_dialects()


def only(*engines: str) -> Vocabulary:
    return Vocabulary.of([dialect for dialect in ALL if dialect.engine in engines])


FLEETS = {
    "one engine": only("vllm"),
    "two engines": only("vllm", "loadline"),
    "everything": Vocabulary.of(ALL),
}

BUILDERS: dict[str, list[Callable[[Vocabulary, str, tuple[str, ...]], str]]] = {
    "counter": [
        lambda v, signal, by: v.rate(signal, by=by),
        lambda v, signal, by: v.increase(signal, "1h", by=by, where='pool=~"a.*",instance!="x"'),
        lambda v, signal, by: v.ratio(signal, signal, by=by),
    ],
    "gauge": [
        *(lambda v, signal, by, agg=agg: v.gauge(signal, agg, by=by) for agg in ("sum", "avg", "max", "min")),
    ],
    "histogram": [
        lambda v, signal, by: v.quantile(signal, 0.95, by=by),
        lambda v, signal, by: v.mean(signal, by=by),
        lambda v, signal, by: v.fraction_below(signal, 0.7, by=by),
        lambda v, signal, by: v.fraction_below(signal, 1e9, by=by),
        lambda v, signal, by: v.buckets(signal, by=by),
        lambda v, signal, by: v.rate(signal, by=by, part="sum"),
        lambda v, signal, by: v.increase(signal, by=by),
    ],
    "info": [lambda v, signal, by: v.info(signal, 'pool="a"')],
}


def all_queries() -> list[str]:
    queries = []
    for vocabulary in FLEETS.values():
        queries += [vocabulary.replicas(), vocabulary.replicas(by=())]
        groupings = [("pool", "instance"), ("pool",), ()][: 1 if len(vocabulary.dialects) > 2 else 3]
        for name, signal in SIGNALS.items():
            if not vocabulary.present(name):
                continue
            for builder in BUILDERS[signal.kind]:
                queries += [builder(vocabulary, name, by) for by in groupings]
    return queries


def test_every_builder_gives_promql_that_names_only_known_series():
    known = series_known()
    queries = all_queries()
    assert len(queries) > 500
    for query in queries:
        assert {selector.name for selector in selectors(parse(query))} <= known, query


def _peer(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed, and CI must run the peers")
        pytest.skip(f"{name} is not installed")
    return found


def _as_rules(path: Path) -> Path:
    rules = [{"record": f"q{number}", "expr": query} for number, query in enumerate(all_queries())]
    path.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    return path


@pytest.mark.peer
def test_prometheus_2_42_reads_every_builders_text(tmp_path: Path):
    rules = _as_rules(tmp_path / "rules.yml")
    done = subprocess.run([_peer("promtool"), "check", "rules", rules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.peer
def test_victoria_metrics_reads_every_builders_text(tmp_path: Path):
    rules = _as_rules(tmp_path / "rules.yml")
    command = [_peer("vmalert"), "-dryRun", f"-rule={rules}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_one_engine_is_asked_without_ado():
    vocabulary = only("vllm")
    assert vocabulary.rate("generated_tokens", by=()) == "sum(rate(vllm:generation_tokens_total[1m]))"
    assert vocabulary.gauge("waiting_requests", by=("instance",)) == "sum by (instance) (vllm:num_requests_waiting)"
    assert vocabulary.rate("generated_tokens", "5m") == (
        "sum by (pool) (label_replace(sum by (model_name) (rate(vllm:generation_tokens_total[5m])), "
        '"pool", "$1", "model_name", "(.*)"))'
    )


def test_a_renamed_metric_is_asked_for_under_both_names_that_the_source_holds():
    old, new = "vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc"
    mark = "vllm:num_requests_running"
    assert detect([mark, old]).gauge("kv_usage", "max", by=()) == f"max({old})"
    assert detect([mark, new]).gauge("kv_usage", "max", by=()) == f"max({new})"
    assert detect([mark, new, old]).gauge("kv_usage", "max", by=()) == f"max({new} or {old})"


def test_detection_goes_by_what_the_source_holds(shared_data: Path):
    page = (shared_data / "expositions" / "vllm-0.32.0.prom").read_text()
    names = {line.split("{")[0].split(" ")[0] for line in page.splitlines() if line and not line.startswith("#")}
    vocabulary = detect(names | {"up"})
    assert [dialect.engine for dialect in vocabulary.dialects] == ["scrape", "vllm"]
    status = vocabulary.status("ttft")
    assert isinstance(status, Present)
    assert (status.dialects, status.metrics) == (("vllm",), ("vllm:time_to_first_token_seconds",))
    assert isinstance(vocabulary.status("step_time"), NotExposed)
    assert isinstance(vocabulary.status("kv_block_lifetime"), SwitchedOff)
    assert isinstance(vocabulary.status("gpu_power"), NotExposed)


def test_a_signal_has_three_states_and_says_which():
    running = "vllm:num_requests_running"
    vllm = detect([running])
    assert vllm.present("running_requests")
    assert str(vllm.status("kv_block_lifetime")) == (
        "switched off: vLLM exposes vllm:kv_block_lifetime_seconds only with --kv-cache-metrics"
    )
    assert vllm.status("kv_block_lifetime") == SwitchedOff(
        "--kv-cache-metrics", "vLLM exposes vllm:kv_block_lifetime_seconds only with --kv-cache-metrics"
    )
    assert str(vllm.status("step_time")) == "not exposed: vLLM does not expose the time of its engine steps"
    assert "vLLM exposes vllm:admission_rejections_total since 0.32.0; this source holds no such series" in str(
        vllm.status("rejections")
    )
    assert "nothing in the source (vLLM) exposes power drawn by the GPU" in str(vllm.status("gpu_power"))
    assert str(detect([]).status("ttft")) == "not exposed: the source holds no engine or exporter that is known"


def test_of_two_engines_one_that_lacks_a_signal_is_named():
    both = only("vllm", "loadline")
    status = both.status("step_time")
    assert isinstance(status, Present)
    assert (status.dialects, [engine for engine, _ in status.lacking]) == (("loadline",), ["vllm"])
    assert "vllm:" not in both.mean("step_time")


def test_a_builder_for_an_absent_signal_raises_with_its_status():
    with pytest.raises(SignalAbsent) as caught:
        only("vllm").mean("step_time")
    assert caught.value.status == NotExposed("vLLM does not expose the time of its engine steps")
    with pytest.raises(SignalAbsent):
        detect([]).replicas()


def test_a_sparse_signal_counts_as_present_before_its_first_event():
    text = """
    engine: e
    title: E
    labels: {}
    marks: [e_up]
    signals:
      errors:
        - {metric: e_errors_total, type: counter, unit: requests, sparse: true}
      rejections:
        - {metric: e_rejections_total, type: counter, unit: requests}
    """
    vocabulary = detect(["e_up"], [read_dialect(text, "e.yaml")])
    assert vocabulary.present("errors")
    assert not vocabulary.present("rejections")


def test_other_units_are_brought_to_the_canonical_one():
    new = detect(["DCGM_FI_DEV_GPU_TEMP_CELSIUS", "DCGM_FI_DEV_FB_USED_BYTES"])
    old = detect(["DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_GPU_UTIL"])
    assert new.gauge("gpu_memory_used", by=()) == "sum(DCGM_FI_DEV_FB_USED_BYTES)"
    assert old.gauge("gpu_memory_used", by=()) == "(1048576 * sum(DCGM_FI_DEV_FB_USED))"
    assert old.gauge("gpu_utilization", "avg", by=("gpu",)) == "(0.01 * avg by (gpu) (DCGM_FI_DEV_GPU_UTIL))"
    assert "max by (uuid) (label_replace(max by (UUID) (" in old.gauge("gpu_temperature", "max", by=("uuid",))


def test_servers_of_two_versions_are_both_asked():
    mixed = only("dcgm").gauge("gpu_memory_used", by=())
    assert "sum(DCGM_FI_DEV_FB_USED_BYTES)" in mixed
    assert "(1048576 * sum(DCGM_FI_DEV_FB_USED))" in mixed
    status = only("dcgm").status("gpu_memory_used")
    assert isinstance(status, Present)
    assert status.dialects == ("dcgm",)


def test_a_candidate_of_another_definition_is_only_a_fallback():
    text = """
    engine: e
    title: E
    labels: {}
    marks: [e_up]
    signals:
      prompt_tokens:
        - {metric: e_prompt_total, type: counter, unit: tokens, definition: total}
        - {metric: e_computed_total, type: counter, unit: tokens, definition: computed}
    """
    dialect = read_dialect(text, "e.yaml")
    both = detect(["e_up", "e_prompt_total", "e_computed_total"], [dialect])
    assert both.rate("prompt_tokens", by=()) == "sum(rate(e_prompt_total[1m]))"
    one = detect(["e_up", "e_computed_total"], [dialect])
    assert one.rate("prompt_tokens", by=()) == "sum(rate(e_computed_total[1m]))"
    status = one.status("prompt_tokens")
    assert isinstance(status, Present)
    assert status.definition == "computed"


def test_a_capacity_in_two_gauges_is_their_product():
    vocabulary = only("loadline")
    product = "loadline_kv_cache_blocks * loadline_kv_cache_block_size_tokens"
    assert vocabulary.gauge("kv_capacity", by=()) == f"sum({product})"
    assert not detect(["loadline_num_requests_running", "loadline_kv_cache_blocks"]).present("kv_capacity")


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (lambda v: v.rate("kv_usage"), "signal kv_usage is a gauge; rate() takes a counter or a histogram"),
        (lambda v: v.gauge("ttft"), "signal ttft is a histogram; a gauge is asked for"),
        (lambda v: v.quantile("errors", 0.5), "signal errors is a counter; a histogram is asked for"),
        (lambda v: v.quantile("ttft", 95), "quantile of ttft is 95; it must lie between 0 and 1"),
        (lambda v: v.gauge("kv_usage", "median"), "agg is 'median'; allowed are sum, avg, max, min"),
        (lambda v: v.fraction_below("ttft", 0), "threshold is 0; it must be positive"),
        (lambda v: v.rate("errors", where="pool=x"), "where is 'pool=x'; it must be matchers such as"),
        (lambda v: v.rate("errors", where='pool="x" or up'), "it must be matchers such as"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(ask, reason: str):
    with pytest.raises(SignalError) as caught:
        ask(only("vllm"))
    assert reason in str(caught.value)


def test_an_unknown_signal_is_refused():
    with pytest.raises(UnknownSignal, match="no signal is called 'latency'"):
        only("vllm").status("latency")


def test_matchers_are_translated_name_by_name():
    labels = {"pool": "model_name"}
    assert translate_where('pool="a,b", reason!~"x\\"y" ,instance="pool=1"', labels) == (
        'model_name="a,b",reason!~"x\\"y",instance="pool=1"'
    )
    assert translate_where("", labels) == ""


@given(st.text(alphabet='pol="\\,=~!{}ab ', max_size=30))
def test_matchers_never_reach_out_of_their_braces(where: str):
    try:
        text = only("vllm").gauge("kv_usage", by=(), where=where)
    except SignalError:
        return
    (selector, *rest) = selectors(parse(text)) if "=~" not in where and "!~" not in where else (None,)
    assert rest == [] or all(one.name.startswith("vllm:") for one in (selector, *rest))


@pytest.mark.parametrize(
    ("bound", "matcher"), [(0.5, 'le="0.5"'), (1.0, 'le=~"1|1\\\\.0"'), (1e6, 'le=~"1000000|1000000\\\\.0|1e\\\\+06"')]
)
def test_a_bucket_is_found_however_its_bound_is_spelt(bound: float, matcher: str):
    assert le_matcher(bound) == matcher
