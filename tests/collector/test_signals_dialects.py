from pathlib import Path

import httpx
import pytest

from alerts.responses.response import Response
from alerts.telemetry import Telemetry
from collector.host.catalog import METRICS as MACHINE_METRICS
from collector.promql import parse, selectors
from collector.signals import SIGNALS, DocumentError, load_dialects, names_known, read_dialect, series_known
from probe_engine.telemetry.catalog import METRICS

MINIMAL = """
engine: e
title: E
labels: {pool: model}
marks: [e_up]
signals:
  running_requests:
    - {metric: e_running, type: gauge, unit: requests}
"""


def dialect(name: str):
    return next(dialect for dialect in load_dialects() if dialect.engine == name)


def test_all_dialects_can_be_read_and_have_names_of_their_own():
    engines = [dialect.engine for dialect in load_dialects()]
    assert {"loadline", "vllm", "nvml", "host", "scrape", "dcgm"} <= set(engines)
    assert len(set(engines)) == len(engines)


def test_every_signal_is_in_some_dialect():
    exposed = {signal for each in load_dialects() for signal in each.signals}
    assert set(SIGNALS) == exposed


@pytest.mark.parametrize("engine", ["loadline", "vllm"])
def test_an_engine_says_of_every_engine_signal_whether_and_why_not(engine: str):
    own = dialect(engine)
    elsewhere = ("gpu_", "host_", "process_", "container_", "cache_", "vector_", "load_line", "target_", "scrape_")
    wanted = {name for name in SIGNALS if not name.startswith(elsewhere)}
    assert set(own.signals) | set(own.not_exposed) == wanted


def test_our_own_dialect_says_what_the_engine_declares():
    declared = {metric.name: metric for metric in METRICS}
    own = dialect("loadline")
    mentioned = {metric for found in own.signals.values() for each in found for metric in each.metrics()}
    assert mentioned | own.also == set(declared)
    for signal, candidates in own.signals.items():
        for candidate in candidates:
            metric = declared[candidate.metric]
            kind = "gauge" if candidate.kind == "info" else candidate.kind
            assert (metric.kind, metric.buckets) == (kind, candidate.buckets), signal


def shown_on(page: str) -> set[str]:
    names = {line.split("{")[0].split(" ")[0] for line in page.splitlines() if line and not line.startswith("#")}
    return {name for name in names if not name.endswith("_created")}


def test_the_collector_has_no_metric_that_is_not_known(api: httpx.Client):
    names = shown_on(api.get("/metrics").text)
    assert any(name.startswith("loadline_collector_") for name in names)
    assert {name for name in names if name.startswith("loadline_")} == dialect("collector").names()


def test_host_and_gpu_telemetry_is_known():
    assert {metric.name for metric in MACHINE_METRICS} == dialect("host").names() | dialect("nvml").names()


def test_the_alerts_process_has_no_metric_that_is_not_known():
    telemetry = Telemetry()
    telemetry.evaluated("g", 0.1, 1, 1)
    telemetry.missed("g", 1)
    for count in (telemetry.sent, telemetry.failed, telemetry.dropped):
        count("r", 1)
    done = Response("1", "restart", "restart", "automatic", "acted", "Down", "g", "f", (), "", "", 0.0, 0.0)
    telemetry.responded(done, "acted")
    page = telemetry.page({"firing": 0}, {"r": 0}, 0).decode()
    assert {name for name in shown_on(page) if name.startswith("loadline_")} == dialect("alerts").names()


def test_vllms_dialect_names_only_what_a_real_server_shows(shared_data: Path):
    page = (shared_data / "expositions" / "vllm-0.32.0.prom").read_text()
    shown = shown_on(page)
    for signal, candidates in dialect("vllm").signals.items():
        for candidate in candidates:
            if candidate.default_on:
                end = "_bucket" if candidate.kind == "histogram" else ""
                assert candidate.metric + end in shown, signal


def test_vllms_bucket_bounds_are_those_of_a_real_server(shared_data: Path):
    page = (shared_data / "expositions" / "vllm-0.32.0.prom").read_text()
    bounds: dict[str, list[float]] = {}
    for line in page.splitlines():
        name, _, rest = line.partition("_bucket{")
        if rest and 'le="+Inf"' not in rest:
            bounds.setdefault(name, []).append(float(rest.split('le="')[1].split('"')[0]))
    for candidates in dialect("vllm").signals.values():
        for candidate in candidates:
            shown = bounds.get(candidate.metric)
            if shown is not None:  # lengths are capped at the model's
                assert tuple(sorted(set(shown))) == candidate.buckets[: len(set(shown))]


def test_the_older_servers_families_are_known_too(shared_data: Path):
    families_026 = (shared_data / "expositions" / "vllm-0.26.0.families.txt").read_text().split()
    ours = {name for name in families_026 if name.startswith("vllm:")}
    assert ours
    known = names_known()
    assert {name for name in ours if name not in known and f"{name}_total" not in known} == set()


def test_known_names_hold_families_and_their_series():
    known, series = names_known(), series_known()
    family = "loadline_time_to_first_token_seconds"
    assert {family, f"{family}_bucket", f"{family}_sum", f"{family}_count"} <= known
    assert family not in series
    assert f"{family}_bucket" in series


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("marks: [e_up]", ""), "2:1: dialect: field 'marks' is missing"),
        (("running_requests:", "runing_requests:"), "7:3: no signal is called 'runing_requests'"),
        (("type: gauge", "type: counter"), "8:33: signals.running_requests[0].type is 'counter', but signal"),
        (("type: gauge", "type: meter"), "type is 'meter'; allowed are histogram, summary, sums, counter, gauge, info"),
        (("unit: requests}", "unit: requests, factor: 0}"), 'factor is "0"; it must be a positive number'),
        (("unit: requests}", "unit: requests, default_on: false}"), "flag must say what switches it on"),
        (("unit: requests}", "unit: requests, sparse: 3}"), 'sparse is "3"; it must be true or false'),
        (("unit: requests}", "unit: requests, buckets: [2, 1]}"), "bounds must rise"),
        (("unit: requests}", "unit: requests, bucket: []}"), "field 'bucket' is unknown; allowed are metric, type"),
        (("- {metric: e_running, type: gauge, unit: requests}", "[]"), "signals.running_requests: has no candidate"),
        (("labels: {pool: model}", "labels: 3"), '4:9: labels is "3"; it must be a mapping'),
        (("engine: e", "engine: e\nnot_exposed: {running_requests: no}"), "says that it is exposed"),
    ],
)
def test_what_is_wrong_in_a_dialect_is_told_with_its_place(change: tuple[str, str], reason: str):
    assert read_dialect(MINIMAL, "e.yaml").pool_label == "model"
    with pytest.raises(DocumentError) as caught:
        read_dialect(MINIMAL.replace(*change), "e.yaml")
    assert str(caught.value).startswith("e.yaml:")
    assert reason in str(caught.value)


@pytest.mark.parametrize("file", ["dynamo-1.6.1-frontend", "dynamo-1.6.1-mocker-worker", "litellm-1.99.4"])
def test_bucket_bounds_and_types_are_those_of_a_real_server(file: str, shared_data: Path):
    page = (shared_data / "expositions" / f"{file}.prom").read_text()
    types = {line.split()[2]: line.split()[3] for line in page.splitlines() if line.startswith("# TYPE")}
    bounds: dict[str, set[float]] = {}
    for line in page.splitlines():
        name, _, rest = line.partition("_bucket{")
        if rest and 'le="+Inf"' not in rest:
            bounds.setdefault(name, set()).add(float(rest.split('le="')[1].split('"')[0]))
    compared = 0
    for candidate in (one for each in load_dialects() for found in each.signals.values() for one in found):
        if candidate.metric in bounds and candidate.buckets and not candidate.metric.startswith("vllm:"):
            assert tuple(sorted(bounds[candidate.metric])) == candidate.buckets, candidate.metric
        if candidate.metric in types:
            assert types[candidate.metric] == candidate.shape, candidate.metric
            compared += 1
    assert compared >= 5


def test_every_expression_of_a_gauge_names_what_the_candidate_says():
    for each in load_dialects():
        for candidate in (one for found in each.signals.values() for one in found if one.expr):
            for where in ("", 'a="b"'):
                named = {selector.name for selector in selectors(parse(candidate.expr.replace("$where", where)))}
                assert named == {candidate.metric, *candidate.needs}, each.engine


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("engine: e\ntitle: E\nlike: nothing\nmarks: [x]", 'like is "nothing"; no dialect is called so'),
        (MINIMAL + "layer: cloud", 'layer is "cloud"; allowed are device, engine, router, gateway'),
        (MINIMAL + "family: {name: f}", "family: field 'by' is missing"),
        (MINIMAL + "endpoint: {port: high}", 'endpoint.port is "high"; it must be a number'),
        (MINIMAL.replace("unit: requests}", "unit: requests, count: c}"), "count names the counter of observations"),
        (
            MINIMAL.replace("running_requests:", "errors:").replace(
                "type: gauge, unit: requests}", "type: counter, unit: requests, expr: e}"
            ),
            "expr is for gauges",
        ),
    ],
)
def test_what_is_wrong_in_a_dialects_relations_is_told(text: str, reason: str):
    with pytest.raises(DocumentError) as caught:
        read_dialect(text, "e.yaml")
    assert reason in str(caught.value)
