from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.sim import Twin, play, simulate
from planner.sim.simulate import split_blocks
from planner.steps.latency import ConstantModel, LinearModel, Overhead
from planner.traces.trace import Ragged, Trace, from_lengths
from probe_engine.sched import SchedulerConfig

CONFIG = SchedulerConfig(num_blocks=4096, block_size=16, max_num_batched_tokens=512, max_num_seqs=64)
MODEL = LinearModel(1e-3, 1e-5, 1e-9, 1e-4, 1e-7)


def azure_like(rows: int, rate: float, seed: int = 0) -> Trace:
    draw = np.random.default_rng(seed)
    return from_lengths(
        np.cumsum(draw.exponential(1 / rate, rows)),
        np.maximum(draw.lognormal(5, 1, rows).astype(int), 1).clip(max=2000),
        np.maximum(draw.lognormal(3, 1, rows).astype(int), 1).clip(max=500),
    )


def test_one_request_alone_takes_the_sum_of_its_steps() -> None:
    played = play(from_lengths([1.0], [100], [3]), Twin(CONFIG, MODEL))
    prefill = 1e-3 + 1e-5 * 100 + 1e-9 * 100 * 101 / 2
    decodes = sum(1e-3 + 1e-4 + 1e-7 * keys for keys in (101, 102))
    assert played.first_token_s[0] == pytest.approx(1.0 + prefill, rel=1e-12)
    assert played.last_token_s[0] == pytest.approx(1.0 + prefill + decodes, rel=1e-12)


def test_a_constant_step_server_of_one_seat_is_an_md1_queue() -> None:
    # One seat and one token each: service is exactly one step, so waiting is Pollaczek-Khinchine's.
    service, load, rows = 0.1, 0.7, 60_000
    draw = np.random.default_rng(7)
    trace = from_lengths(np.cumsum(draw.exponential(service / load, rows)), np.ones(rows, int), np.ones(rows, int))
    one_seat = SchedulerConfig(num_blocks=16, max_num_batched_tokens=1, max_num_seqs=1)
    played = play(trace, Twin(one_seat, ConstantModel(service)))
    mean = float((played.first_token_s - played.due_s)[2000:].mean())
    assert mean == pytest.approx(service + load * service / (2 * (1 - load)), rel=0.02)


def test_littles_law_holds_for_a_stable_fleet() -> None:
    trace = azure_like(4000, rate=20)
    played = play(trace, Twin(CONFIG, MODEL, replicas=2))
    in_system = played.last_token_s - played.due_s
    edges = np.concatenate([played.due_s, played.last_token_s])
    order = np.argsort(edges, kind="stable")
    level = np.cumsum(np.repeat([1, -1], len(trace))[order])
    area = float((level[:-1] * np.diff(edges[order])).sum())
    assert area == pytest.approx(float(in_system.sum()), rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    replicas=st.integers(1, 3),
    router=st.sampled_from(["least_load", "round_robin"]),
    blocks=st.integers(130, 400),
)
def test_every_request_ends_once_and_in_causal_order(seed: int, replicas: int, router: str, blocks: int) -> None:
    trace = azure_like(120, rate=200, seed=seed)
    tight = SchedulerConfig(num_blocks=blocks, max_num_batched_tokens=256, max_num_seqs=16)
    run = simulate(trace, Twin(tight, MODEL, replicas=replicas, router=router))
    requests = run.requests
    for row, status in enumerate(requests.status):
        if status == "rejected":
            assert np.isnan(requests.first_token_s[row])
            continue
        assert status == "ok"
        assert requests.due_s[row] < requests.first_token_s[row] <= requests.last_token_s[row]
        assert requests.token_times_s is not None
        times = requests.token_times_s[row]
        assert len(times) == trace.output_tokens[row]
        assert np.all(np.diff(times) > 0)
        assert times[-1] == requests.last_token_s[row]
    served = requests.status == "ok"
    prefilled = sum(o.prefill_tokens for o in run.observations)
    assert prefilled >= trace.input_tokens[served].sum()


def test_pooled_gaps_are_those_of_the_single_tokens() -> None:
    trace = azure_like(300, rate=300, seed=3)
    tight = SchedulerConfig(num_blocks=300, max_num_batched_tokens=256, max_num_seqs=32)
    played = play(trace, Twin(tight, MODEL), token_times=True)
    assert played.preemptions.sum() > 0
    assert played.token_times_s is not None
    tokens = np.sort(np.concatenate([np.diff(times) for times in played.token_times_s]))
    lengths, counts = played.gaps()
    pooled = np.repeat(lengths, counts.astype(int))
    pooled.sort()
    assert len(pooled) == len(tokens)
    assert pooled == pytest.approx(tokens, rel=1e-3)


@settings(max_examples=1000)
@given(
    seed=st.integers(0, 10_000),
    rate=st.floats(0.5, 400),
    blocks=st.integers(40, 400),
    seats=st.integers(1, 48),
    replicas=st.integers(1, 3),
    kv_s=st.sampled_from([0.0, 1e-7, 3e-6]),
    noise=st.sampled_from([(), (0.5, 1.0, 1.5)]),
    grid_s=st.sampled_from([0.0, 1e-3]),
    told=st.booleans(),
)
def test_passing_over_uniform_steps_changes_nothing(
    seed: int,
    rate: float,
    blocks: int,
    seats: int,
    replicas: int,
    kv_s: float,
    noise: tuple[float, ...],
    grid_s: float,
    told: bool,
) -> None:
    draw = np.random.default_rng(seed)
    at = np.cumsum(draw.exponential(1 / rate, 24))
    arrivals = np.round(at / grid_s) * grid_s if grid_s else at
    trace = from_lengths(arrivals, draw.integers(1, 250, 24), draw.geometric(1 / 40, 24).clip(max=300))
    shared = Ragged(np.tile(np.arange(3, dtype=np.uint64), 24), np.arange(25) * 3)
    if told:
        trace = replace(trace, columns={"prefix_hashes": shared, "block_tokens": np.full(24, 32)})
    config = SchedulerConfig(num_blocks=blocks, max_num_batched_tokens=128, max_num_seqs=seats)
    hull = MappingProxyType({"decode_kv_tokens": 900.0})
    twin = Twin(config, LinearModel(1e-3, 1e-5, 1e-9, 1e-4, kv_s), replicas=replicas, noise=noise, hull=hull)
    fast, slow = (play(trace, twin, seed=seed, skip=skip, token_times=True) for skip in (True, False))
    assert np.array_equal(fast.first_token_s, slow.first_token_s, equal_nan=True)
    assert np.array_equal(fast.last_token_s, slow.last_token_s, equal_nan=True)
    assert np.array_equal(fast.preemptions, slow.preemptions)
    assert np.array_equal(fast.cached_tokens, slow.cached_tokens, equal_nan=True)
    assert (fast.steps, fast.end_s, fast.refusals) == (slow.steps, slow.end_s, slow.refusals)
    assert fast.outside_ratio == slow.outside_ratio
    assert fast.token_times_s is not None and slow.token_times_s is not None
    assert all(np.array_equal(a, b) for a, b in zip(fast.token_times_s, slow.token_times_s, strict=True))
    for a, b in zip(fast.logs, slow.logs, strict=True):
        assert (a.busy_ticks, a.decode_seqs, a.decode_kv_tokens) == (b.busy_ticks, b.decode_seqs, b.decode_kv_tokens)
        assert all(np.array_equal(left, right) for left, right in zip(a.gaps.arrays(), b.gaps.arrays(), strict=True))


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    trace = azure_like(200, rate=50)
    noisy = Twin(CONFIG, MODEL, replicas=2, noise=(0.5, 1.0, 1.5))
    a, b, c = (play(trace, noisy, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(a.last_token_s, b.last_token_s)
    assert not np.array_equal(a.last_token_s, c.last_token_s)


def test_requests_that_can_never_fit_are_rejected_and_the_rest_go_on() -> None:
    run = simulate(from_lengths([0, 0, 1], [10, 0, 99_999], [1, 5, 1]), Twin(CONFIG, MODEL))
    assert run.requests.status.tolist() == ["ok", "rejected", "rejected"]
    assert "max_model_len is 4096" in (run.requests.error[2] or "")


def test_requests_that_come_together_share_a_step() -> None:
    together = play(from_lengths([0, 0], [8, 8], [1, 1]), Twin(CONFIG, ConstantModel(1.0)))
    assert together.first_token_s.tolist() == [1.0, 1.0]


def test_least_load_spreads_what_comes_at_once() -> None:
    trace = from_lengths([0] * 8, [8] * 8, [50] * 8)
    played = play(trace, Twin(CONFIG, MODEL, replicas=4))
    assert [log.decode_seqs for log in played.logs] == [2 * 49] * 4


def test_steps_beyond_the_observed_hull_are_counted() -> None:
    twin = Twin(CONFIG, MODEL, hull=MappingProxyType({"prefill_tokens": 50}))
    assert play(from_lengths([0.0], [100], [5]), twin).outside_ratio == pytest.approx(1 / 5)


def test_overhead_delays_the_first_token_and_nothing_else() -> None:
    bare = play(from_lengths([0.0], [100], [5]), Twin(CONFIG, MODEL))
    slow = play(from_lengths([0.0], [100], [5]), Twin(CONFIG, MODEL, overhead=Overhead(fixed_s=0.1)))
    assert (slow.first_token_s - bare.first_token_s)[0] == pytest.approx(0.1)
    assert (slow.last_token_s - slow.first_token_s)[0] == pytest.approx((bare.last_token_s - bare.first_token_s)[0])


def test_a_trace_block_becomes_the_engines_smaller_blocks() -> None:
    assert split_blocks([5, 9], 64, 16, prompt_tokens=100) == [20, 21, 22, 23, 36, 37]
    assert split_blocks([5, 9], 50, 16, prompt_tokens=100) == []


def test_shared_prefixes_are_found_in_the_cache() -> None:
    trace = from_lengths([0, 10], [64, 64], [1, 1])
    hashes = Ragged(np.array([1, 1], dtype=np.uint64), np.array([0, 1, 2]))
    shared = replace(trace, columns={"prefix_hashes": hashes, "block_tokens": np.array([64, 64])})
    assert play(shared, Twin(CONFIG, MODEL)).cached_tokens.tolist() == [0, 48]


def test_who_waits_beyond_its_deadline_is_dropped_and_the_others_are_served() -> None:
    one_seat = replace(CONFIG, max_num_seqs=1)
    trace = from_lengths([0.0, 0.1, 0.2], [10, 10, 10], [5, 5, 5])
    run = simulate(trace, Twin(one_seat, ConstantModel(0.1), deadline_s=0.45))
    assert run.requests.status.tolist() == ["ok", "ok", "rejected"]
    assert run.requests.error[2] == "its deadline passed while it waited"
    assert run.requests.first_token_s[1] == pytest.approx(0.6)


def test_a_batch_that_waits_for_company_goes_when_its_time_is_up() -> None:
    patient = replace(CONFIG, policy="dynamic", max_queue_delay_s=0.25)
    played = play(from_lengths([0.0], [10], [1]), Twin(patient, ConstantModel(0.1)))
    assert played.first_token_s[0] == pytest.approx(0.35)


def test_noise_in_stretches_keeps_what_followed_what() -> None:
    slow_then_fast = (1.5,) * 50 + (0.5,) * 50
    trace = from_lengths([0.0], [1], [400])
    shuffled, stretched = (
        simulate(trace, Twin(CONFIG, ConstantModel(0.1), noise=slow_then_fast, noise_stretch=stretch))
        for stretch in (1, 50)
    )
    changes = []
    for run in (shuffled, stretched):
        assert run.requests.token_times_s is not None
        gaps = np.diff(run.requests.token_times_s[0])
        changes.append(int((np.abs(np.diff(gaps)) > 0.05).sum()))
    assert changes[0] > 150
    assert changes[1] < 30
