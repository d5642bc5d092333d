"""How long one round of 1,000 alert rules over 10,000 series takes, as a share of a 30 s interval.

Rules are evaluated by ``alerts.group`` in two ways: in one process over the collector's store and engine, and as
``serve`` does, over HTTP against a collector of its own, all groups at once. Results (ALERTS) are written back.
Seconds that pass depend on what else the machine does; processor seconds, of rules and source together, do not.

    python -m benchmarks.alert_rules [--rules 1000] [--series 10000]
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from alerts.group import Group, Source
from alerts.rule import AlertRule, RuleGroup
from alerts.writeback import Writeback
from benchmarks._servers import free_port, running
from collector.client import Client
from collector.model.answered import Answered, each_alone
from collector.model.errors import SourceError
from collector.model.labels import from_mapping
from collector.model.series import Sample, Series
from collector.promql import Engine
from collector.store import Store

INTERVAL_S = 30.0
SCRAPE_S = 15
INSTANCES = 100
NOW_S = int(time.time()) // 60 * 60 - 300
HISTORY_S = 1_800
ROUNDS = 3


class StoreSource:
    """The collector's store and engine as a source of rules."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._engine = Engine()

    def query(self, expr: str, time_s: float | None = None) -> Sequence[Sample]:
        """Evaluate at one moment."""
        result = self._engine.instant(self._store, expr, round((time_s or 0.0) * 1000))
        return [Sample(one.labels, int(one.timestamps_ms[-1]), float(one.values[-1])) for one in result.series]

    def query_all(self, exprs: Sequence[str], time_s: float) -> Sequence[Answered]:
        """Evaluate each at one moment."""
        return each_alone(self.query, exprs, time_s)

    def write(self, series: Iterable[Series]) -> None:
        """Take samples."""
        self._store.append_series(series)


def fill(store: Store, series: int) -> None:
    """``series`` series in equal parts on each instance: counters, gauges and buckets of 10."""
    each = series // INSTANCES
    times_s = range(NOW_S - HISTORY_S, NOW_S + round(ROUNDS * INTERVAL_S) + SCRAPE_S, SCRAPE_S)
    for instance in range(INSTANCES):
        layout = [
            from_mapping(
                {
                    "__name__": ("load_total", "depth", "wait_seconds_bucket")[number % 3],
                    "instance": f"i{instance}",
                    "pool": f"p{instance % 10}",
                    "part": str(number // 3 // 10),
                    "le": str(number // 3 % 10 + 1) if number % 3 == 2 else f"x{number // 3 % 10}",
                }
            )
            for number in range(each)
        ]
        slopes = np.arange(each, dtype=np.float64) % 7
        for step, time_s in enumerate(times_s):
            store.append_scrape(f"i{instance}", layout, time_s * 1000, slopes * step)


def rules(count: int) -> tuple[AlertRule, ...]:
    """Rules as packs have them: gauges, rates by pool, quantiles, over the series of one pool; one in 20 holds."""
    shapes = (
        'depth{{pool="p{pool}",part="{part}"}} > {limit}',
        'sum by (pool) (rate(load_total{{pool="p{pool}",part="{part}"}}[5m])) > {limit}',
        "histogram_quantile(0.95, sum by (pool, le) "
        '(rate(wait_seconds_bucket{{pool="p{pool}",part="{part}"}}[5m]))) > {limit}',
        'max by (instance) (depth{{pool="p{pool}"}}) > {limit}',
    )
    return tuple(
        AlertRule(
            f"Rule{number}",
            shapes[number % len(shapes)].format(
                pool=number % 10, part=number // 40 % 3, limit=2 if number % 20 == 0 else 10_000
            ),
            for_s=60.0,
            labels=(("severity", "warning"),),
            annotations=(("summary", "{{ $labels.pool }} at {{ $value | humanize }}"),),
        )
        for number in range(count)
    )


@dataclass(frozen=True, slots=True)
class Round:
    """One round of all groups: seconds that passed, and processor seconds of this process and of the server."""

    took_s: float
    own_cpu_s: float
    server_cpu_s: float = 0.0

    @property
    def cpu_s(self) -> float:
        """Processor seconds of both."""
        return self.own_cpu_s + self.server_cpu_s


def rounds(groups: Sequence[Group], server_cpu_s: Callable[[], float], threads: int) -> list[Round]:
    """ROUNDS rounds, ``threads`` groups at a time."""
    found = []
    with ThreadPoolExecutor(threads) as pool:
        for number in range(1, ROUNDS + 1):
            before = (time.perf_counter(), time.process_time(), server_cpu_s())
            list(pool.map(lambda group: group.evaluate(NOW_S + number * INTERVAL_S), groups))  # noqa: B023
            after = (time.perf_counter(), time.process_time(), server_cpu_s())
            found.append(Round(*(late - early for early, late in zip(before, after, strict=True))))
            print(f"round {number}: {found[-1]}", file=sys.stderr)
    broken = [status.error for group in groups for status in group.status.rules if status.health != "ok"]
    if broken:
        raise SystemExit(f"{len(broken)} rules failed: {broken[0]}")
    return found


def grouped(source: Source, all_rules: tuple[AlertRule, ...]) -> list[Group]:
    """Groups of 50 rules."""
    return [
        Group(
            RuleGroup(f"g{first}", "bench.yml", all_rules[first : first + 50]),
            source,
            Writeback(source.write),
            interval_s=INTERVAL_S,
        )
        for first in range(0, len(all_rules), 50)
    ]


@contextmanager
def collector(data: Path) -> Iterator[tuple[Client, Callable[[], float]]]:
    """A collector process over ``data``: a client of it, and the processor seconds that it has used."""
    port = free_port()
    command = [sys.executable, "-m", "loadline", "collector", "serve", "--data", str(data), "--port", str(port)]
    with running(command) as process, Client(f"http://127.0.0.1:{port}") as client:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(SourceError):
                client.query("vector(1)")
                break
            time.sleep(0.1)
        server = psutil.Process(process.pid)
        yield client, lambda: sum(server.cpu_times()[:2])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=int, default=1000, help="rules")
    parser.add_argument("--series", type=int, default=10_000, help="series")
    wanted = parser.parse_args()
    all_rules = rules(wanted.rules)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        with Store.open(data) as store:
            fill(store, wanted.series)
            inside = grouped(StoreSource(store), all_rules)
            within = rounds(inside, lambda: 0.0, threads=1)
        with collector(data) as (client, server_cpu_s):
            apart = rounds(grouped(client, all_rules), server_cpu_s, threads=len(inside))
    active = sum(len(status.active) for group in inside for status in group.status.rules)
    print(f"{wanted.rules} rules, {wanted.series} series, {active} active alerts; best of {ROUNDS} rounds")
    rows = []
    for how, found in (("in one process", within), ("over HTTP", apart)):
        best_s, best = min(one.took_s for one in found), min(found, key=lambda one: one.cpu_s)
        share = 100 * best.cpu_s / INTERVAL_S
        print(f"{how:<16}{best_s:>8.3f} s passed; CPU: {best.own_cpu_s:.3f} s here, {best.server_cpu_s:.3f} s there")
        print(f"{'':<16}{share:>8.1f}% of one core over {INTERVAL_S:g} s (goal: at most 10%)")
        name = f"{wanted.rules} rules over {wanted.series} series, {how}"
        figures = (
            ("one round", best_s, "s"), ("CPU time of rules and source", best.cpu_s, "s"),
            ("CPU time as a share of a 30 s interval", share, "%"),
        )  # fmt: skip
        rows += [
            {"what": f"{name}: {what}", "ours": round(value, 3), "unit": unit, "lower_is_better": True}
            for what, value, unit in figures
        ]
    print(json.dumps({"benchmark": "alert_rules", "rows": rows}))


if __name__ == "__main__":
    main()
