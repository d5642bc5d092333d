import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from collector.model.errors import QueryError
from collector.model.labels import Labels, from_mapping
from collector.model.remote_write import CONTENT_HEADERS, encode
from collector.model.series import STALE_NAN, Series
from collector.promql import Engine

SPEC = importlib.util.spec_from_file_location("promql_cases", Path(__file__).with_name("promql_cases.py"))
assert SPEC and SPEC.loader
cases = importlib.util.module_from_spec(SPEC)
sys.modules["promql_cases"] = cases
SPEC.loader.exec_module(cases)

pytestmark = pytest.mark.peer

START_MS = 1_700_000_000_000
STEP_MS = 15_000
SAMPLES = 300
QUERY_TIMES_MS = (START_MS + 3_600_000, START_MS + 4_200_000, 30_000)
BOUNDS = ("0.005", "0.01", "0.05", "0.1", "0.5", "1", "+Inf")

Points = dict[int, float]


def demo_series() -> dict[Labels, Points]:
    """Series of the names and labels that the compliance queries ask for, a counter restart and gaps among them."""
    rng = np.random.default_rng(3)
    times = START_MS + STEP_MS * np.arange(SAMPLES)
    out: dict[Labels, Points] = {}

    def add(name: str, values: np.ndarray, **labels: str) -> None:
        points = dict(zip(times.tolist(), values.tolist(), strict=True))
        out[from_mapping({"__name__": name, "job": "demo", **labels})] = points

    for port in ("10000", "10001", "10002"):
        instance = f"demo.promlabs.com:{port}"
        for kind in ("used", "free", "cached", "buffers"):
            add("demo_memory_usage_bytes", np.round(rng.uniform(1e8, 4e9, SAMPLES)), instance=instance, type=kind)
        for mode in ("user", "system", "idle"):
            used = np.cumsum(rng.exponential(2.0, SAMPLES))
            used[170:] -= used[169]
            add("demo_cpu_usage_seconds_total", used, instance=instance, mode=mode)
        add("demo_num_cpus", np.full(SAMPLES, 4.0), instance=instance)
        add("demo_disk_usage_bytes", np.cumsum(rng.uniform(1e3, 9e3, SAMPLES)), instance=instance)
        seen = (times // 60_000 * 60 - 30.0).astype(float)
        add("demo_batch_last_success_timestamp_seconds", seen, instance=instance)
        for path in ("/api/foo", "/api/bar"):
            shares = np.cumsum(rng.poisson(3.0, (len(BOUNDS), SAMPLES)), axis=1).cumsum(axis=0).astype(float)
            for bound, counts in zip(BOUNDS, shares, strict=True):
                name = "demo_api_request_duration_seconds_bucket"
                add(name, counts, instance=instance, le=bound, path=path, method="GET", status="200")
            add("demo_api_request_duration_seconds_count", shares[-1], instance=instance, path=path)
    gaps = np.where(np.arange(SAMPLES) % 40 < 25, 1.0, STALE_NAN)
    add("demo_intermittent_metric", gaps, instance="demo.promlabs.com:10000")
    return out


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prometheus that holds ``demo_series``; gives its address."""
    binary = shutil.which("prometheus")
    if binary is None:
        if os.environ.get("CI") == "true":
            pytest.fail("prometheus is not installed")
        pytest.skip("prometheus is not installed")
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "prometheus.yml").write_text("global: {evaluation_interval: 1m}\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [binary, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver"]
    command += ["--storage.tsdb.retention.time=100y", "--enable-feature=promql-per-step-stats"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_ready(address)
        body = encode(
            Series(labels, np.array(list(points)), np.array(list(points.values())))
            for labels, points in demo_series().items()
        )
        httpx.post(f"{address}/api/v1/write", content=body, headers=CONTENT_HEADERS).raise_for_status()
        yield address
    finally:
        process.kill()
        process.wait()


def wait_until_ready(address: str) -> None:
    for _ in range(200):
        try:
            if httpx.get(f"{address}/-/ready").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    pytest.fail("prometheus did not become ready")


def peer_answer(client: httpx.Client, query: str) -> dict[Labels, Points] | None:
    start, end, step = QUERY_TIMES_MS
    params = {"query": query, "start": str(start / 1000), "end": str(end / 1000), "step": str(step / 1000)}
    reply = client.post("/api/v1/query_range", data=params).json()
    if reply["status"] != "success":
        return None
    return {
        from_mapping(one["metric"]): {round(time_s * 1000): float(value) for time_s, value in one["values"]}
        for one in reply["data"]["result"]
    }


def our_answer(engine: Engine, querier: object, query: str) -> dict[Labels, Points] | None:
    try:
        result = engine.range(querier, query, *QUERY_TIMES_MS)  # type: ignore[arg-type]
    except QueryError:
        return None
    return {
        one.labels: dict(zip(one.timestamps_ms.tolist(), one.values.tolist(), strict=True)) for one in result.series
    }


def first_difference(ours: dict[Labels, Points] | None, theirs: dict[Labels, Points] | None) -> str | None:
    if ours is None or theirs is None:
        return None if ours is theirs else f"ours {'failed' if ours is None else 'answered'}, theirs did not"
    if set(ours) != set(theirs):
        return (
            f"labels differ: ours {sorted(set(ours) - set(theirs))[:2]}, theirs {sorted(set(theirs) - set(ours))[:2]}"
        )
    for labels, points in theirs.items():
        if set(points) != set(ours[labels]):
            return f"times differ for {labels}: {len(ours[labels])} and {len(points)} points"
        for moment, value in points.items():
            if not cases.is_close(ours[labels][moment], value, 5e-10):
                return f"{ours[labels][moment]!r} instead of {value!r} at {moment} for {labels}"
    return None


def test_compliance_queries_get_the_answers_of_prometheus_2(prometheus: str, shared_data: Path) -> None:
    queries = json.loads((shared_data / "compliance" / "expanded.json").read_text())
    engine = Engine(left_open=False)
    querier = cases.MemoryQuerier(demo_series())
    wrong = []
    filled = 0
    with httpx.Client(base_url=prometheus, timeout=10.0) as client:
        for query, _ in queries:
            ours = our_answer(engine, querier, query)
            filled += bool(ours)
            why = first_difference(ours, peer_answer(client, query))
            if why:
                wrong.append(f"{query}\n      {why}")
    assert filled > 400
    assert not wrong, f"{len(wrong)} of {len(queries)} differ:\n" + "\n".join(wrong)


def test_samples_are_counted_step_by_step_as_prometheus_counts_them(prometheus: str, shared_data: Path) -> None:
    queries = json.loads((shared_data / "compliance" / "expanded.json").read_text())
    engine = Engine(left_open=False, count_steps=True)
    querier = cases.MemoryQuerier(demo_series())
    start, end, step = QUERY_TIMES_MS
    wrong, counted = [], 0
    with httpx.Client(base_url=prometheus, timeout=10.0) as client:
        for query, _ in queries:
            if our_answer(engine, querier, query) is None:
                continue
            params = {"query": query, "start": start / 1000, "end": end / 1000, "step": step / 1000, "stats": "all"}
            theirs = client.get("/api/v1/query_range", params=params).json()["data"]["stats"]["samples"]
            assert engine.effort is not None
            assert engine.effort.looked_at is not None
            ours = [*zip((engine.effort.times_ms / 1000).tolist(), engine.effort.looked_at.tolist(), strict=True)]
            counted += theirs["totalQueryableSamples"] > 0
            if ours != [tuple(one) for one in theirs.get("totalQueryableSamplesPerStep") or []]:
                wrong.append(f"{query}: {ours[:2]}, theirs {str(theirs)[:160]}")
    assert counted > 400
    assert not wrong, f"{len(wrong)} of {len(queries)} differ:\n" + "\n".join(wrong)
