"""What the scheduler says of its requests' lengths, beside counting them one by one."""

from statistics import pvariance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe_engine.sched import Request, Scheduler, SchedulerConfig
from probe_engine.sched.moments import Moments, Population
from probe_engine.sched.request import RequestStatus

CONFIG = SchedulerConfig(num_blocks=12, block_size=4, max_num_batched_tokens=24, max_num_seqs=6, max_model_len=40)
LENGTHS = st.tuples(st.integers(1, 20), st.integers(1, 20))


def population(lengths: list[int]) -> Population:
    return Population(len(lengths), sum(lengths), pytest.approx(pvariance(lengths)) if lengths else 0.0)


def check(scheduler: Scheduler) -> None:
    by_status = {status: [one for one in scheduler.requests if one.status is status] for status in RequestStatus}
    waiting = by_status[RequestStatus.WAITING]
    assert scheduler.queued == population([one.prompt_tokens for one in waiting if not one.preemptions])
    assert scheduler.put_back == population([one.total_tokens for one in waiting if one.preemptions])
    assert scheduler.decoding == population([one.computed_tokens + 1 for one in by_status[RequestStatus.DECODE]])


@given(st.lists(LENGTHS, min_size=1, max_size=12), st.data())
def test_populations_are_those_of_the_requests_one_by_one(lengths: list[tuple[int, int]], data: st.DataObject) -> None:
    scheduler = Scheduler(CONFIG)
    for index, (prompt, output) in enumerate(lengths):
        late = data.draw(st.sampled_from([None, None, 3.0]))
        scheduler.add(Request(f"r{index}", prompt, output, 0.0, deadline_s=late))
    now = 0.0
    check(scheduler)
    while (output := scheduler.schedule(now)) is not None:
        check(scheduler)
        now += 1.0
        scheduler.update(output, {}, now)
        check(scheduler)
        if scheduler.requests and data.draw(st.integers(0, 9)) == 0:
            scheduler.abort(data.draw(st.sampled_from(scheduler.requests)).request_id, now)
            check(scheduler)
    assert scheduler.queued == scheduler.put_back == scheduler.decoding == (0, 0, 0.0)


def test_a_shift_of_all_values_leaves_the_variance() -> None:
    near, far = Moments(), Moments()
    for value in (3, 9, 27):
        near.add(value)
        far.add(value - 10**12)
    assert near.variance == far.variance == pvariance([3, 9, 27])
