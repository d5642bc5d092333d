"""Upkeep at every moment at which a reader or an append can come in between: nothing missing, nothing twice.

The locks are replaced by ones that call a probe whenever they are let go; what a thread could see between two steps,
the probe sees.
"""

from collections.abc import Callable
from pathlib import Path
from threading import Lock, RLock
from types import TracebackType
from typing import Any

import numpy as np
import pytest

from collector.model.labels import from_mapping
from collector.model.series import Series
from collector.store import Store

LAYOUT = [from_mapping({"__name__": "m", "i": str(i)}) for i in range(40)]
PUSHED = from_mapping({"__name__": "pushed"})
OLD = from_mapping({"__name__": "old"})


class ProbedLock:
    """A lock that calls ``probe`` after each release, but not from within itself."""

    def __init__(self, lock: Any, probe: Callable[[], None]) -> None:
        self._lock = lock
        self._depth = 0
        self.probe = probe

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        free = self._depth == 0
        self._lock.release()
        if free:
            self.probe()


class Between:
    """Runs an action whenever a lock is let go, and not within the action."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.moments = 0
        self._action = action
        self._busy = False

    def end(self) -> int:
        """From now on nothing is done; tells how often it was."""
        self._busy = True
        return self.moments

    def __call__(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            self._action()
            self.moments += 1
        finally:
            self._busy = False


def watch(store: Store, action: Callable[[], None]) -> Between:
    between = Between(action)
    store._state.lock = ProbedLock(Lock(), between)  # type: ignore[assignment]
    store.database.write_lock = ProbedLock(RLock(), between)  # type: ignore[assignment]
    return between


def fill(store: Store, steps: int) -> None:
    rng = np.random.default_rng(1)
    for step in range(steps):
        layout = LAYOUT if step % 8 else LAYOUT[:20]
        store.append_scrape("target", layout, 1_000 * step, rng.random(len(layout)))
        store.append_series([Series(PUSHED, np.array([1_000 * step]), np.array([step / 7]))])
        store.append_series([Series(PUSHED, np.array([1_000 * step - 500]), np.array([step / 3]))])


def contents(store: Store) -> list[tuple[object, bytes, bytes]]:
    groups = store.select([], -(10**9), 10**9)
    order = [(group, column) for group in groups for column in range(len(group.labels))]
    return sorted(
        (group.labels[column], group.timestamps_ms.tobytes(), np.ascontiguousarray(group.values[:, column]).tobytes())
        for group, column in order
    )


@pytest.mark.parametrize("work", ["cut", "compact", "maintain"])
def test_a_reader_between_any_two_steps_sees_every_sample_once(tmp_path: Path, work: str) -> None:
    with Store.open(tmp_path, block_ms=10_000, compact_ms=40_000, retention_ms=None, cache_bytes=0) as store:
        fill(store, 100)
        if work == "compact":
            store.cut(102_000)
        before = contents(store)

        def compare() -> None:
            assert contents(store) == before

        between = watch(store, compare)
        getattr(store, work)(102_000)
        assert between.end() > 10
        assert store.stats().recovered.damaged == 0


def test_a_store_that_is_killed_between_any_two_steps_opens_with_every_sample(tmp_path: Path) -> None:
    with Store.open(tmp_path / "a", block_ms=10_000, compact_ms=40_000, retention_ms=None) as store:
        fill(store, 60)
        before = contents(store)
        copies = tmp_path / "b"

        def reopen() -> None:
            copies.mkdir()
            for name in ("loadline.db-wal", "loadline.db"):
                (copies / name).write_bytes((tmp_path / "a" / name).read_bytes())
            with Store.open(copies, block_ms=10_000, compact_ms=40_000, retention_ms=None) as copy:
                assert copy.stats().recovered.damaged == 0
                assert contents(copy) == before
                copy.maintain(62_000)
                assert contents(copy) == before
                assert copy.stats().wal_rows == store_rows_left
            for path in copies.iterdir():
                path.unlink()
            copies.rmdir()

        with Store.open(tmp_path / "c", block_ms=10_000, compact_ms=40_000, retention_ms=None) as other:
            fill(other, 60)
            other.maintain(62_000)
            store_rows_left = other.stats().wal_rows
        between = watch(store, reopen)
        store.maintain(62_000)
        assert between.end() > 10


def test_what_arrives_while_a_cut_runs_is_kept_however_old_it_is(tmp_path: Path) -> None:
    arrived: list[int] = []
    with Store.open(tmp_path, block_ms=10_000, retention_ms=None) as store:
        fill(store, 30)

        def arrive() -> None:
            labels = from_mapping({"__name__": "old", "i": str(len(arrived))})
            store.append_series([Series(labels, np.array([2_000]), np.ones(1))])
            arrived.append(len(arrived))

        between = watch(store, arrive)
        store.cut(32_000)
        assert between.end() > 5
        for again in (store, None):
            with again or Store.open(tmp_path, block_ms=10_000, retention_ms=None) as one:
                found = [labels for labels in one.series([], 2_000, 2_000) if dict(labels)["__name__"] == "old"]
                assert len(found) == len(arrived)
