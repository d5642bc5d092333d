"""The calls that Grafana's Prometheus data source makes, as it makes them."""

import httpx
import numpy as np
import pytest

from collector.api.parts import Parts
from collector.model.exemplars import Exemplar
from collector.model.labels import from_mapping
from collector.model.series import Series

NOW_S = 1_700_000_000

HEADERS = {
    "User-Agent": "Grafana/12.0.0",
    "X-Dashboard-Uid": "abc",
    "X-Datasource-Uid": "def",
    "X-Panel-Id": "2",
    "X-Grafana-Org-Id": "1",
    "X-Query-Group-Id": "q1",
    "FromAlert": "false",
    "Accept-Encoding": "gzip",
    "Content-Type": "application/x-www-form-urlencoded",
}
WINDOW = {"start": str(NOW_S - 3600), "end": str(NOW_S)}


@pytest.fixture
def grafana(api: httpx.Client, parts: Parts) -> httpx.Client:
    """A client with Grafana's headers, and something to see."""
    times = np.arange(NOW_S - 600, NOW_S + 1, 15, dtype=np.int64) * 1000
    for pool in "ab":
        labels = from_mapping({"__name__": "tokens_total", "pool": pool, "service.name": "engine"})
        parts.store.append_series([Series(labels, times, np.arange(len(times), dtype=np.float64))])
    parts.store.set_metadata("tokens_total", "counter", "Tokens.", "")
    api.headers.update(HEADERS)
    return api


def test_save_and_test_asks_for_one_plus_one_and_the_version(grafana: httpx.Client) -> None:
    answer = grafana.post("/api/v1/query", data={"query": "1+1", "time": f"{NOW_S}.123"}).json()
    assert answer["data"] == {"resultType": "scalar", "result": [NOW_S + 0.123, "2"]}
    build = grafana.get("/api/v1/status/buildinfo").json()["data"]
    assert (build["version"], build["application"]) == ("3.0.0", "Loadline")
    assert grafana.get("/-/healthy").text == "Loadline collector is healthy.\n"


def test_a_panel_asks_by_form(grafana: httpx.Client) -> None:
    form = {
        "query": "sum by (pool) (rate(tokens_total[1m0s]))",
        "start": f"{NOW_S - 300}",
        "end": f"{NOW_S}",
        "step": "15",
    }
    data = grafana.post("/api/v1/query_range", data=form).json()["data"]
    assert data["resultType"] == "matrix"
    assert [one["metric"] for one in data["result"]] == [{"pool": "a"}, {"pool": "b"}]
    assert {len(one["values"]) for one in data["result"]} == {21}
    instant = grafana.post("/api/v1/query", data={"query": "tokens_total", "time": f"{NOW_S}"}).json()["data"]
    assert [one["value"] for one in instant["result"]] == [[NOW_S, "40"]] * 2
    assert grafana.get("/api/v1/query_range", params=form).json()["data"] == data


def test_a_panel_asks_for_exemplars(grafana: httpx.Client, parts: Parts) -> None:
    form = {"query": 'rate(tokens_total{pool="a"}[1m]) / rate(tokens_total[1m])', **WINDOW}
    assert grafana.post("/api/v1/query_exemplars", data=form).json() == {"status": "success", "data": []}
    series = from_mapping({"__name__": "tokens_total", "pool": "a", "service.name": "engine"})
    made = [Exemplar(series, (("trace_id", f"{n}"),), n + 0.5, (NOW_S - 10 + n) * 1000 + 250) for n in range(2)]
    parts.store.append_exemplars(made)
    (found,) = grafana.get("/api/v1/query_exemplars", params=form).json()["data"]
    assert found["seriesLabels"] == dict(series)
    assert found["exemplars"] == [
        {"labels": {"trace_id": "0"}, "value": "0.5", "timestamp": NOW_S - 9.75},
        {"labels": {"trace_id": "1"}, "value": "1.5", "timestamp": NOW_S - 8.75},
    ]
    late = {**form, "start": str(NOW_S)}
    assert grafana.get("/api/v1/query_exemplars", params=late).json()["data"] == []


def test_the_query_builder_asks_for_names_labels_and_values(grafana: httpx.Client) -> None:
    names = grafana.get("/api/v1/label/__name__/values", params={**WINDOW, "limit": "40000"})
    assert names.json()["data"] == ["tokens_total"]
    labels = grafana.post("/api/v1/labels", data={**WINDOW, "match[]": 'tokens_total{pool="a"}'})
    assert labels.json()["data"] == ["__name__", "pool", "service.name"]
    few = grafana.post("/api/v1/labels", data={**WINDOW, "limit": "1"}).json()
    assert few["data"] == ["__name__"]
    assert few["warnings"] == ["results truncated due to limit"]
    pools = grafana.get("/api/v1/label/pool/values", params={**WINDOW, "match[]": '{__name__="tokens_total"}'})
    assert pools.json()["data"] == ["a", "b"]


def test_a_label_beyond_the_classic_names_is_asked_for_escaped(grafana: httpx.Client) -> None:
    assert grafana.get("/api/v1/label/U__service_2e_name/values", params=WINDOW).json()["data"] == ["engine"]
    assert grafana.get("/api/v1/label/U__a__b/values").json()["data"] == []
    bad = grafana.get("/api/v1/label/U__a_xyz/values")
    assert (bad.status_code, bad.json()["errorType"]) == (400, "bad_data")


def test_template_variables_ask_for_series(grafana: httpx.Client) -> None:
    for answer in (
        grafana.post("/api/v1/series", data={**WINDOW, "match[]": "tokens_total"}),
        grafana.get("/api/v1/series", params={**WINDOW, "match[]": "tokens_total"}),
    ):
        assert [one["pool"] for one in answer.json()["data"]] == ["a", "b"]


def test_the_editor_asks_for_metadata(grafana: httpx.Client) -> None:
    meaning = [{"type": "counter", "help": "Tokens.", "unit": ""}]
    assert grafana.get("/api/v1/metadata", params={"limit": "5000"}).json()["data"] == {"tokens_total": meaning}
    assert grafana.get("/api/v1/metadata?limit=0").json()["data"] == {}
    assert (
        grafana.get("/api/v1/metadata?metric=tokens_total&limit_per_metric=1").json()["data"]["tokens_total"] == meaning
    )


def test_alerting_asks_for_rules(grafana: httpx.Client) -> None:
    assert grafana.get("/api/v1/rules", params={"type": "alert"}).json()["data"]["groups"][0]["name"] == "slo"


def test_what_is_wrong_with_a_query_is_told_in_prometheus_shape(grafana: httpx.Client) -> None:
    answer = grafana.post("/api/v1/query_range", data={"query": "sum(", **WINDOW, "step": "15"})
    assert (answer.status_code, answer.json()["status"], answer.json()["errorType"]) == (400, "error", "bad_data")
    assert 'invalid parameter "query"' in answer.json()["error"]


def test_a_lookback_of_its_own(grafana: httpx.Client) -> None:
    form = {"query": "tokens_total", "time": f"{NOW_S + 60}"}
    assert len(grafana.post("/api/v1/query", data=form).json()["data"]["result"]) == 2
    assert grafana.post("/api/v1/query", data={**form, "lookback_delta": "30s"}).json()["data"]["result"] == []
