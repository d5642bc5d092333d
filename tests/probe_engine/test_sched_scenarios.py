"""The scheduler's policy, one written scenario each."""

import pytest

from probe_engine.sched import (
    ConfigError,
    FinishReason,
    Request,
    RequestRefused,
    RequestStatus,
    Scheduler,
    SchedulerConfig,
    hash_blocks,
)


def scheduler(**limits) -> Scheduler:
    return Scheduler(SchedulerConfig(**{"num_blocks": 100, "block_size": 4, "max_model_len": 400, **limits}))


def request(name: str, prompt: int, output: int = 100, arrival_s: float = 0.0, ids: list[int] | None = None) -> Request:
    hashes = [] if ids is None else hash_blocks(0, ids, 4)
    return Request(name, prompt if ids is None else len(ids), output, arrival_s, hashes)


def shown(output) -> list[tuple[str, int, int, bool]]:
    return [(chunk.request.request_id, chunk.start, chunk.tokens, chunk.samples) for chunk in output.chunks]


def run(sched: Scheduler, now: float, stopped: dict[str, FinishReason] | None = None):
    output = sched.schedule(now)
    assert output is not None
    steps = shown(output)
    ended = sched.update(output, stopped or {}, now + 1)
    return steps, output, [one.request_id for one in ended]


def test_a_prompt_is_computed_whole_and_then_one_token_a_step():
    sched = scheduler()
    sched.add(request("a", 5, 3))
    assert run(sched, 0)[0] == [("a", 0, 5, True)]
    assert run(sched, 1)[0] == [("a", 5, 1, True)]
    steps, _, ended = run(sched, 2)
    assert (steps, ended) == ([("a", 6, 1, True)], ["a"])
    assert sched.schedule(3) is None
    assert sched.free_blocks == 100


def test_a_long_prompt_is_cut_into_chunks_of_the_token_budget():
    sched = scheduler(max_num_batched_tokens=8, max_num_seqs=4)
    sched.add(request("a", 19))
    assert run(sched, 0)[0] == [("a", 0, 8, False)]
    assert run(sched, 1)[0] == [("a", 8, 8, False)]
    assert run(sched, 2)[0] == [("a", 16, 3, True)]
    assert run(sched, 3)[0] == [("a", 19, 1, True)]


def test_decodes_come_first_then_running_prefills_then_the_queue():
    sched = scheduler(max_num_batched_tokens=10, max_num_seqs=4)
    sched.add(request("a", 4))
    run(sched, 0)
    sched.add(request("b", 14))
    sched.add(request("c", 3))
    assert run(sched, 1)[0] == [("a", 4, 1, True), ("b", 0, 9, False)]
    assert run(sched, 2)[0] == [("a", 5, 1, True), ("b", 9, 5, True), ("c", 0, 3, True)]


def test_the_first_that_does_not_fit_holds_the_queue():
    sched = scheduler(num_blocks=10)
    sched.add(request("a", 20, 10))
    sched.add(request("big", 30, 2))
    sched.add(request("small", 1, 2))
    assert [name for name, *_ in run(sched, 0)[0]] == ["a"]
    assert sched.num_waiting == 2


def test_no_more_than_max_num_seqs_run():
    sched = scheduler(max_num_seqs=2)
    for name in "abc":
        sched.add(request(name, 2, 2))
    assert [name for name, *_ in run(sched, 0)[0]] == ["a", "b"]
    assert run(sched, 1)[2] == ["a", "b"]
    assert [name for name, *_ in run(sched, 2)[0]] == ["c"]


def test_the_latest_arrived_is_preempted_and_computes_all_its_tokens_again():
    sched = scheduler(num_blocks=4)
    sched.add(request("a", 7, 6))
    sched.add(request("b", 7, 6))
    run(sched, 0)
    run(sched, 1)
    steps, output, _ = run(sched, 2)  # both would start a third block
    assert [one.request_id for one in output.preempted] == ["b"]
    assert steps == [("a", 8, 1, True)]
    assert (sched.preemptions, sched.num_waiting) == (1, 1)
    for now in (3, 4, 5):
        _, _, ended = run(sched, now)
    assert ended == ["a"]
    assert run(sched, 6)[0] == [("b", 0, 9, True)]  # 7 of the prompt and 2 that it had generated
    assert run(sched, 7)[0] == [("b", 9, 1, True)]


def test_a_request_may_preempt_itself():
    sched = scheduler(num_blocks=4)
    sched.add(request("a", 9, 3))
    sched.add(request("b", 4, 8))
    steps, output, _ = run(sched, 0)
    steps, output, _ = run(sched, 1)
    assert [one.request_id for one in output.preempted] == ["b"]
    assert steps == [("a", 9, 1, True)]


def test_nobody_is_admitted_in_a_step_that_preempts():
    sched = scheduler(num_blocks=4)
    sched.add(request("a", 8, 6))
    sched.add(request("b", 8, 6))
    run(sched, 0)
    sched.add(request("c", 1, 1))
    steps, output, _ = run(sched, 1)
    assert [one.request_id for one in output.preempted] == ["b"]
    assert [name for name, *_ in steps] == ["a"]


def test_a_preempted_request_keeps_its_place_before_later_ones():
    sched = scheduler(num_blocks=4)
    sched.add(request("a", 8, 3))
    sched.add(request("b", 8, 3))
    run(sched, 0)
    sched.add(request("c", 1, 1))
    for now in (1, 2):
        run(sched, now)
    assert [name for name, *_ in run(sched, 3)[0]] == ["b", "c"]


def test_a_shared_prefix_is_not_computed_again():
    sched = scheduler()
    sched.add(request("a", 0, 1, ids=[1, 2, 3, 4, 5, 6, 7, 8, 9]))
    run(sched, 0)
    second = request("b", 0, 1, ids=[1, 2, 3, 4, 5, 6, 7, 8, 77, 78])
    sched.add(second)
    assert run(sched, 1)[0] == [("b", 8, 2, True)]
    assert second.cached_tokens == 8
    assert (sched.prefix_queries_tokens, sched.prefix_hits_tokens) == (19, 8)


def test_a_prompt_that_is_cached_whole_computes_its_last_block_for_the_first_token():
    sched = scheduler()
    ids = [1, 2, 3, 4, 5, 6, 7, 8]
    sched.add(request("a", 0, 1, ids=ids))
    run(sched, 0)
    sched.add(request("b", 0, 1, ids=ids))
    assert run(sched, 1)[0] == [("b", 4, 4, True)]


def test_running_requests_share_blocks_and_each_frees_its_own_reference():
    sched = scheduler(num_blocks=5)
    ids = [1, 2, 3, 4, 5]
    sched.add(request("a", 0, 8, ids=ids))
    run(sched, 0)
    sched.add(request("b", 0, 2, ids=[1, 2, 3, 4, 6]))
    run(sched, 1)
    assert sched.free_blocks == 2  # a: shared + 1, b: shared + 1
    assert run(sched, 2)[2] == ["b"]
    assert sched.free_blocks == 3
    assert sched.pool.references(0) == 1


def test_the_least_recently_used_prefix_is_given_up_first():
    sched = scheduler(num_blocks=4)
    for name, ids in (("a", [1, 1, 1, 1, 1]), ("b", [2, 2, 2, 2, 2])):
        sched.add(request(name, 0, 1, ids=ids))
        run(sched, 0)
    sched.add(request("c", 0, 1, ids=[9] * 12))  # 2 free blocks and the oldest cached one
    run(sched, 1)
    kept, lost = request("b2", 0, 1, ids=[2, 2, 2, 2, 2]), request("a2", 0, 1, ids=[1, 1, 1, 1, 1])
    for again in (kept, lost):
        sched.add(again)
        run(sched, 2)
    assert (kept.cached_tokens, lost.cached_tokens) == (4, 0)


def test_the_end_of_a_prefix_is_given_up_before_its_beginning():
    sched = scheduler(num_blocks=4)
    sched.add(request("a", 0, 1, ids=[1] * 13))
    run(sched, 0)
    sched.add(request("b", 5, 1))  # the free block and one cached one
    run(sched, 1)
    again = request("c", 0, 1, ids=[1] * 13)
    sched.add(again)
    run(sched, 2)
    assert again.cached_tokens == 8


def test_generated_blocks_are_found_by_the_next_turn():
    sched = scheduler()
    first = request("a", 0, 6, ids=[1, 2, 3])
    sched.add(first)
    output = sched.schedule(0)
    first.block_hashes += hash_blocks(0, [1, 2, 3, 50], 4)  # the engine knows the token now
    sched.update(output, {}, 1)
    while sched.num_running:
        run(sched, 2)
    second = request("b", 0, 1, ids=[1, 2, 3, 50, 51])
    sched.add(second)
    run(sched, 3)
    assert second.cached_tokens == 4


def test_without_prefix_cache_nothing_is_shared():
    sched = scheduler(prefix_cache=False)
    for name in "ab":
        sched.add(request(name, 0, 1, ids=[1, 2, 3, 4, 5]))
        assert run(sched, 0)[0] == [(name, 0, 5, True)]
    assert sched.prefix_queries_tokens == 0


def test_a_stop_seen_by_the_driver_ends_the_request_there():
    sched = scheduler()
    one = request("a", 3, 50)
    sched.add(one)
    run(sched, 0)
    assert run(sched, 1, {"a": FinishReason.STOP})[2] == ["a"]
    assert (one.finish_reason, one.output_tokens, one.status) == (FinishReason.STOP, 2, RequestStatus.FINISHED)


def test_a_stop_at_the_last_allowed_token_counts_as_stop():
    sched = scheduler()
    one = request("a", 3, 1)
    sched.add(one)
    run(sched, 0, {"a": FinishReason.STOP})
    assert one.finish_reason is FinishReason.STOP


@pytest.mark.parametrize("steps", [0, 1, 2, 4])
def test_an_aborted_request_frees_its_blocks_wherever_it_is(steps: int):
    sched = scheduler(max_num_batched_tokens=8, max_num_seqs=4)
    sched.add(request("a", 12))
    for now in range(steps):
        run(sched, now)
    gone = sched.abort("a", 9.0)
    assert gone is not None
    assert (gone.finish_reason, gone.timeline.finished_s) == (FinishReason.ABORT, 9.0)
    assert (sched.free_blocks, sched.num_running, sched.num_waiting) == (100, 0, 0)
    assert sched.abort("a", 9.0) is None


def test_a_request_aborted_while_its_step_runs_is_passed_over():
    sched = scheduler()
    for name in "ab":
        sched.add(request(name, 5, 3))
    output = sched.schedule(0)
    sched.abort("a", 0.5)
    assert sched.update(output, {"a": FinishReason.STOP}, 1) == []
    assert run(sched, 1)[0] == [("b", 5, 1, True)]
    output = sched.schedule(2)
    sched.abort("b", 2.5)
    assert sched.update(output, {}, 3) == []
    assert sched.free_blocks == 100


def test_a_step_tells_its_size():
    sched = scheduler(max_num_batched_tokens=10, max_num_seqs=4)
    sched.add(request("a", 4))
    run(sched, 0)
    sched.add(request("b", 12))
    _, output, _ = run(sched, 1)
    assert output.stats.decode_seqs == 1
    assert output.stats.decode_kv_tokens == 5
    assert output.stats.prefill_tokens == 9
    assert output.stats.prefill_attention == 45
    _, output, _ = run(sched, 2)
    assert output.stats.decode_kv_tokens == 6
    assert output.stats.prefill_attention == 3 * 9 + 6


def test_the_timeline_holds_arrival_admission_tokens_and_finish():
    sched = scheduler()
    one = request("a", 3, 3, arrival_s=1.0)
    one.timeline.token_times = []
    sched.add(one)
    for now in (2.0, 4.0, 6.0):
        run(sched, now)
    timeline = one.timeline
    assert (timeline.queue_s, timeline.prefill_s, timeline.ttft_s) == (1.0, 1.0, 2.0)
    assert (timeline.decode_s, timeline.tpot_s, timeline.e2e_s, timeline.tokens) == (4.0, 2.0, 6.0, 3)
    assert timeline.token_times == [3.0, 5.0, 7.0]
    assert timeline.gaps_s == [2.0, 2.0]


def test_a_request_with_one_token_has_no_time_per_output_token():
    sched = scheduler()
    one = request("a", 3, 1)
    sched.add(one)
    run(sched, 0)
    assert one.timeline.tpot_s is None


@pytest.mark.parametrize(
    ("prompt", "output", "limit"),
    [(0, 1, "max_tokens"), (1, 0, "max_tokens"), (300, 101, "max_model_len"), (39, 3, "num_blocks")],
)
def test_what_can_never_run_is_refused_at_once(prompt: int, output: int, limit: str):
    sched = scheduler(num_blocks=10 if limit == "num_blocks" else 1000)
    with pytest.raises(RequestRefused) as refused:
        sched.add(request("a", prompt, output))
    assert refused.value.limit == limit
    assert sched.num_waiting == 0


def test_the_last_token_needs_no_block():
    sched = scheduler(num_blocks=10)
    sched.add(request("a", 39, 2))
    run(sched, 0)
    assert run(sched, 1)[2] == ["a"]


def test_an_id_in_use_is_refused():
    sched = scheduler()
    sched.add(request("a", 1))
    with pytest.raises(RequestRefused, match="in use"):
        sched.add(request("a", 1))


@pytest.mark.parametrize(
    "limits", [{"num_blocks": 0}, {"block_size": 0}, {"max_num_seqs": 9, "max_num_batched_tokens": 8}]
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, int]):
    with pytest.raises(ConfigError, match=next(iter(limits))):
        scheduler(**limits)


def test_block_hashes_chain_from_the_first_token_and_are_the_same_everywhere():
    hashes = hash_blocks(0, [1, 2, 3, 4, 5], 2)
    assert len(hashes) == 2
    assert hash_blocks(0, [9, 2, 3, 4], 2)[1] != hashes[1]
    assert hash_blocks(hashes[0], [3, 4], 2) == hashes[1:]
    assert hashes[0] == 0xFABE0F8CBECB81A2  # seen in another process
