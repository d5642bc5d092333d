"""The client and our API beside the real Prometheus on the same samples."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.types import ASGIApp

from collector.api.app import create_app
from collector.api.parts import Parts
from collector.client import Client
from collector.model.errors import SourceError
from collector.model.labels import from_mapping
from collector.model.series import STALE_NAN, Series
from collector.scrape.configuration import Configuration
from collector.scrape.live import LiveConfiguration

pytestmark = pytest.mark.peer

STEP_S = 5
POINTS = 121


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, start_prometheus: Callable[..., AbstractContextManager[str]]
) -> Iterator[str]:
    """Address of a Prometheus that takes remote write and scrapes nothing."""
    folder = tmp_path_factory.mktemp("prometheus")
    configuration = "global: {external_labels: {site: here, pod: outside}}\nscrape_configs: []\n"
    with start_prometheus(folder, configuration, "--web.enable-remote-write-receiver") as url:
        yield url


@pytest.fixture(scope="module")
def start_s() -> int:
    """Ten minutes ago, on a whole minute: Prometheus takes recent samples only."""
    return (int(time.time()) - POINTS * STEP_S) // 60 * 60


@pytest.fixture(scope="module")
def samples(start_s: int) -> list[Series]:
    """Counters with a reset, gauges with special values, a histogram."""
    times = (start_s + STEP_S * np.arange(POINTS)) * 1000
    steps = np.arange(POINTS, dtype=np.float64)
    gauge = np.sin(steps) * 1e-5
    gauge[10], gauge[20], gauge[30], gauge[40] = np.inf, -np.inf, 1e21, 0.0

    def series(values: np.ndarray, **labels: str) -> Series:
        return Series(from_mapping({"__name__": labels.pop("name"), **labels}), times, values)

    made = [
        series(gauge, name="level"),
        series(np.where(steps < 60, steps, steps - 60) * 7.5, name="tokens_total", pod="a"),
    ]
    made.append(series(steps * 3, name="tokens_total", pod="b", path='with "quotes" and \\ and ünï'))
    made += [
        series(steps * share, name="ttft_seconds_bucket", le=bound)
        for bound, share in (("0.1", 1.0), ("0.5", 3.0), ("+Inf", 4.0))
    ]
    sizes = (1234567.0, 123456.0, 1e6, 1e21, 1e-4, 1.5e-5, np.inf, -np.inf, np.nan, 0.1, -0.0)
    made += [series(np.full(POINTS, size), name="sizes", place=str(place)) for place, size in enumerate(sizes)]
    made.append(series(np.where(steps < POINTS - 1, steps, STALE_NAN), name="gone"))
    return made


@pytest.fixture(scope="module")
def peer(prometheus: str, samples: list[Series]) -> Iterator[Client]:
    with Client(prometheus) as client:
        client.write(samples)
        yield client


@pytest.fixture(scope="module")
def ours(
    tmp_path_factory: pytest.TempPathFactory,
    opened_parts: Callable[[Path], AbstractContextManager[Parts]],
    served: Callable[[ASGIApp], AbstractContextManager[str]],
    samples: list[Series],
) -> Iterator[Client]:
    with (
        opened_parts(tmp_path_factory.mktemp("ours")) as parts,
        served(create_app(replace(parts, configuration=federating(), now_s=time.time))) as url,
        Client(url) as client,
    ):
        client.write(samples)
        yield client


def federating() -> LiveConfiguration:
    """The external labels of the peer."""
    live = LiveConfiguration()
    live.current = Configuration(external_labels=(("pod", "outside"), ("site", "here")))
    return live


QUERIES = [
    "level",
    "tokens_total",
    "sum(tokens_total)",
    "sum by (pod) (tokens_total)",
    "max_over_time(level[3m])",
    'tokens_total{path=~"with.*"}',
    "level > 0",
    "vector(1) / 0",
    "1 + 1",
]


@pytest.mark.parametrize("expr", QUERIES)
def test_instant_answers_are_equal(peer: Client, ours: Client, start_s: int, expr: str) -> None:
    # Half a second beside the grid: Prometheus 2 and 3 differ in what happens exactly at a range's edge.
    for moment_s in (start_s + 100.5, start_s + 333.5):
        theirs, mine = peer.query(expr, moment_s), ours.query(expr, moment_s)
        assert [(one.labels, one.timestamp_ms) for one in sorted_by_labels(mine)] == [
            (one.labels, one.timestamp_ms) for one in sorted_by_labels(theirs)
        ]
        np.testing.assert_allclose(
            [one.value for one in sorted_by_labels(mine)], [one.value for one in sorted_by_labels(theirs)], rtol=1e-12
        )


@pytest.mark.parametrize("expr", QUERIES)
def test_range_answers_are_equal(peer: Client, ours: Client, start_s: int, expr: str) -> None:
    theirs = peer.query_range(expr, start_s + 0.5, start_s + 590.5, 15)
    mine = ours.query_range(expr, start_s + 0.5, start_s + 590.5, 15)
    assert [one.labels for one in sorted_by_labels(mine)] == [one.labels for one in sorted_by_labels(theirs)]
    for left, right in zip(sorted_by_labels(mine), sorted_by_labels(theirs), strict=True):
        np.testing.assert_array_equal(left.timestamps_ms, right.timestamps_ms)
        np.testing.assert_allclose(left.values, right.values, rtol=1e-12)


def test_names_values_and_series_are_equal(peer: Client, ours: Client, start_s: int) -> None:
    end_s = start_s + 600
    assert (
        ours.metric_names() == peer.metric_names() == ("gone", "level", "sizes", "tokens_total", "ttft_seconds_bucket")
    )
    assert ours.label_values("pod", start_s, end_s) == peer.label_values("pod", start_s, end_s) == ("a", "b")
    matchers = ['tokens_total{pod="a"}', '{le!=""}']
    assert sorted(ours.series(matchers, start_s, end_s)) == sorted(peer.series(matchers, start_s, end_s))


def test_prometheus_keeps_no_spans_and_has_rules_alerts_and_targets(peer: Client) -> None:
    with pytest.raises(SourceError, match="keeps no spans"):
        peer.spans()
    assert (peer.rules(), peer.alerts(), peer.targets()) == ([], [], ())


RANGE = "/api/v1/query_range?query=level"
PAIRED = [
    "/api/v1/query?query=level&time={t}",
    "/api/v1/query?query=level*1e-3&time={t}",
    "/api/v1/query?query=scalar(sum(tokens_total))&time={t}",
    "/api/v1/query?query=%22text%22&time={t}",
    "/api/v1/query?query=level[20s]&time={t}.5",
    RANGE + "&start={t}&end={t}&step=1",
    RANGE + "&start={t}.5&end={u}.5&step=15s",
    RANGE + "&start={t}.123&end={u}&step=7.5",
    "/api/v1/labels",
    "/api/v1/labels?match[]=tokens_total&match[]=gone&start={t}&end={u}",
    "/api/v1/label/pod/values",
    "/api/v1/label/pod/values?match[]=tokens_total{{path=%22%22}}&start={t}.5&end={u}",
    "/api/v1/label/nothing/values",
    '/api/v1/series?match[]=tokens_total{{pod="a"}}&match[]=level&start={t}&end={u}',
    "/api/v1/series?match[]=nothing",
    "/api/v1/format_query?query=sum(rate(level[5m]))by(pod)*2",
    "/api/v1/query_exemplars?query=rate(tokens_total[5m])&start={t}&end={u}",
    "/api/v1/metadata",
    "/api/v1/metadata?metric=level&limit=3&limit_per_metric=1",
    "/api/v1/targets?state=active",
    "/api/v1/targets",
    "/api/v1/targets/metadata",
    "/api/v1/targets/metadata?metric=level",
]


@pytest.mark.parametrize("path", PAIRED)
def test_the_json_is_the_same_to_the_byte(peer: Client, ours: Client, start_s: int, path: str) -> None:
    asked = path.format(t=start_s + 50, u=start_s + 250)
    with httpx.Client(trust_env=False) as http:
        theirs, mine = http.get(peer.base_url + asked), http.get(ours.base_url + asked)
    assert mine.text == theirs.text
    assert mine.headers["content-type"] == theirs.headers["content-type"]


REFUSED = [
    "/api/v1/query?query=sum(",
    "/api/v1/query?query=level&time=yesterday",
    "/api/v1/query",
    RANGE,
    RANGE + "&start=1&end=0&step=1",
    RANGE + "&start=0&end=1&step=0",
    RANGE + "&start=0&end=1&step=abc",
    RANGE + "&start=0&end=20000&step=1",
    "/api/v1/series",
    "/api/v1/series?match[]=sum(level)",
    "/api/v1/labels?match[]={}",
    "/api/v1/labels?start=never",
    "/api/v1/label/pod/values?match[]=sum(x)",
    "/api/v1/label/pod/values?end=never",
    "/api/v1/series?match[]=level&start=x",
    "/api/v1/format_query?query=sum(",
    "/api/v1/format_query",
    "/api/v1/query_exemplars?query=sum(",
    "/api/v1/query_exemplars?query=level&start=2&end=1",
    "/api/v1/metadata?limit=few",
    "/api/v1/targets/metadata?match_target=sum(x)",
    "/api/v1/targets/metadata?limit=few",
    "/api/v1/query?query=level&timeout=soon",
    "/api/v1/query?query=level&timeout=0.000001s",
]


@pytest.mark.parametrize("path", REFUSED)
def test_what_prometheus_refuses_is_refused_in_the_same_way(peer: Client, ours: Client, path: str) -> None:
    with httpx.Client(trust_env=False) as http:
        theirs, mine = http.get(peer.base_url + path), http.get(ours.base_url + path)
    assert (mine.status_code, mine.json()["errorType"]) == (theirs.status_code, theirs.json()["errorType"])


FEDERATED = ["level", '{__name__=~"sizes|gone"}', 'tokens_total{pod="b"}', '{pod="none"}', '{le="0.1"}']


def test_federation_gives_the_same_page(peer: Client, ours: Client) -> None:
    with httpx.Client(trust_env=False) as http:
        theirs, mine = (http.get(f"{one.base_url}/federate", params={"match[]": FEDERATED}) for one in (peer, ours))
        none = [http.get(f"{one.base_url}/federate") for one in (peer, ours)]
        bad = [http.get(f"{one.base_url}/federate?match[]=sum(x)").status_code for one in (peer, ours)]
    assert sorted(mine.text.splitlines()) == sorted(theirs.text.splitlines())
    assert [line for line in mine.text.splitlines() if line[0] == "#"] == [
        line for line in theirs.text.splitlines() if line[0] == "#"
    ]
    assert "sizes" in mine.text and "gone" not in mine.text
    assert mine.headers["content-type"] == theirs.headers["content-type"]
    assert [(one.status_code, one.text) for one in none] == [(200, "")] * 2
    assert bad == [400, 400]


def test_figures_of_the_store_are_the_same(peer: Client, ours: Client) -> None:
    with httpx.Client(trust_env=False) as http:
        theirs, mine = (http.get(f"{one.base_url}/api/v1/status/tsdb").json()["data"] for one in (peer, ours))
    assert mine.keys() == theirs.keys()
    assert mine["headStats"].keys() == theirs["headStats"].keys()
    for key in ("seriesCountByMetricName", "labelValueCountByLabelName"):
        assert {one["name"]: one["value"] for one in mine[key]} == {one["name"]: one["value"] for one in theirs[key]}
    for key in ("numSeries", "numLabelPairs", "minTime", "maxTime"):
        assert mine["headStats"][key] == theirs["headStats"][key], key


def test_status_pages_have_the_same_fields(peer: Client, ours: Client) -> None:
    with httpx.Client(trust_env=False) as http:
        for page in ("buildinfo", "runtimeinfo", "config"):
            theirs, mine = (http.get(f"{one.base_url}/api/v1/status/{page}").json()["data"] for one in (peer, ours))
            assert theirs.keys() <= mine.keys()


PROMTOOL = [
    ["query", "instant", "--time={t}", "SERVER", "sort(tokens_total)"],
    ["query", "range", "--start={t}", "--end={u}", "--step=15s", "SERVER", 'tokens_total{pod="a"}'],
    ["query", "range", "--start={t}", "--end={u}", "--step=15s", "-o", "json", "SERVER", 'tokens_total{pod="b"}'],
    ["query", "series", '--match=tokens_total{pod="a"}', "--match=gone", "--start={t}", "--end={u}", "SERVER"],
    ["query", "labels", "SERVER", "pod"],
    ["query", "labels", "--match=tokens_total", "--start={t}", "--end={u}", "SERVER", "__name__"],
]


@pytest.mark.parametrize("command", PROMTOOL, ids=" ".join)
def test_promtool_gets_the_same_answers(peer: Client, ours: Client, start_s: int, command: list[str]) -> None:
    def run(url: str) -> tuple[int, str, str]:
        words = [word.replace("{t}", str(start_s + 50)).replace("{u}", str(start_s + 250)) for word in command]
        done = subprocess.run(
            ["promtool", *(url if word == "SERVER" else word for word in words)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, "\n".join(sorted(done.stdout.splitlines())), done.stderr

    theirs, mine = run(peer.base_url), run(ours.base_url)
    assert mine == theirs
    assert mine[0] == 0
    assert mine[1]


def sorted_by_labels(found):
    return sorted(found, key=lambda one: one.labels)
