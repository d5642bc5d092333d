"""PromQL side by side with the real Prometheus: the same data, the same queries, answers compared, times taken.

    python tests/bench/promql_vs_prometheus.py [--ours http://127.0.0.1:9190] [--prometheus /usr/bin/prometheus]

Without ``--ours`` our engine runs in this process, over matrices in memory: no HTTP, no JSON, no store, so those ratios
are an upper bound. With it, data go to both by remote write and both are asked over HTTP. The Prometheus is started
here, on a free port, and stopped again. Prints a table and one JSON line.
"""

import argparse
import json
import math
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from collector.model.labels import Labels, from_mapping
from collector.model.matchers import Matcher, all_match
from collector.model.remote_write import CONTENT_HEADERS, encode
from collector.model.series import Series, SeriesGroup
from collector.promql import Engine

Answer = dict[Labels, dict[int, float]]

INTERVAL_MS = 15_000
HOURS = 6
BOUNDS = ("0.01", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf")
TOLERANCE = 1e-9
REPEATS = 9

QUERIES = {
    "rate of one series, 1 h at 15 s": ('rate(llm_requests_total{instance="i0",reason="stop"}[5m])', 1.0, 15),
    "sum by of rates, 5 h at 60 s": ("sum by (model) (rate(llm_requests_total[5m]))", 5.0, 60),
    "quantile of buckets, 5 h at 60 s": (
        "histogram_quantile(0.99, sum by (le) (rate(llm_ttft_seconds_bucket[5m])))", 5.0, 60),
    "topk of rates, 1 h at 60 s": ("topk(5, rate(llm_requests_total[5m]))", 1.0, 60),
    "avg_over_time 1 h, 4 h at 60 s": ("avg_over_time(llm_kv_usage_ratio[1h])", 4.0, 60),
    "error ratio, 5 h at 60 s": (
        'sum(rate(llm_requests_total{reason=~"error|timeout"}[5m])) / sum(rate(llm_requests_total[5m]))', 5.0, 60),
    "subquery max, 4 h at 300 s": ("max_over_time(sum(rate(llm_requests_total[5m]))[1h:1m])", 4.0, 300),
    "raw gauge, 1 h at 15 s": ("llm_kv_usage_ratio", 1.0, 15),
    "instant sum of gauges": ("sum(llm_kv_usage_ratio)", 0.0, 0),
    "instant quantile": ("histogram_quantile(0.99, sum by (le) (rate(llm_ttft_seconds_bucket[5m])))", 0.0, 0),
    "instant sum by of rates": ("sum by (model) (rate(llm_requests_total[5m]))", 0.0, 0),
    "instant burn rate over 5 h": (
        'sum(rate(llm_requests_total{reason="error"}[5h])) / sum(rate(llm_requests_total[5h]))', 0.0, 0),
}  # fmt: skip
"""Name: query, hours back from the end, step in seconds; 0 hours is an instant query."""


class Matrices:
    """Our side's data in memory: one group per scraped instance."""

    def __init__(self, groups: Sequence[SeriesGroup]) -> None:
        self._groups = groups

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> list[SeriesGroup]:
        out = []
        for group in self._groups:
            columns = [column for column, labels in enumerate(group.labels) if all_match(matchers, labels)]
            if columns:
                first, last = np.searchsorted(group.timestamps_ms, [start_ms, end_ms + 1])
                labels = tuple(group.labels[column] for column in columns)
                values = np.take(group.values[first:last], columns, axis=1)
                out.append(SeriesGroup(labels, group.timestamps_ms[first:last], values))
        return out


def generate(end_ms: int) -> list[SeriesGroup]:
    """Four instances of 50 series each: request counters, a latency histogram, gauges; one restarts half way.

    Counters rise by fractions, so that no two rates tie in topk, where the order of equals is nobody's promise.
    """
    rng = np.random.default_rng(7)
    steps = HOURS * 3_600_000 // INTERVAL_MS
    groups = []
    for instance in range(4):
        labels: list[Labels] = []
        columns: list[np.ndarray] = []
        base = {"instance": f"i{instance}", "job": "vllm"}
        for model in range(5):
            for reason in ("stop", "length", "abort", "error", "timeout"):
                name = {"__name__": "llm_requests_total", "model": f"m{model}", "reason": reason}
                labels.append(from_mapping(base | name))
                columns.append(np.cumsum(rng.gamma(1.0 + model, size=steps)))
        counts = np.cumsum(rng.poisson(3.0, (len(BOUNDS), steps)), axis=1).cumsum(axis=0).astype(float)
        for bound, row in zip(BOUNDS, counts, strict=True):
            labels.append(from_mapping(base | {"__name__": "llm_ttft_seconds_bucket", "le": bound}))
            columns.append(row)
        for gpu in range(15):
            labels.append(from_mapping(base | {"__name__": "llm_kv_usage_ratio", "gpu": str(gpu)}))
            columns.append(rng.uniform(0, 1, steps))
        values = np.stack(columns, axis=1)
        if instance == 1:
            values[steps // 2 :, :35] -= values[steps // 2 - 1, :35]
        times = end_ms - INTERVAL_MS * np.arange(steps - 1, -1, -1, dtype=np.int64)
        groups.append(SeriesGroup(tuple(labels), times + 500 * instance, values))
    return groups


def send(address: str, groups: Sequence[SeriesGroup]) -> None:
    """Remote-write all samples, an hour at a time."""
    rows = 3_600_000 // INTERVAL_MS
    for first in range(0, len(groups[0].timestamps_ms), rows):
        part = slice(first, first + rows)
        body = encode(
            Series(labels, group.timestamps_ms[part], np.ascontiguousarray(group.values[part, column]))
            for group in groups
            for column, labels in enumerate(group.labels)
        )
        reply = httpx.post(f"{address}/api/v1/write", content=body, headers=CONTENT_HEADERS, timeout=60)
        reply.raise_for_status()


@contextmanager
def running_prometheus(binary: str) -> Iterator[str]:
    """A Prometheus of our own on a free port, over an empty folder."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        (Path(folder) / "prometheus.yml").write_text("global: {evaluation_interval: 1m}\n")
        command = [binary, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(200):
                try:
                    if httpx.get(f"{address}/-/ready").is_success:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.05)
            yield address
        finally:
            process.kill()
            process.wait()


def over_http(client: httpx.Client, end_ms: int) -> Callable[[str], Answer]:
    """Asks a server."""

    def ask(name: str) -> Answer:
        query, hours, step_s = QUERIES[name]
        end_s = end_ms / 1000
        if hours:
            params = {"query": query, "start": str(end_s - hours * 3600), "end": str(end_s), "step": str(step_s)}
            reply = client.get("/api/v1/query_range", params=params)
        else:
            reply = client.get("/api/v1/query", params={"query": query, "time": str(end_s)})
        reply.raise_for_status()
        return {
            from_mapping(one["metric"]): {
                round(moment * 1000): float(value) for moment, value in one.get("values") or [one["value"]]
            }
            for one in reply.json()["data"]["result"]
        }

    return ask


def in_process(engine: Engine, groups: Sequence[SeriesGroup], end_ms: int) -> Callable[[str], Answer]:
    """Asks our engine directly."""
    querier = Matrices(groups)

    def ask(name: str) -> Answer:
        query, hours, step_s = QUERIES[name]
        if hours:
            result = engine.range(querier, query, end_ms - round(hours * 3_600_000), end_ms, step_s * 1000)
        else:
            result = engine.instant(querier, query, end_ms)
        return {
            one.labels: dict(zip(one.timestamps_ms.tolist(), one.values.tolist(), strict=True)) for one in result.series
        }

    return ask


def median_ms(ask: Callable[[str], Answer], name: str) -> float:
    """Median time of an answer, after one that warms up."""
    ask(name)
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        ask(name)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def differing_points(ours: Answer, theirs: Answer) -> int:
    """Points that are missing on one side or differ by more than the tolerance."""
    count = 0
    for labels in set(ours) | set(theirs):
        mine, other = ours.get(labels, {}), theirs.get(labels, {})
        for moment in set(mine) | set(other):
            pair = mine.get(moment, math.inf), other.get(moment, -math.inf)
            same = math.isclose(*pair, rel_tol=TOLERANCE) or (math.isnan(pair[0]) and math.isnan(pair[1]))
            count += not same
    return count


def main() -> int:
    """Run the comparison; exit code 1 when in-process answers, made comparable with 2.x, differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", help="base URL of our collector; without it our engine runs in this process")
    parser.add_argument("--prometheus", default=shutil.which("prometheus"), help="the binary to compare with")
    options = parser.parse_args()
    if not options.prometheus:
        print("prometheus is not installed", file=sys.stderr)
        return 2
    end_ms = (int(time.time()) - 60) * 1000 // INTERVAL_MS * INTERVAL_MS
    groups = generate(end_ms)
    rows = []
    with running_prometheus(options.prometheus) as address, httpx.Client(base_url=address, timeout=60) as client:
        send(address, groups)
        theirs = over_http(client, end_ms)
        if options.ours:
            send(options.ours, groups)
            ours = over_http(httpx.Client(base_url=options.ours, timeout=60), end_ms)
        else:
            ours = in_process(Engine(left_open=False), groups, end_ms)
        print(f"{'query':36} {'ours ms':>9} {'prom ms':>9} {'ratio':>7} {'differing':>10}")
        for name in QUERIES:
            row = {"query": name, "ours_ms": median_ms(ours, name), "prometheus_ms": median_ms(theirs, name)}
            row["ratio"] = row["prometheus_ms"] / row["ours_ms"]
            row["differing_points"] = differing_points(ours(name), theirs(name))
            rows.append(row)
            print(
                f"{name:36} {row['ours_ms']:9.2f} {row['prometheus_ms']:9.2f} {row['ratio']:7.2f}"
                f" {row['differing_points']:10}"
            )
    mean = statistics.geometric_mean(row["ratio"] for row in rows)
    print(f"geometric mean of the ratios: {mean:.2f}")
    print(json.dumps({"mode": "http" if options.ours else "in-process", "geometric_mean": mean, "rows": rows}))
    return int(not options.ours and any(row["differing_points"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
