"""What browsers and Grafana ask for beside the answers: packing, other origins, statistics."""

from collections.abc import Callable
from dataclasses import replace

import httpx
import numpy as np
import pytest
from starlette.types import ASGIApp

from collector.api.app import create_app
from collector.api.parts import Parts
from collector.client import Client
from collector.model.labels import from_mapping
from collector.model.series import Series

NOW_S = 1_700_000_000
ORIGIN = {"origin": "https://grafana.example"}


@pytest.fixture
def filled(parts: Parts) -> Parts:
    times = NOW_S * 1000 - 5000 * np.arange(100, 0, -1, dtype=np.int64)
    parts.store.append_series(
        [Series(from_mapping({"__name__": "a", "n": str(n)}), times, np.full(100, float(n))) for n in range(10)]
    )
    return parts


def asked(url: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{url}/api/v1/query?query=a[10m]", headers=headers, trust_env=False)


def test_answers_are_packed_for_those_who_take_gzip(filled: Parts, serve_app: Callable[[ASGIApp], str]) -> None:
    url = serve_app(create_app(filled))
    plain, packed = asked(url, **{"accept-encoding": "identity"}), asked(url, **{"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.json() == plain.json()
    assert int(packed.headers["content-length"]) * 4 < int(plain.headers["content-length"])


def test_the_client_asks_for_plain_answers_on_this_machine_only() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["accept-encoding"])
        return httpx.Response(200, json={"status": "success", "data": []})

    for url in ("http://127.0.0.1:9190", "http://prometheus:9090"):
        with Client(url, transport=httpx.MockTransport(answer)) as client:
            client.metric_names()
    assert seen[0] == "identity"
    assert "gzip" in seen[1]


def test_pages_of_named_origins_may_read_answers(filled: Parts, serve_app: Callable[[ASGIApp], str]) -> None:
    url = serve_app(create_app(filled, "secret", ["https://grafana.example"]))
    asking = ORIGIN | {"access-control-request-method": "GET", "access-control-request-headers": "authorization"}
    with httpx.Client(base_url=url, trust_env=False) as http:
        may = http.options("/api/v1/query", headers=asking)
        assert (may.status_code, may.headers["access-control-allow-origin"]) == (200, "https://grafana.example")
        read = http.get("/api/v1/query?query=1", headers=ORIGIN | {"authorization": "Bearer secret"})
        assert (read.status_code, read.headers["access-control-allow-origin"]) == (200, "https://grafana.example")
        other = http.get("/-/healthy", headers={"origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers
        assert http.get("/api/v1/query?query=1", headers=ORIGIN).status_code == 401


def test_without_an_origin_named_no_page_may_read(api: httpx.Client) -> None:
    assert "access-control-allow-origin" not in api.get("/-/healthy", headers=ORIGIN).headers


@pytest.mark.parametrize("path", ["query?query=sum(a)", f"query_range?query=a&start={NOW_S - 60}&end={NOW_S}&step=5"])
def test_statistics_are_told_where_they_are_asked_for(
    filled: Parts, serve_app: Callable[[ASGIApp], str], path: str
) -> None:
    with httpx.Client(base_url=serve_app(create_app(filled)), trust_env=False) as http:
        stats = http.get(f"/api/v1/{path}&stats=all").json()["data"]["stats"]
        samples = stats["samples"]
        assert samples["totalQueryableSamples"] == sum(count for _, count in samples["totalQueryableSamplesPerStep"])
        assert samples["totalQueryableSamples"] >= 10
        assert samples["peakSamples"] >= 10
        short = http.get(f"/api/v1/{path}&stats=1").json()["data"]["stats"]["samples"]
        assert short == {key: samples[key] for key in ("totalQueryableSamples", "peakSamples")}
        assert 0 < stats["timings"]["evalTotalTime"] <= stats["timings"]["execTotalTime"]
        assert "stats" not in http.get(f"/api/v1/{path}").json()["data"]


def test_names_may_be_dropped_at_the_end_of_a_query(filled: Parts, serve_app: Callable[[ASGIApp], str]) -> None:
    query = {"query": 'label_replace(rate(a{n="1"}[1m]), "kept", "$1", "__name__", "(.*)")'}
    kept = []
    for delayed in (False, True):
        url = serve_app(create_app(replace(filled, delayed_name_removal=delayed)))
        (one,) = httpx.get(f"{url}/api/v1/query", params=query, trust_env=False).json()["data"]["result"]
        kept.append(one["metric"].get("kept"))
    assert kept == [None, "a"]


def test_a_restart_can_be_seen_on_the_metrics_page(api: httpx.Client) -> None:
    page = api.get("/metrics").text
    for name in (
        "process_start_time_seconds",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
    ):
        assert f"\n{name} " in page
