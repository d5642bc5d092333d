"""Differences between runs: found where they are, not found where there is only chance."""

import numpy as np
import pytest

from planner.result import Requests, Run, RunHeader
from planner.significance import BLOCK, differences


def run_of(ttft_s, *, rows=None, trace="a"):
    count = len(ttft_s)
    due = np.arange(count) / 10
    first = due + ttft_s
    return Run(
        RunHeader(kind="replay", target="x", model="m", trace="t", trace_sha256=trace),
        Requests(
            row_id=np.arange(count) if rows is None else rows,
            due_s=due,
            sent_s=due,
            first_token_s=first,
            last_token_s=first + 1.0,
            end_s=first + 1.0,
            input_tokens=np.full(count, 5),
            output_tokens=np.full(count, 11),
            cached_tokens=np.full(count, np.nan),
            status=np.full(count, "ok"),
            error=(None,) * count,
        ),
    )


def noise(seed, count=600):
    return np.random.default_rng(seed).lognormal(-1, 0.5, count)


def by(found):
    return {(one.metric, one.quantile): one for one in found.differences}


def test_the_same_run_twice_does_not_differ():
    run = run_of(noise(1))
    found = differences(run, run)
    assert found.paired
    assert all(one.difference_s == 0 and one.differs is False for one in found.differences)


def test_a_constant_shift_is_found_to_the_digit_where_requests_are_paired():
    times = noise(1)
    one = by(differences(run_of(times), run_of(times + 0.01)))["ttft_due_s", 0.95]
    assert one.differs
    assert (one.low_s, one.high_s) == (pytest.approx(0.01), pytest.approx(0.01))


def test_unpaired_runs_of_one_distribution_seldom_differ():
    told = [
        one.differs
        for seed in range(8)
        for one in differences(run_of(noise(seed)), run_of(noise(seed + 100), trace="b")).differences
        if one.metric == "ttft_due_s"
    ]
    assert sum(told) <= 4


def test_a_burst_that_lasts_is_one_piece_of_evidence_and_not_many():
    """Successive requests share a queue: were they drawn singly, one burst of 25 would always pass for a difference."""
    calm = np.full(100, 0.1)
    bursty = calm.copy()
    bursty[40 : 40 + BLOCK] = 5.0
    one = by(differences(run_of(calm), run_of(bursty)))["ttft_due_s", 0.95]
    assert one.difference_s == pytest.approx(4.9)
    assert one.differs is False


def test_of_few_requests_nothing_is_said():
    few = noise(1, 20)
    assert {one.differs for one in differences(run_of(few), run_of(few + 1)).differences} == {None}


def test_the_answer_is_the_same_for_the_same_seed():
    a, b = run_of(noise(1)), run_of(noise(2))
    assert differences(a, b) == differences(a, b)
    assert differences(a, b) != differences(a, b, seed=1)
