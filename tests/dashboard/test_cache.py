from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from dashboard.cache import Cache, Late, Wanted


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def executor():
    with ThreadPoolExecutor(4) as made:
        yield made


def wanted(load, key="k", kin="kin", ttl_s=10.0):
    return {"": Wanted(key, kin, load, ttl_s)}


def test_an_answer_is_fetched_once_within_its_time_to_live(executor):
    clock, calls = Clock(), []
    cache = Cache(executor, clock)
    for _ in range(3):
        assert cache.get(wanted(lambda: calls.append(1) or len(calls)))[""].value == 1
    clock.now_s += 11
    assert cache.get(wanted(lambda: calls.append(1) or len(calls)))[""].value == 2


def test_callers_at_the_same_time_share_one_fetch(executor):
    entered, go, calls = Event(), Event(), []

    def load():
        calls.append(1)
        entered.set()
        go.wait(30)
        return "answer"

    cache = Cache(executor, Clock())
    with ThreadPoolExecutor(5) as callers:
        asked = [callers.submit(cache.get, wanted(load), 30.0) for _ in range(5)]
        entered.wait(30)
        go.set()
        assert {one.result()[""].value for one in asked} == {"answer"}
    assert len(calls) == 1


def test_a_failure_leaves_the_last_good_answer_of_its_kin_stale(executor):
    clock = Clock()
    cache = Cache(executor, clock)
    cache.get(wanted(lambda: "old", key=1))
    clock.now_s += 60
    held = cache.get(wanted(lambda: 1 / 0, key=2))[""]
    assert held.value == "old"
    assert held.fetched_s == 1000.0
    assert isinstance(held.error, ZeroDivisionError)


def test_a_failure_without_kin_is_only_its_error(executor):
    held = Cache(executor, Clock()).get(wanted(lambda: 1 / 0))[""]
    assert held.value is None
    assert isinstance(held.error, ZeroDivisionError)


def test_a_failure_is_not_asked_again_at_once(executor):
    clock, calls = Clock(), []
    cache = Cache(executor, clock, failure_ttl_s=2.0)

    def load():
        calls.append(1)
        raise ValueError("no")

    cache.get(wanted(load))
    cache.get(wanted(load))
    assert len(calls) == 1
    clock.now_s += 3
    cache.get(wanted(load))
    assert len(calls) == 2


def test_a_late_answer_is_replaced_by_its_kin_and_serves_the_next_caller(executor):
    go = Event()
    cache = Cache(executor, Clock(), patience_s=0.01, deadline_s=30.0)
    cache.get(wanted(lambda: "old", key=1))
    late = cache.get(wanted(lambda: go.wait(30) and "new", key=2))[""]
    assert late.value == "old"
    assert isinstance(late.error, Late)
    go.set()
    fresh = cache.get(wanted(lambda: "never asked", key=2), 30.0)[""]
    assert fresh.value in ("new", "old")


def test_the_deadline_bounds_the_wait_for_a_first_answer(executor):
    go = Event()
    held = Cache(executor, Clock(), patience_s=0.01, deadline_s=0.02).get(wanted(lambda: go.wait(30)))[""]
    go.set()
    assert held.value is None
    assert str(held.error) == "no answer within 0.02 s"
