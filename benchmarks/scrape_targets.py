"""Scrape many targets on time: a real collector, fake targets on loopback, its share of a core and its lag.

All targets are one small server in this process, told apart by an address each (127.1.x.y), so that every one has a
connection, a scrape group and series of its own. Lag is how long after its due moment a target's request arrives.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from collector.scrape.configuration import read_configuration
from collector.scrape.discovery import FileFinder, FileSource
from collector.scrape.job import find_targets

START = "from collector.cli import app; app()"
CONFIGURATION = """\
global: {{scrape_interval: {interval_s}s, scrape_timeout: {interval_s}s}}
scrape_configs:
  - job_name: fleet
    file_sd_configs: [{{files: ["targets.json"]}}]
    relabel_configs: [{{source_labels: [__address__], regex: "127[.](.*):.*", target_label: node}}]
    metric_relabel_configs: [{{source_labels: [__name__], regex: "noise_.*", action: drop}}]
"""


class Targets:
    """Answers every request with the same page, and notes when each address was asked."""

    def __init__(self, series: int) -> None:
        lines = [f'fleet_requests_total{{path="/{number}",code="200"}} {number * 7.5}' for number in range(series - 1)]
        page = "\n".join(["# TYPE fleet_requests_total counter", *lines, "noise_level 1", ""]).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: %d\r\n\r\n"
        self._answer = head % len(page) + page
        self.asked: list[tuple[str, float]] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept open for as long as the scraper likes."""
        host, port = writer.get_extra_info("sockname")[:2]
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked.append((f"{host}:{port}", time.time()))
                writer.write(self._answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def due_offsets(folder: Path) -> dict[str, float]:
    """Seconds into the interval at which each address is due, as the collector itself reckons."""
    (job,) = read_configuration(folder / "prometheus.yml").jobs
    (source,) = job.sources
    assert isinstance(source, FileSource)
    found = find_targets(job, FileFinder(source).read()).targets.values()
    return {dict(target.labels)["instance"]: target.offset_s for target in found}


async def measure(targets: int, series: int, interval_s: int, rounds: int) -> dict[str, float]:
    """Run a collector for some rounds after a first one, and look at its processor time, memory and lag."""
    fake = Targets(series)
    server = await asyncio.start_server(fake.connected, "0.0.0.0", 0)
    port = server.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        addresses = [f"127.1.{number // 250}.{number % 250 + 1}:{port}" for number in range(targets)]
        (folder / "targets.json").write_text(json.dumps([{"targets": addresses}]))
        (folder / "prometheus.yml").write_text(CONFIGURATION.format(interval_s=interval_s))
        offsets = due_offsets(folder)
        flags = ["--port", "0", "--data", name, "--config", str(folder / "prometheus.yml"), "--no-telemetry"]
        with subprocess.Popen([sys.executable, "-c", START, "serve", *flags], stderr=subprocess.DEVNULL) as process:
            try:
                await asyncio.sleep(interval_s + 4.0)
                fake.asked.clear()
                watched = psutil.Process(process.pid)
                began, spent = time.time(), sum(watched.cpu_times()[:2])
                await asyncio.sleep(interval_s * rounds)
                ended, spent = time.time(), sum(watched.cpu_times()[:2]) - spent
                asked, memory = list(fake.asked), watched.memory_info().rss
            finally:
                process.send_signal(signal.SIGTERM)
                stopping = time.time()
                await asyncio.to_thread(process.wait)
                stop_s = time.time() - stopping
    server.close()
    lags_s = np.array([(moment - offsets[address]) % interval_s for address, moment in asked])
    return {
        "scrapes": len(asked) / targets / rounds,
        "cpu": spent / (ended - began),
        "cpu_ms": spent / len(asked) * 1000,
        "rss": memory / 2**20,
        "stop_s": stop_s,
        "p50_ms": float(np.percentile(lags_s, 50)) * 1000,
        "p99_ms": float(np.percentile(lags_s, 99)) * 1000,
        "max_ms": float(lags_s.max()) * 1000,
    }


def main() -> None:
    """Measure, print a table and, as the last line, JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument("--series", type=int, default=100, help="series of each page")
    parser.add_argument("--interval", type=int, default=10, help="seconds between two scrapes of a target")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found = asyncio.run(measure(given.targets, given.series, given.interval, given.rounds))
    fleet = f"{given.targets} targets of {given.series} series every {given.interval} s"
    names = {
        "scrapes": ("scrapes done of those due", "ratio"),
        "cpu": ("share of one core", "ratio"),
        "cpu_ms": ("processor time of a scrape", "ms"),
        "p50_ms": ("schedule lag p50", "ms"),
        "p99_ms": ("schedule lag p99", "ms"),
        "max_ms": ("schedule lag max", "ms"),
        "rss": ("memory", "MiB"),
        "stop_s": ("time to stop", "s"),
    }
    rows = [
        {"what": f"{fleet}: {what}", "ours": found[key], "unit": unit, "lower_is_better": key != "scrapes"}
        for key, (what, unit) in names.items()
    ]
    print(f"{fleet}, {given.rounds} rounds; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for row in rows:
        print(f"{row['what']:<80} {row['ours']:>10.3f} {row['unit']}")
    print(json.dumps({"benchmark": "scrape_targets", "rows": rows}))


if __name__ == "__main__":
    main()
