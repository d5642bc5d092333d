"""Readers beside a writer and a cut: every answer is one moment of the store, no sample twice, none missing."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np

from collector.model.labels import from_mapping
from collector.model.matchers import Matcher
from collector.model.series import Series
from collector.store import Store

SCRAPES = 1_500
LAYOUT = [from_mapping({"__name__": "m", "i": str(i)}) for i in range(60)]
PUSHED = from_mapping({"__name__": "pushed"})


def write(store: Store, done: Event) -> None:
    layouts = [LAYOUT, LAYOUT[:40]]
    try:
        for step in range(SCRAPES):
            layout = layouts[step // 100 % 2]
            store.append_scrape("target", layout, 1_000 * step, np.full(len(layout), float(step)))
            store.append_series([Series(PUSHED, np.array([1_000 * step], np.int64), np.array([float(step)]))])
    finally:
        done.set()


def keep_cutting(store: Store, done: Event) -> int:
    cuts = 0
    while not done.is_set():
        newest_ms = store.stats().newest_ms
        if newest_ms is not None:
            cuts += store.cut(newest_ms) > 0
            store.database.checkpoint()
    return cuts


def read(store: Store, done: Event) -> int:
    reads = seen = 0
    while not done.is_set():
        for name in ("m", "pushed"):
            matchers = [Matcher("__name__", "=", name), Matcher("i", "=~", "|7|39")]
            groups = store.select(matchers, 0, 10**9)
            if not groups:
                continue
            (group,) = groups
            steps = len(group.timestamps_ms)
            expected = np.arange(steps)
            assert (group.timestamps_ms == expected * 1_000).all()
            assert (group.values == expected[:, None]).all()
            if name == "m":
                assert steps >= seen
                seen = steps
        reads += 1
    return reads


def test_readers_see_every_sample_once_while_scrapes_arrive_and_cuts_run(tmp_path: Path) -> None:
    done = Event()
    with Store.open(tmp_path, block_ms=50_000, retention_ms=None) as store, ThreadPoolExecutor(5) as pool:
        readers = [pool.submit(read, store, done) for _ in range(2)]
        cutter = pool.submit(keep_cutting, store, done)
        pool.submit(write, store, done).result()
        assert all(reader.result() > 0 for reader in readers)
        assert cutter.result() > 0
        (group,) = store.select([Matcher("__name__", "=", "m"), Matcher("i", "=", "7")], 0, 10**9)
        assert group.values[:, 0].tolist() == list(range(SCRAPES))


def test_many_threads_may_append(tmp_path: Path) -> None:
    def target(number: int) -> None:
        layout = [from_mapping({"__name__": "m", "target": str(number), "i": str(i)}) for i in range(5)]
        for step in range(100):
            store.append_scrape(f"target {number}", layout, step + 1, np.full(5, float(step)))

    with Store.open(tmp_path, retention_ms=None) as store, ThreadPoolExecutor(8) as pool:
        list(pool.map(target, range(8)))
        groups = store.select([], 0, 10**9)
        assert len(groups) == 8
        assert all((group.values == np.arange(100.0)[:, None]).all() for group in groups)
        assert store.stats().series == 40
