"""PromQL over HTTP beside the real Prometheus and VictoriaMetrics: same samples, same queries, answers compared.

    python -m benchmarks.promql_vs_prometheus [--interval-s 15] [--hours 24] [--full] [--pushed] [--only WORD]
                                              [--in-a-row 8] [--keep DIR]

2,000 series; the peers get them by remote write, our collector finds them in its store as if scraped, or gets them by
remote write, too, with ``--pushed``. All are started here on free ports of the loopback and stopped again by their
process ids. For each query they take turns of eight answers, so that what disturbs the machine disturbs all;
``--in-a-row 1`` is a turn for each answer, between which the others fill the processor's caches.
Our answers are those of ``--no-left-open``, so that they must equal Prometheus 2's. VictoriaMetrics extrapolates
otherwise by design: only its times are compared. ``--full`` is a sample every 5 s, 34.6 million of them, and tells
bytes per sample and memory as well. ``--keep`` leaves the data in DIR and finds it there the next time.
Exit code 1 where an answer differs from Prometheus 2.42's.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks._llm_series import Target, targets
from benchmarks._query_servers import Server, start
from collector.model.labels import Labels, from_mapping
from collector.model.remote_write import CONTENT_HEADERS, encode
from collector.model.series import Series
from collector.store import Store

Answer = dict[Labels, dict[int, float]]
Rows = list[dict[str, object]]

ANSWERS = 24
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
class Asked:
    """What one query cost one server: median time of an answer, and mean processor time of the server for one."""

    wall_ms: float
    cpu_ms: float


def ask(server: Server, query: Query, end_ms: int) -> bytes:
    """The body of an answer."""
    end_s = end_ms / 1000
    params = {"query": query.text, **server.extra}
    path = "/api/v1/query"
    if query.hours:
        path = "/api/v1/query_range"
        params |= {"start": str(end_s - query.hours * 3600), "end": str(end_s), "step": str(query.step_s)}
    else:
        params["time"] = str(end_s)
    return server.request("GET", path, params)


def answer_of(body: bytes) -> Answer:
    """The values, by label set and time."""
    return {
        from_mapping(one["metric"]): {
            round(moment * 1000): float(value) for moment, value in one.get("values") or [one["value"]]
        }
        for one in json.loads(body)["data"]["result"]
    }


def measure(servers: Sequence[Server], query: Query, end_ms: int, in_a_row: int) -> list[Asked]:
    """Every server's figures. The first answer of a turn warms up, where a turn has more than one."""
    times: list[list[float]] = [[] for _ in servers]
    used_s = [0.0 for _ in servers]
    for server in servers:
        ask(server, query, end_ms)
    rounds = math.ceil(ANSWERS / in_a_row)
    for _ in range(rounds):
        for which, server in enumerate(servers):
            begun_s = server.cpu_s()
            found = [_seconds_of(server, query, end_ms) for _ in range(in_a_row)]
            used_s[which] += server.cpu_s() - begun_s
            times[which] += found[1:] or found
    answers = rounds * in_a_row
    return [
        Asked(statistics.median(found) * 1000, used * 1000 / answers) for found, used in zip(times, used_s, strict=True)
    ]


def _seconds_of(server: Server, query: Query, end_ms: int) -> float:
    began_s = time.perf_counter()
    ask(server, query, end_ms)
    return time.perf_counter() - began_s


def fill_store(folder: Path, data: Sequence[Target], hours: float) -> None:
    """Our store, as after a day of scraping and upkeep."""
    with Store.open(folder, retention_ms=None) as store:
        steps = len(data[0].timestamps_ms)
        for step in range(steps):
            for target in reversed(data):  # the second is scraped half an interval before the first
                store.append_scrape(target.key, target.labels, int(target.timestamps_ms[step]), target.values[step])
            if step % max(1, int(steps / hours)) == 0:
                store.maintain(int(data[0].timestamps_ms[step]))
        store.maintain(int(data[0].timestamps_ms[-1]))


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
            server.request("POST", "/api/v1/write", {}, body, CONTENT_HEADERS)


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


def compare(servers: Sequence[Server], end_ms: int, only: str, in_a_row: int) -> tuple[Rows, int]:
    """A row for each query and peer, and the points at which ours, the first, differs from Prometheus."""
    rows: Rows = []
    found: dict[str, list[Asked]] = {server.name: [] for server in servers}
    differing = 0
    print(f"{'query, ms':42}" + "".join(f" {server.name:>15} {'cpu':>7}" for server in servers), file=sys.stderr)
    for what, query in QUERIES.items():
        if only not in what:
            continue
        ours, *peers = figures = measure(servers, query, end_ms, in_a_row)
        for server, asked in zip(servers, figures, strict=True):
            found[server.name].append(asked)
        line = f"{what:42}" + "".join(f" {asked.wall_ms:15.2f} {asked.cpu_ms:7.2f}" for asked in figures)
        for server, asked in zip(servers[1:], peers, strict=True):
            for name, mine, theirs in (("", ours.wall_ms, asked.wall_ms), (", cpu", ours.cpu_ms, asked.cpu_ms)):
                row = {"what": what + name, "ours": mine, "peer": theirs, "peer_name": server.name}
                rows.append(row | {"unit": "ms", "lower_is_better": True})
            line += f"  {asked.wall_ms / ours.wall_ms:6.2f}x {asked.cpu_ms / ours.cpu_ms:6.2f}x"
            if server.name == "Prometheus":
                points = differing_points(
                    answer_of(ask(servers[0], query, end_ms)), answer_of(ask(server, query, end_ms))
                )
                differing += points
                line += f" {points} points differ" if points else ""
        print(line, file=sys.stderr, flush=True)
    return rows + summary(found), differing


def summary(found: Mapping[str, Sequence[Asked]]) -> Rows:
    """How many times as fast as each peer ours, the first, is over all queries; by time and by processor time."""
    rows: Rows = []
    (_, ours), *peers = found.items()
    for name, theirs in peers:
        pairs = list(zip(ours, theirs, strict=True))
        wall = statistics.geometric_mean(their.wall_ms / mine.wall_ms for mine, their in pairs)
        cpu = statistics.geometric_mean(their.cpu_ms / mine.cpu_ms for mine, their in pairs)
        for what, ratio in (("", wall), (", processor time", cpu)):
            row: dict[str, object] = {
                "what": f"queries, geometric mean of {name} / ours{what}",
                "ours": ratio,
                "peer": 1.0,
            }
            rows.append(row | {"peer_name": name, "unit": "times as fast", "lower_is_better": False})
        sums = sum(asked.cpu_ms for asked in ours), sum(asked.cpu_ms for asked in theirs)
        total: dict[str, object] = {
            "what": "queries, processor time of the server, all once",
            "ours": sums[0],
            "peer": sums[1],
        }
        rows.append(total | {"peer_name": name, "unit": "ms", "lower_is_better": True})
        print(
            f"{name} / ours: {wall:.2f} by time, {cpu:.2f} by processor time;"
            f" all once {sums[1]:.0f} / {sums[0]:.0f} ms",
            file=sys.stderr,
        )
    return rows


def sizes(servers: Sequence[Server], samples: int) -> Rows:
    """Memory after the queries, and bytes per sample on disk."""
    rows: Rows = []
    for server in servers:
        now_mb, most_mb = server.memory_mb()
        per_sample = disk_bytes_per_sample(server, samples)
        print(f"{server.name}: {now_mb:.0f} MB resident, {most_mb:.0f} at most, {per_sample:.3f} bytes per sample",
              file=sys.stderr)  # fmt: skip
        rows.append({"what": f"resident memory after the queries, {server.name}", "ours": now_mb, "unit": "MB"})
        rows.append({"what": f"resident memory, highest, {server.name}", "ours": most_mb, "unit": "MB"})
        rows.append({"what": f"bytes on disk, {server.name}", "ours": per_sample, "unit": "bytes/sample"})
    return [row | {"lower_is_better": True} for row in rows]


def disk_bytes_per_sample(server: Server, samples: int) -> float:
    """All files of the data by its samples; of Prometheus only the blocks and the samples that are in them."""
    if server.name != "Prometheus":
        return server.disk_bytes() / samples
    metas = list(server.folder.glob("*/meta.json"))
    in_blocks = sum(json.loads(meta.read_text())["stats"]["numSamples"] for meta in metas)
    size = sum(path.stat().st_size for meta in metas for path in meta.parent.rglob("*") if path.is_file())
    return size / in_blocks if in_blocks else math.nan


def load(servers: Sequence[Server], data: Sequence[Target]) -> None:
    """Send to each server; VictoriaMetrics then joins what it has."""
    for server in servers:
        began, begun_s = time.perf_counter(), server.cpu_s()
        send(server, data)
        print(
            f"{server.name} took {sum(one.values.size for one in data):,} samples"
            f" in {time.perf_counter() - began:.1f} s, {server.cpu_s() - begun_s:.1f} s of its processor time",
            file=sys.stderr,
        )
        if server.name == "VictoriaMetrics":
            server.request("GET", "/internal/force_merge", {})


@contextmanager
def data_folder(keep: str | None) -> Iterator[Path]:
    """Where the data goes."""
    if keep is None:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
    else:
        Path(keep).mkdir(parents=True, exist_ok=True)
        yield Path(keep)


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interval-s", type=int, default=15, help="distance of the samples")
    parser.add_argument("--hours", type=float, default=24, help="how far back the samples go")
    parser.add_argument("--full", action="store_true", help="a sample every 5 s; sizes in memory and on disk, too")
    parser.add_argument("--pushed", action="store_true", help="ours gets its samples by remote write, too")
    parser.add_argument("--only", default="", help="queries whose name contains this")
    parser.add_argument("--in-a-row", type=int, default=8, help="answers of one server before the next one's turn")
    parser.add_argument("--keep", help="folder whose data is used, and kept")
    options = parser.parse_args()
    interval_ms = 5_000 if options.full else options.interval_s * 1000
    with data_folder(options.keep) as folder, ExitStack() as stack:
        mark = folder / "end_ms"
        fresh = not mark.exists()
        end_ms = (int(time.time()) - 60) * 1000 // interval_ms * interval_ms if fresh else int(mark.read_text())
        steps = int(options.hours * 3_600_000 / interval_ms)
        if fresh:
            data = targets(end_ms, steps, interval_ms)
            if not options.pushed:
                fill_store(folder / "ours", data, options.hours)
        ours, peers = start(stack, folder)
        if fresh:
            load([ours, *peers] if options.pushed else peers, data)
            del data
            mark.write_text(str(end_ms))
        rows, differing = compare([ours, *peers], end_ms, options.only, options.in_a_row)
        if options.full:
            rows += sizes([ours, *peers], 2_000 * steps)
    print(json.dumps({"benchmark": "promql_vs_prometheus", "rows": rows}))
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
