"""How long one round of 1,000 alert rules over 10,000 series takes, as a share of a 30 s interval.

Rules are evaluated one after the other by ``alerts.group``, in process over the collector's store and engine, as
``serve`` does over HTTP; results (ALERTS) are written back to the same store.

    python -m benchmarks.alert_rules [--rules 1000] [--series 10000]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from alerts.group import Group
from alerts.rule import AlertRule, RuleGroup
from alerts.writeback import Writeback
from collector.model.labels import from_mapping
from collector.model.series import Sample, Series
from collector.promql import Engine
from collector.store import Store

INTERVAL_S = 30.0
SCRAPE_S = 15
INSTANCES = 100
NOW_S = 1_800_000_000
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=int, default=1000, help="rules")
    parser.add_argument("--series", type=int, default=10_000, help="series")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "store.db")
        fill(store, wanted.series)
        source = StoreSource(store)
        all_rules = rules(wanted.rules)
        groups = [
            Group(RuleGroup(f"g{first}", "bench.yml", all_rules[first : first + 50]), source, Writeback(source.write),
                  interval_s=INTERVAL_S)
            for first in range(0, len(all_rules), 50)
        ]  # fmt: skip
        took_s, busy_s = [], []
        for number in range(1, ROUNDS + 1):
            started, busy = time.perf_counter(), time.process_time()
            for group in groups:
                group.evaluate(NOW_S + number * INTERVAL_S)
            took_s.append(time.perf_counter() - started)
            busy_s.append(time.process_time() - busy)
        statuses = [status for group in groups for status in group.status.rules]
        broken = [status.error for status in statuses if status.health != "ok"]
        if broken:
            raise SystemExit(f"{len(broken)} rules failed: {broken[0]}")
        active = sum(len(status.active) for status in statuses)
        store.close()
    best_s, best_busy_s = min(took_s), min(busy_s)
    share = 100 * best_s / INTERVAL_S
    print(f"{wanted.rules} rules, {wanted.series} series, {active} active alerts")
    print(f"{'round':<8}{'seconds':>10}{'of CPU':>10}")
    for number, (took, busy) in enumerate(zip(took_s, busy_s, strict=True), start=1):
        print(f"{number:<8}{took:>10.3f}{busy:>10.3f}")
    print(f"best {best_s:.3f} s: {share:.1f}% of {INTERVAL_S:g} s (goal: at most 10%)")
    name = f"{wanted.rules} rules over {wanted.series} series"
    rows = [
        {"what": f"{name}: one round", "ours": round(best_s, 3), "unit": "s", "lower_is_better": True},
        {"what": f"{name}: CPU time", "ours": round(best_busy_s, 3), "unit": "s", "lower_is_better": True},
        {"what": f"{name}: share of a 30 s interval", "ours": round(share, 2), "unit": "%", "lower_is_better": True},
    ]
    print(json.dumps({"benchmark": "alert_rules", "rows": rows}))


if __name__ == "__main__":
    main()
