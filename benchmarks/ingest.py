"""How fast pushes go from their bytes into the store: remote write, OTLP metrics, OTLP spans; forwarding beside them.

    python -m benchmarks.ingest [--seconds 2] [--series 1000] [--no-peer]

In process and on one thread; samples, points and spans per CPU second of this process, a real store in a temporary
directory. Beside remote write stands the real Prometheus's receiver, where it is installed, on the same requests over
loopback: samples per CPU second of its process, so that it may not gain or lose by the sender, and per second of one
sender that waits for each answer. For these rows ours is measured the same way, a served collector over loopback.
"""

import argparse
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cramjam
import httpx
import numpy as np
import psutil
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.forward.queue import DiskQueue
from collector.forward.remote_write import RemoteWriteOut, Samples
from collector.ingest.otlp import PROTOBUF
from collector.ingest.otlp_receiver import OtlpReceiver
from collector.ingest.remote_write import RemoteWriteReceiver
from collector.model.labels import Labels, from_mapping
from collector.model.protobuf_wire import delimited
from collector.model.remote_write import CONTENT_HEADERS, encode_labels, encode_samples
from collector.store import SpanStore, Store

START_MS = 1_700_000_000_000
STEP_MS = 5000
ROWS = 5
"""Samples of each series in the requests of a sender that gathers."""


def layout(series: int) -> list[Labels]:
    """Series of about 100 bytes, as an engine's histogram has them."""
    return [
        from_mapping(
            {
                "__name__": "loadline_time_to_first_token_seconds_bucket",
                "model_name": "llama-3.1-8b-instruct",
                "instance": f"10.0.0.{number % 10}:8000",
                "job": "engine",
                "le": f"{number * 0.001:.3f}",
            }
        )
        for number in range(series)
    ]


def requests(series: int, rows: int, shuffle: bool = False, start_ms: int = START_MS) -> Iterator[bytes]:
    """Remote-write requests without end: the same series each time, in another order each time where asked."""
    random = np.random.default_rng(7)
    heads = [encode_labels(labels) for labels in layout(series)]
    moment = start_ms
    while True:
        times = moment + STEP_MS * np.arange(rows)
        values = random.integers(0, 1 << 30, (series, rows)) * 0.5
        order = random.permutation(series) if shuffle else range(series)
        body = b"".join(delimited(0x0A, heads[place] + encode_samples(times, values[place])) for place in order)
        yield bytes(cramjam.snappy.compress_raw(body))
        moment += STEP_MS * rows


def rate(work: Callable[[bytes], object], bodies: Iterator[bytes], items: int, seconds: float) -> float:
    """Items per CPU second; making the bodies is not counted."""
    for _ in range(3):
        work(next(bodies))
    spent, done = 0.0, 0
    while spent < seconds:
        batch = [next(bodies) for _ in range(20)]
        began = time.process_time()
        for body in batch:
            work(body)
        spent += time.process_time() - began
        done += len(batch) * items
    return done / spent


def otlp_metrics(points: int) -> Iterator[bytes]:
    """Requests of one counter with many attribute sets and one histogram of 14 bounds for each 10 of them."""
    moment_ns = START_MS * 1_000_000
    while True:
        request = ExportMetricsServiceRequest()
        resource = request.resource_metrics.add()
        resource.resource.attributes.add(key="service.name").value.string_value = "engine"
        counter = resource.scope_metrics.add().metrics.add(name="tokens", unit="{token}")
        counter.sum.is_monotonic, counter.sum.aggregation_temporality = True, 2
        for number in range(points):
            point = counter.sum.data_points.add(time_unix_nano=moment_ns, as_int=moment_ns // 10**9 + number)
            for key in ("gen_ai.request.model", "server.address", "tenant"):
                point.attributes.add(key=key).value.string_value = f"{key}-{number}"
        yield request.SerializeToString()
        moment_ns += STEP_MS * 1_000_000


def otlp_histograms(points: int) -> Iterator[bytes]:
    """Requests of one histogram with many attribute sets, 20 bounds."""
    moment_ns = START_MS * 1_000_000
    while True:
        request = ExportMetricsServiceRequest()
        metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="ttft", unit="s")
        metric.histogram.aggregation_temporality = 2
        for number in range(points):
            point = metric.histogram.data_points.add(time_unix_nano=moment_ns, count=210, sum=4.5)
            point.explicit_bounds.extend(0.001 * 2**place for place in range(20))
            point.bucket_counts.extend([10] * 21)
            point.attributes.add(key="gen_ai.request.model").value.string_value = f"model-{number}"
        yield request.SerializeToString()
        moment_ns += STEP_MS * 1_000_000


def otlp_spans(spans: int) -> Iterator[bytes]:
    """Requests of spans with 12 attributes and 2 events."""
    number = 0
    while True:
        request = ExportTraceServiceRequest()
        resource = request.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = "engine"
        scope = resource.scope_spans.add()
        for _ in range(spans):
            number += 1
            start_ns = START_MS * 1_000_000 + number * 1000
            span = scope.spans.add(name="decode", kind=2, start_time_unix_nano=start_ns)
            span.end_time_unix_nano = start_ns + 5_000_000
            span.trace_id, span.span_id = number.to_bytes(16, "big"), number.to_bytes(8, "big")
            for place in range(12):
                span.attributes.add(key=f"gen_ai.attribute.{place}").value.int_value = number + place
            for place in range(2):
                span.events.add(name="token", time_unix_nano=start_ns + place)
        yield request.SerializeToString()


@contextlib.contextmanager
def served(command: list[str], base: str) -> Iterator[psutil.Process]:
    """A server process, once it is ready."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{base}/-/ready", trust_env=False).is_success:
                        break
                time.sleep(0.05)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


def over_http(
    process: psutil.Process, url: str, bodies: Iterator[bytes], items: int, seconds: float
) -> tuple[float, float]:
    """Samples per CPU second of the receiving process, and per second; making the bodies is not counted."""
    with httpx.Client(trust_env=False) as http:
        spent_s, waited_s, done = 0.0, 0.0, 0
        while waited_s < seconds:
            batch = [next(bodies) for _ in range(50)]
            began, before = time.monotonic(), process.cpu_times()
            for body in batch:
                http.post(url, content=body, headers=CONTENT_HEADERS).raise_for_status()
            waited_s += time.monotonic() - began
            after = process.cpu_times()
            spent_s += after.user + after.system - before.user - before.system
            done += items * len(batch)
    return done / spent_s, done / waited_s


def peers(series: int, seconds: float) -> dict[str, tuple[float, float]]:
    """Remote write over loopback, ours and Prometheus's."""
    prometheus = shutil.which("prometheus")
    figures: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("ours", "prometheus"):
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port = probe.getsockname()[1]
            base = f"http://127.0.0.1:{port}"
            start = "from collector.cli import app; app()"
            command = [sys.executable, "-c", start, "serve", "--port", str(port), "--data", f"{folder}/ours"]
            command.append("--no-telemetry")
            if name == "prometheus":
                if prometheus is None:
                    break
                Path(folder, "prometheus.yml").write_text("scrape_configs: []\n")
                command = [prometheus, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/theirs"]
                command += [f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver"]
            start_ms = round(time.time() * 1000) - 3_600_000
            with served(command, base) as process:
                bodies = requests(series, ROWS, start_ms=start_ms)
                figures[name] = over_http(process, f"{base}/api/v1/write", bodies, series * ROWS, seconds)
    return figures


def measure(series: int, seconds: float) -> dict[str, tuple[float, str]]:
    """What is measured in this process: figure and unit by name."""
    found: dict[str, tuple[float, str]] = {}

    def with_store(work: Callable[[Store], float]) -> float:
        with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder)) as store:
            return work(store)

    def written(rows: int, shuffle: bool) -> Callable[[Store], float]:
        def work(store: Store) -> float:
            receiver = RemoteWriteReceiver(store)
            bodies = requests(series, rows, shuffle)
            return rate(lambda body: receiver.take(body, "", "snappy"), bodies, series * rows, seconds)

        return work

    found["remote write, repeating, 1 sample a series"] = with_store(written(1, False)), "samples/s"
    found[f"remote write, repeating, {ROWS} samples a series"] = with_store(written(ROWS, False)), "samples/s"
    found[f"remote write, never the same order, {ROWS} a series"] = with_store(written(ROWS, True)), "samples/s"

    def taken(signal: str, bodies: Iterator[bytes], items: int) -> Callable[[Store], float]:
        def work(store: Store) -> float:
            receiver = OtlpReceiver(store, SpanStore(store.database))
            return rate(lambda body: receiver.take(signal, body, PROTOBUF), bodies, items, seconds)

        return work

    found["OTLP counters, 3 attributes"] = with_store(taken("metrics", otlp_metrics(1000), 1000)), "points/s"
    found["OTLP histograms, 20 bounds"] = with_store(taken("metrics", otlp_histograms(100), 100)), "points/s"
    found["OTLP spans, 12 attributes, 2 events"] = with_store(taken("traces", otlp_spans(200), 200)), "spans/s"
    found["forwarding, a scrape queued, batched and made a request"] = forwarding(series, seconds), "samples/s"
    return found


def forwarding(series: int, seconds: float) -> float:
    """From a scrape's values to the body of a request, through the queue on disk."""
    columns, moments = layout(series), iter(range(START_MS, 1 << 41, STEP_MS))
    with tempfile.TemporaryDirectory() as folder, DiskQueue(Path(folder) / "q.db") as queue:
        samples, out = Samples(queue), RemoteWriteOut("http://127.0.0.1/")

        def work(raw: bytes) -> None:
            samples.scrape("bench", columns, next(moments), np.frombuffer(raw))
            batch = queue.peek(out.max_items, out.max_bytes)
            if batch is not None:
                out.post(batch)
                queue.done(batch.last_id)

        values = (np.random.default_rng(seed).random(series).tobytes() for seed in range(1 << 30))
        return rate(work, values, series, seconds)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=2.0, help="CPU seconds for each figure.")
    options.add_argument("--series", type=int, default=1000)
    options.add_argument("--no-peer", action="store_true", help="Leave Prometheus out.")
    given = options.parse_args()
    rows: list[dict[str, object]] = []
    for what, (figure, unit) in measure(given.series, given.seconds).items():
        rows.append({"what": what, "ours": figure, "unit": unit})
    if not given.no_peer:
        figures = peers(given.series, max(5.0, given.seconds))
        for place, per in enumerate(("CPU second of the server", "second, one sender")):
            row: dict[str, object] = {"what": f"remote write over HTTP, per {per}", "unit": "samples/s"}
            row["ours"] = figures["ours"][place]
            if "prometheus" in figures:
                row |= {"peer": figures["prometheus"][place], "peer_name": "Prometheus 2.42"}
            rows.append(row)
    for row in rows:
        peer = f"   {row['peer_name']} {row['peer']:,.0f}" if "peer" in row else ""
        print(f"{row['what']:<58}{row['ours']:>14,.0f} {row['unit']}{peer}")
    print(json.dumps({"benchmark": "ingest", "rows": rows}))


if __name__ == "__main__":
    main()
