"""Each scheduling policy, by written scenario, and the bound that it promises, by law."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe_engine.sched import ConfigError, FinishReason, Request, Scheduler, SchedulerConfig
from probe_engine.sched.batch_limit import WINDOW_STEPS, BatchLimit
from probe_engine.sched.slack_queue import LATE_SHARE


def scheduler(policy: str, **limits) -> Scheduler:
    limits = {"num_blocks": 400, "block_size": 4, "max_model_len": 400, "prefix_cache": False, **limits}
    return Scheduler(SchedulerConfig(policy=policy, **limits))


def request(name: str, *, at: float = 0.0, prompt: int = 4, output: int = 1, **options) -> Request:
    return Request(name, prompt, output, at, **options)


def admissions(sched: Scheduler, requests: list[Request], *, step_s: float = 1.0) -> list[str]:
    """Serve ``requests``, each added at its arrival; names in the order of first admission."""
    todo = sorted(requests, key=lambda one: one.arrival_s)
    order: list[str] = []
    now = 0.0
    while todo or sched.num_waiting or sched.num_running:
        while todo and todo[0].arrival_s <= now:
            sched.add(todo.pop(0))
        output = sched.schedule(now)
        if output is None:
            sched.take_dropped()
            now += step_s
            continue
        order += [
            c.request.request_id for c in output.prefills if c.request.timeline.scheduled_s == now and not c.start
        ]
        now += step_s
        sched.update(output, {}, now)
        assert now < 10_000
    return order


def test_the_more_urgent_class_goes_first():
    sched = scheduler("priority", max_num_seqs=1)
    calm, urgent = request("calm", priority=5), request("urgent", priority=0)
    assert admissions(sched, [calm, urgent]) == ["urgent", "calm"]


def test_equals_in_class_go_in_the_order_of_their_arrival():
    sched = scheduler("priority", max_num_seqs=1)
    assert admissions(sched, [request(name, priority=3) for name in "abc"]) == ["a", "b", "c"]


def test_waiting_makes_up_for_class():
    sched = scheduler("priority", max_num_seqs=1, priority_ageing_s=10.0)
    stream = [request(f"urgent-{at}", at=float(at), priority=0) for at in range(60)]
    order = admissions(sched, [request("calm", priority=2), *stream])
    assert order.index("calm") == 20  # those that arrived less than 2 x 10 s later went before it, and no other


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 4)), min_size=2, max_size=30),
    st.sampled_from([1.0, 3.0, 10.0]),
)
def test_no_request_is_passed_by_one_that_came_later_than_its_class_allows(arrivals, ageing_s):
    requests = [request(f"r{n}", at=float(at), priority=priority) for n, (at, priority) in enumerate(arrivals)]
    order = admissions(scheduler("priority", max_num_seqs=1, priority_ageing_s=ageing_s), requests)
    by_name = {one.request_id: one for one in requests}
    assert sorted(order) == sorted(by_name)
    for at, first in enumerate(order):
        for later in order[at + 1 :]:
            passed, passer = by_name[later], by_name[first]
            assert passer.arrival_s <= passed.arrival_s + max(0, passed.priority - passer.priority) * ageing_s


def test_the_least_urgent_gives_up_its_blocks():
    sched = scheduler("priority", num_blocks=4, max_num_seqs=2, max_model_len=16)
    calm, urgent = request("calm", prompt=7, output=8, priority=9), request("urgent", prompt=7, output=8, priority=0)
    for one in (calm, urgent):
        sched.add(one)
    preempted: list[str] = []
    now = 0.0
    while (output := sched.schedule(now)) is not None:
        preempted += [one.request_id for one in output.preempted]
        now += 1
        sched.update(output, {}, now)
    assert set(preempted) == {"calm"}


def test_a_flood_of_one_tenant_does_not_delay_another():
    sched = scheduler("fair", max_num_seqs=1)
    flood = [request(f"flood-{at}", tenant="big") for at in range(50)]
    order = admissions(sched, [*flood, request("small", at=3.0, tenant="small")])
    assert order.index("small") <= 5


def test_a_tenant_that_was_away_has_no_credit():
    sched = scheduler("fair", max_num_seqs=1)
    busy = [request(f"busy-{at}", tenant="busy") for at in range(40)]
    back = [request(f"back-{at}", at=20.0, tenant="back") for at in range(20)]
    order = admissions(sched, [*busy, *back])
    shared = order[order.index("back-0") :][:20]
    assert 9 <= sum(name.startswith("busy") for name in shared) <= 11  # turn by turn from its return on


def test_cheap_requests_are_served_more_often_than_dear_ones():
    sched = scheduler("fair", max_num_seqs=1, fair_output_weight=1.0)
    dear = [request(f"dear-{at}", prompt=99, tenant="dear") for at in range(10)]
    cheap = [request(f"cheap-{at}", prompt=9, tenant="cheap") for at in range(60)]
    order = admissions(sched, [*dear, *cheap])[:22]
    assert sum(name.startswith("cheap") for name in order) == 20


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 20)), min_size=25, max_size=40),
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 20)), min_size=25, max_size=40),
    st.integers(1, 6),
)
def test_two_tenants_that_always_wait_get_service_within_the_bound(mine, yours, seats):
    weight, blocks = 2.0, 60
    sched = scheduler("fair", max_num_seqs=seats, num_blocks=blocks, max_model_len=60, fair_output_weight=weight)
    for tenant, sizes in (("mine", mine), ("yours", yours)):
        for at, (prompt, output) in enumerate(sizes):
            sched.add(request(f"{tenant}-{at}", prompt=prompt, output=output, tenant=tenant))
    bound = 2 * max(30, weight * blocks * 4)
    now = 0.0
    waiting = {"mine": len(mine), "yours": len(yours)}
    while min(waiting.values()) > 0:
        output = sched.schedule(now)
        for chunk in output.prefills:
            if chunk.start == 0 and not chunk.request.preemptions:
                waiting[chunk.request.tenant] -= 1
        now += 1
        sched.update(output, {}, now)
        assert abs(sched._queue.service("mine") - sched._queue.service("yours")) <= bound


def test_the_nearest_deadline_goes_first():
    sched = scheduler("slo", max_num_seqs=1, ttft_slo_s=50.0)
    assert admissions(sched, [request("slow"), request("soon", deadline_s=9.0)]) == ["soon", "slow"]


def test_a_long_prompt_has_to_start_sooner():
    sched = scheduler("slo", max_num_seqs=1, ttft_slo_s=50.0, prefill_s_per_token=0.1)
    assert admissions(sched, [request("short"), request("long", prompt=200)]) == ["long", "short"]


def test_a_late_request_gives_way_to_one_that_can_still_be_in_time():
    sched = scheduler("slo", max_num_seqs=1, ttft_slo_s=5.0)
    late, fresh = request("late", at=0.0), request("fresh", at=10.0)
    for one in (late, fresh):
        sched.add(one)
    assert sched.schedule(10.0).prefills[0].request is fresh


def test_the_late_have_their_share():
    sched = scheduler("slo", max_num_seqs=1, ttft_slo_s=2.0)
    late = [request(f"late-{at}") for at in range(3)]
    fresh = [request(f"fresh-{at}", at=float(at)) for at in range(3, 60)]
    order = admissions(sched, [*late, *fresh])
    for at, name in enumerate(["late-2"]):
        assert order.index(name) <= LATE_SHARE * (at + 1) + 3


@pytest.mark.parametrize("policy", ["fcfs", "priority", "fair", "slo", "dynamic"])
def test_a_request_past_its_deadline_is_dropped_while_it_waits(policy):
    sched = scheduler(policy, max_num_seqs=1)
    sched.add(request("first", output=50))
    now = 1.0
    sched.update(sched.schedule(now), {}, now)
    sched.add(request("doomed", at=now, deadline_s=3.0))
    assert sched.schedule(2.0) is not None
    assert sched.take_dropped() == []
    assert sched.schedule(3.0) is not None
    (dropped,) = sched.take_dropped()
    assert (dropped.request_id, dropped.finish_reason, dropped.timeline.finished_s) == (
        "doomed",
        FinishReason.DEADLINE,
        3.0,
    )
    assert sched.num_waiting == 0


def test_a_request_that_was_admitted_outlives_its_deadline():
    sched = scheduler("fcfs")
    sched.add(request("a", output=3, deadline_s=1.0))
    sched.update(sched.schedule(0.0), {}, 2.0)
    sched.add(request("b", at=2.0))
    assert sched.schedule(2.0) is not None
    assert sched.take_dropped() == []


def test_nobody_joins_a_static_batch():
    sched = scheduler("static", max_num_seqs=4)
    for one in (request("long", output=5), request("short", output=1)):
        sched.add(one)
    sched.update(sched.schedule(0.0), {}, 1.0)
    sched.add(request("late", at=1.0))
    joined = []
    for step in range(1, 6):
        output = sched.schedule(float(step))
        joined.append([chunk.request.request_id for chunk in output.chunks])
        sched.update(output, {}, step + 1.0)
    assert joined == [["long"]] * 4 + [["late"]]


def test_a_static_batch_that_does_not_fit_leaves_the_rest_to_the_next():
    sched = scheduler("static", num_blocks=3, max_model_len=8)
    for one in (request("a", prompt=6, output=2), request("b", prompt=6, output=2)):
        sched.add(one)
    assert [chunk.request.request_id for chunk in sched.schedule(0.0).chunks] == ["a"]
    assert sched.num_waiting == 1


def test_a_dynamic_batch_goes_at_once_when_it_has_a_preferred_size():
    sched = scheduler("dynamic", preferred_batch_sizes=(2, 4), max_queue_delay_s=10.0, max_num_seqs=8)
    sched.add(request("a"))
    assert sched.schedule(0.0) is None
    assert sched.wake_s() == 10.0
    sched.add(request("b", at=1.0))
    sched.add(request("c", at=1.0))
    assert [chunk.request.request_id for chunk in sched.schedule(1.0).chunks] == ["a", "b"]


def test_a_dynamic_batch_goes_incomplete_when_the_oldest_has_waited_long_enough():
    sched = scheduler("dynamic", preferred_batch_sizes=(4,), max_queue_delay_s=0.1, max_num_seqs=8)
    sched.add(request("a", at=0.7))
    sched.add(request("b", at=0.75))
    assert sched.schedule(0.79) is None
    assert [chunk.request.request_id for chunk in sched.schedule(sched.wake_s()).chunks] == ["a", "b"]


def test_a_dynamic_batch_holds_prompts_of_like_length():
    sched = scheduler("dynamic", preferred_batch_sizes=(2,), length_buckets=(8, 64), max_num_seqs=4)
    for name, prompt in (("short-1", 5), ("long-1", 60), ("longest", 90), ("long-2", 50), ("short-2", 8)):
        sched.add(request(name, prompt=prompt))
    assert [chunk.request.request_id for chunk in sched.schedule(0.0).chunks] == ["short-1", "short-2"]


def test_a_rare_length_is_not_passed_over_for_ever():
    sched = scheduler("dynamic", preferred_batch_sizes=(2,), length_buckets=(8,), max_queue_delay_s=5.0, max_num_seqs=2)
    common = [request(f"short-{at}", at=at / 2) for at in range(60)]
    order = admissions(sched, [request("rare", prompt=20), *common])
    assert order.index("rare") <= 12


def test_the_batch_limit_grows_while_tokens_come_in_time_and_halves_when_not():
    limit = BatchLimit(0.05, 64)
    assert limit.limit == limit.growth == 2
    for _ in range(3 * WINDOW_STEPS):
        limit.observe(0.04, limit.limit)
    assert limit.limit == 8
    for _ in range(WINDOW_STEPS):
        limit.observe(0.06, limit.limit)
    assert limit.limit == 4
    for _ in range(WINDOW_STEPS):
        limit.observe(0.06, 8)  # those who were too many still run: no second punishment
    assert limit.limit == 4


def test_an_idle_replica_proves_nothing_about_the_batch_limit():
    limit = BatchLimit(0.05, 64)
    for _ in range(10 * WINDOW_STEPS):
        limit.observe(0.001, 1)
    assert limit.limit == limit.growth


def test_a_replica_settles_where_its_tokens_keep_the_slo():
    sched = scheduler("fcfs", num_blocks=40_000, max_num_seqs=64, itl_slo_s=0.02)
    for at in range(2_000):
        sched.add(request(f"r{at}", output=20))
    now, seen = 0.0, []
    while (output := sched.schedule(now)) is not None:
        now += 0.001 * len(output.requests)  # 20 at once take 20 ms
        sched.update(output, {}, now)
        seen.append(sched.num_running)
    settled = sorted(seen[len(seen) // 2 : -50])
    assert settled[len(settled) // 10] >= 8
    assert settled[-1] <= 24


@settings(max_examples=100)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 80)), max_size=300), st.integers(1, 64))
def test_the_batch_limit_stays_within_its_bounds(gaps, most):
    limit = BatchLimit(0.05, most)
    for gap_s, running in gaps:
        limit.observe(gap_s, running)
        assert 1 <= limit.limit <= most


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"policy": "lifo"}, "policy is 'lifo'; it must be one of fcfs"),
        ({"priority_ageing_s": 0.0}, "priority_ageing_s is 0.0; it must be more than 0"),
        ({"itl_slo_s": -1.0}, "itl_slo_s is -1.0; it must be more than 0"),
        ({"max_queue_delay_s": -0.1}, "max_queue_delay_s is -0.1; it must be at least 0"),
        ({"length_buckets": (0,)}, "length_buckets has 0; each must be at least 1"),
        ({"preferred_batch_sizes": (512,)}, "no batch is larger than max_num_seqs"),
        ({"policy": "static", "itl_slo_s": 0.1}, "policy static has no batch size to adapt"),
    ],
)
def test_a_policys_setting_that_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        SchedulerConfig(num_blocks=10, **wrong)
