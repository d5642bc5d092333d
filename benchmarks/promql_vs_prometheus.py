"""PromQL over HTTP beside the real Prometheus and VictoriaMetrics: same samples, same queries, answers compared.

    python -m benchmarks.promql_vs_prometheus [--interval-s 15] [--hours 24] [--only WORD]

2,000 series; the peers get them by remote write, our collector finds them in its store as if scraped. All three are
started here on free ports of the loopback, asked in turn, and stopped again by their process ids. Our answers are those
of ``--no-left-open``, so that they must equal Prometheus 2's. VictoriaMetrics extrapolates otherwise by design: only
its times are compared. Exit code 1 where an answer differs from Prometheus 2.42's.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil

from benchmarks._llm_series import Target, targets
from collector.model.labels import Labels, from_mapping
from collector.model.remote_write import CONTENT_HEADERS, encode
from collector.model.series import Series
from collector.store import Store

Answer = dict[Labels, dict[int, float]]

REPEATS = 9
TOLERANCE = 1e-9
PER_REQUEST = 120
"""Samples of each series in one remote write."""


@dataclass(frozen=True, slots=True)
class Query:
    """``hours`` back from the end at ``step_s``; 0 hours: at the end."""

    text: str
    hours: float = 0.0
    step_s: int = 0


QUERIES: Mapping[str, Query] = {
    "rate of one counter, 1 h at 15 s": Query(
        'rate(llm_requests_total{instance="10.0.0.1:8000",model="model-0",reason="stop"}[5m])', 1, 15
    ),
    "sum by of 500 rates, 6 h at 60 s": Query("sum by (model) (rate(llm_requests_total[5m]))", 6, 60),
    "sum by of 500 rates, 23.9 h at 60 s": Query("sum by (model) (rate(llm_requests_total[5m]))", 23.9, 60),
    "quantile of 200 buckets, 1 h at 15 s": Query(
        "histogram_quantile(0.99, sum by (le) (rate(llm_ttft_seconds_bucket[5m])))", 1, 15
    ),
    "quantile of 200 buckets, 23.9 h at 300 s": Query(
        "histogram_quantile(0.99, sum by (le) (rate(llm_ttft_seconds_bucket[5m])))", 23.9, 300
    ),
    "topk of 500 rates, 1 h at 60 s": Query("topk(5, rate(llm_prompt_tokens_total[5m]))", 1, 60),
    "avg_over_time 24 h of 100, instant": Query("avg_over_time(llm_kv_cache_usage_ratio[24h])"),
    "avg_over_time 1 h of 100, 23 h at 300 s": Query("avg_over_time(gpu_power_watts[1h])", 23, 300),
    "error ratio of 500, 6 h at 60 s": Query(
        'sum(rate(llm_requests_total{reason=~"error|timeout|oom"}[5m])) / sum(rate(llm_requests_total[5m]))', 6, 60
    ),
    "raw gauge of 100, 1 h at 15 s": Query("llm_requests_running", 1, 15),
    "subquery max, 6 h at 300 s": Query(
        'max_over_time(sum(rate(llm_requests_total{model="model-0"}[5m]))[1h:1m])', 6, 300
    ),
    "sum of 100 gauges, instant": Query("sum(llm_requests_running)"),
    "quantile of 200 buckets, instant": Query(
        "histogram_quantile(0.99, sum by (le) (rate(llm_ttft_seconds_bucket[5m])))"
    ),
    "sum by of 500 rates, instant": Query("sum by (model) (rate(llm_requests_total[5m]))"),
    "burn rate of 500 over 6 h, instant": Query(
        'sum(rate(llm_requests_total{reason="error"}[6h])) / sum(rate(llm_requests_total[6h]))'
    ),
}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, what it is asked with beside the query, and its process."""

    name: str
    client: httpx.Client
    process: psutil.Process
    extra: Mapping[str, str]

    def ask(self, query: Query, end_ms: int) -> httpx.Response:
        """Ask once."""
        end_s = end_ms / 1000
        params = {"query": query.text, **self.extra}
        if query.hours:
            times = {"start": str(end_s - query.hours * 3600), "end": str(end_s), "step": str(query.step_s)}
            return self.client.get("/api/v1/query_range", params=params | times).raise_for_status()
        return self.client.get("/api/v1/query", params=params | {"time": str(end_s)}).raise_for_status()

    def answer(self, query: Query, end_ms: int) -> Answer:
        """The answer, by label set and time."""
        return {
            from_mapping(one["metric"]): {
                round(moment * 1000): float(value) for moment, value in one.get("values") or [one["value"]]
            }
            for one in self.ask(query, end_ms).json()["data"]["result"]
        }

    def median_ms(self, query: Query, end_ms: int) -> tuple[float, float]:
        """Median time of an answer, and mean processor time of the server for one, after one that warms up."""
        self.ask(query, end_ms)
        times = []
        before = self.process.cpu_times()
        for _ in range(REPEATS):
            began = time.perf_counter()
            self.ask(query, end_ms)
            times.append((time.perf_counter() - began) * 1000)
        after = self.process.cpu_times()
        used_s = after.user + after.system - before.user - before.system
        return statistics.median(times), used_s * 1000 / REPEATS


def fill_store(folder: Path, data: Sequence[Target]) -> None:
    """Our store, as after a day of scraping: cut into tiles but for the last two hours."""
    with Store.open(folder, synchronous="OFF") as store:
        for target in data:
            cut_ms = 0
            for timestamp_ms, values in zip(target.timestamps_ms.tolist(), target.values, strict=True):
                store.append_scrape(target.key, target.labels, timestamp_ms, values)
                if timestamp_ms - cut_ms > 4 * 3_600_000:
                    store.cut(timestamp_ms)
                    cut_ms = timestamp_ms
        store.cut(int(data[0].timestamps_ms[-1]))


def send(server: Server, data: Sequence[Target]) -> None:
    """Remote-write everything, some of all series at a time."""
    for first in range(0, len(data[0].timestamps_ms), PER_REQUEST):
        part = slice(first, first + PER_REQUEST)
        for target in data:
            columns = np.ascontiguousarray(target.values[part].T)
            body = encode(
                Series(labels, target.timestamps_ms[part], column)
                for labels, column in zip(target.labels, columns, strict=True)
            )
            server.client.post("/api/v1/write", content=body, headers=CONTENT_HEADERS).raise_for_status()


@contextmanager
def running(name: str, command: Sequence[str], port: int, ready: str, extra: Mapping[str, str]) -> Iterator[Server]:
    """A server of our own, asked when it says that it is ready, killed at the end."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            for _ in range(300):
                try:
                    if client.get(ready).is_success:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.05)
            yield Server(name, client, psutil.Process(process.pid), extra)
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def start(stack: ExitStack, folder: Path) -> tuple[Server, list[Server]]:
    """Ours and those of the peers that are installed."""
    peers = []
    port = free_port()
    if binary := shutil.which("prometheus"):
        (folder / "prometheus.yml").write_text("global: {evaluation_interval: 1m}\n")
        command = [binary, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/prometheus"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver"]
        peers.append(stack.enter_context(running("Prometheus", command, port, "/-/ready", {})))
    port = free_port()
    if binary := shutil.which("victoria-metrics"):
        command = [binary, f"-storageDataPath={folder}/victoria", f"-httpListenAddr=127.0.0.1:{port}"]
        command += ["-retentionPeriod=100y", "-search.latencyOffset=0s"]
        peers.append(stack.enter_context(running("VictoriaMetrics", command, port, "/health", {"nocache": "1"})))
    port = free_port()
    command = [sys.executable, "-m", "loadline", "collector", "serve", "--port", str(port), "--no-left-open"]
    command += ["--data", str(folder / "ours"), "--no-telemetry"]
    return stack.enter_context(running("ours", command, port, "/-/ready", {})), peers


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


def compare(ours: Server, peers: Sequence[Server], end_ms: int, only: str) -> tuple[list[dict[str, object]], int]:
    """A row for each query and peer, and the points at which ours differs from Prometheus."""
    rows: list[dict[str, object]] = []
    ratios: dict[str, list[float]] = {peer.name: [] for peer in peers}
    used_ms = dict.fromkeys((ours.name, *ratios), 0.0)
    differing = 0
    print(f"{'query':42} {'ours ms':>9} {'cpu ms':>7}" + "".join(f" {peer.name:>16} {'ratio':>6}" for peer in peers))
    for what, query in QUERIES.items():
        if only not in what:
            continue
        ours_ms, cpu_ms = ours.median_ms(query, end_ms)
        used_ms[ours.name] += cpu_ms
        line = f"{what:42} {ours_ms:9.2f} {cpu_ms:7.2f}"
        for peer in peers:
            peer_ms, peer_cpu_ms = peer.median_ms(query, end_ms)
            used_ms[peer.name] += peer_cpu_ms
            ratios[peer.name].append(peer_ms / ours_ms)
            row = {"what": what, "ours": ours_ms, "peer": peer_ms, "peer_name": peer.name}
            rows.append(row | {"unit": "ms", "lower_is_better": True})
            line += f" {peer_ms:16.2f} {peer_ms / ours_ms:6.2f}"
            if peer.name == "Prometheus":
                points = differing_points(ours.answer(query, end_ms), peer.answer(query, end_ms))
                differing += points
                line += f" {points} points differ" if points else ""
        print(line, flush=True)
    for name, found in ratios.items():
        print(f"geometric mean, {name} / ours: {statistics.geometric_mean(found):.2f}")
        mean = {"what": f"queries, geometric mean of {name} / ours", "ours": statistics.geometric_mean(found)}
        rows.append(mean | {"peer": 1.0, "peer_name": name, "unit": "times as fast", "lower_is_better": False})
        cpu = {"what": "queries, processor time of the server, all once", "ours": used_ms[ours.name]}
        rows.append(cpu | {"peer": used_ms[name], "peer_name": name, "unit": "ms", "lower_is_better": True})
    print("processor time of the server, all once: " + ", ".join(f"{name} {ms:.0f} ms" for name, ms in used_ms.items()))
    return rows, differing


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interval-s", type=int, default=15, help="distance of the samples")
    parser.add_argument("--hours", type=float, default=24, help="how far back the samples go")
    parser.add_argument("--only", default="", help="queries whose name contains this")
    options = parser.parse_args()
    interval_ms = options.interval_s * 1000
    end_ms = (int(time.time()) - 60) * 1000 // interval_ms * interval_ms
    data = targets(end_ms, int(options.hours * 3_600_000 / interval_ms), interval_ms)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        fill_store(folder / "ours", data)
        ours, peers = start(stack, folder)
        for peer in peers:
            began = time.perf_counter()
            send(peer, data)
            print(f"{peer.name} took {sum(one.values.size for one in data):,} samples"
                  f" in {time.perf_counter() - began:.1f} s", file=sys.stderr)  # fmt: skip
        rows, differing = compare(ours, peers, end_ms, options.only)
    print(json.dumps({"benchmark": "promql_vs_prometheus", "rows": rows}))
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
