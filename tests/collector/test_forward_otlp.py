"""One collector passes on to another, as processes: OTLP that waited on disk, and samples once a reload says so."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

START = "from collector.cli import app; app()"
PROTOBUF = {"content-type": "application/x-protobuf"}


@contextmanager
def serving(data: Path, *arguments: str, port: int = 0) -> Iterator[httpx.Client]:
    """A collector process, and a client that speaks to it."""
    command = [sys.executable, "-c", START, "serve", "--port", str(port), "--data", str(data), "--no-telemetry"]
    with subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := re.search(r"listening on (http://\S+)", line):
                    with httpx.Client(base_url=found[1], trust_env=False) as client:
                        yield client
                    break
            else:
                pytest.fail("the collector did not start")
        finally:
            process.send_signal(signal.SIGTERM)
            process.stderr.read()


def until(holds: Callable[[], object], within_s: float = 30.0) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def port_of(client: httpx.Client) -> int:
    assert client.base_url.port is not None
    return client.base_url.port


def requests(now_ns: int) -> dict[str, bytes]:
    """One of each signal."""
    traces, metrics, logs = ExportTraceServiceRequest(), ExportMetricsServiceRequest(), ExportLogsServiceRequest()
    span = traces.resource_spans.add().scope_spans.add().spans.add(name="chat", trace_id=b"\1" * 16, span_id=b"\2" * 8)
    span.start_time_unix_nano, span.end_time_unix_nano = now_ns - 10**9, now_ns
    metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="queue.depth")
    metric.gauge.data_points.add(time_unix_nano=now_ns, as_double=3.5)
    record = logs.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=now_ns, severity_number=13)
    record.body.string_value = "queue is long"
    return {
        "traces": traces.SerializeToString(),
        "metrics": metrics.SerializeToString(),
        "logs": logs.SerializeToString(),
    }


def value(client: httpx.Client, query: str) -> list[str]:
    found = client.get("/api/v1/query", params={"query": query}).json()["data"]["result"]
    return [one["value"][1] for one in found]


def test_every_signal_reaches_the_next_collector_and_a_reload_adds_samples(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = tmp_path / "prometheus.yml"
    config.write_text("global: {external_labels: {cluster: east}}\n")
    options = ("--forward-otlp", f"http://127.0.0.1:{port}", "--config", str(config), "--interval", "200ms")
    with serving(tmp_path / "near", *options) as near:
        for kind, body in requests(time.time_ns()).items():
            assert near.post(f"/v1/{kind}", content=body, headers=PROTOBUF).status_code == 200
        until(lambda: "loadline_collector_forward_retries_total{" in near.get("/metrics").text)
        with serving(tmp_path / "far", port=port) as far:
            until(lambda: far.get("/api/v1/spans", params={"name": "chat"}).json()["data"])
            until(lambda: value(far, "queue_depth") == ["3.5"])
            until(lambda: far.get("/api/v1/logs", params={"text": "queue", "severity": "warn"}).json()["data"])
            config.write_text(
                "global: {external_labels: {cluster: east}}\n"
                "scrape_configs:\n"
                "- job_name: self\n"
                "  scrape_interval: 200ms\n"
                f"  static_configs: [{{targets: ['127.0.0.1:{port_of(near)}']}}]\n"
                "remote_write:\n"
                f"- url: http://127.0.0.1:{port}/api/v1/write\n"
                "  protobuf_message: io.prometheus.write.v2.Request\n"
            )
            assert near.post("/-/reload").status_code == 200
            until(lambda: value(far, 'up{job="self", cluster="east"}') == ["1"])
            config.write_text("remote_write: [{}]\n")
            refused = near.post("/-/reload")
            assert (refused.status_code, "url: is absent" in refused.text) == (500, True)
            until(lambda: value(far, 'loadline_collector_config_reload_succeeded{cluster="east"}') == ["0"])
