"""Blocks that are only counted: the same decisions as blocks with ids, whatever comes."""

from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from probe_engine.sched import Policy, Request, Scheduler, SchedulerConfig
from probe_engine.sched.block_pool import CountedBlocks

CONFIG = SchedulerConfig(num_blocks=24, block_size=4, max_num_batched_tokens=24, max_num_seqs=6, max_model_len=80)
POLICIES = ("fcfs", "priority", "fair", "slo", "static", "dynamic")


@dataclass(frozen=True, slots=True)
class Coming:
    """A request that comes before a step."""

    step: int
    prompt_tokens: int
    max_tokens: int


COMING = st.builds(Coming, st.integers(0, 40), st.integers(1, 40), st.integers(1, 40))


def decisions(scheduler: Scheduler, coming: list[Coming], passing: bool) -> list[object]:
    """What a scheduler decides, and how full it is, step by step until it is idle."""
    waiting = sorted(enumerate(coming), key=lambda pair: (pair[1].step, pair[0]))
    told: list[object] = []
    for step in range(4000):
        while waiting and waiting[0][1].step <= step:
            number, one = waiting.pop(0)
            hashes = [-100 * number - block for block in range((one.prompt_tokens + one.max_tokens) // 4)]
            scheduler.add(Request(str(number), one.prompt_tokens, one.max_tokens, float(step), hashes))
        output = scheduler.schedule(float(step))
        if output is None:
            if not waiting:
                return told
            continue
        told.append((
            [request.request_id for request in output.decodes],
            [(chunk.request.request_id, chunk.start, chunk.tokens, chunk.samples) for chunk in output.prefills],
            [request.request_id for request in output.preempted],
            output.stats,
            scheduler.kv_usage,
        ))  # fmt: skip
        if passing and (steps := scheduler.uniform_steps(output)) > 1:
            told.append(steps)
            scheduler.pass_over(steps - 1, [])
        told.append([request.request_id for request in scheduler.update(output, {}, float(step))])
    raise AssertionError("never idle")


@given(st.lists(COMING, max_size=20), st.booleans(), st.booleans(), st.sampled_from(POLICIES))
@settings(max_examples=200, deadline=None)
def test_counted_blocks_lead_to_the_same_decisions_as_blocks_with_ids(
    coming: list[Coming], passing: bool, prefix_cache: bool, policy: Policy
) -> None:
    config = replace(CONFIG, prefix_cache=prefix_cache, policy=policy)
    counted, held = Scheduler(config, counted=True), Scheduler(config)
    assert decisions(counted, coming, passing) == decisions(held, coming, passing)
    assert counted.free_blocks == held.free_blocks == CONFIG.num_blocks
    assert counted.pool.cached == held.pool.cached
    assert counted.preemptions == held.preemptions


@given(st.lists(COMING, max_size=20), st.booleans())
@settings(max_examples=100, deadline=None)
def test_steps_that_are_passed_over_publish_what_single_steps_publish(coming: list[Coming], counted: bool) -> None:
    at_once = [replace(one, step=0) for one in coming]
    passing, stepping = (Scheduler(CONFIG, counted=counted) for _ in range(2))
    assert ended(decisions(passing, at_once, True)) == ended(decisions(stepping, at_once, False))
    assert passing.pool.cached == stepping.pool.cached
    assert (passing.steps, passing.preemptions) == (stepping.steps, stepping.preemptions)


def ended(told: list[object]) -> list[object]:
    """The requests that ended together, in their order."""
    return [one for one in told if isinstance(one, list) and one]


def test_a_request_that_lost_its_blocks_finds_those_that_nobody_took_since() -> None:
    pool = CountedBlocks(10, prefix_cache=True)
    first, second, third = (Request(name, 4, 4, 0.0) for name in "abc")
    for request, blocks in ((first, 4), (second, 3)):
        request.block_table = pool.acquire(blocks) or []
    pool.release(first, 3, ended=False)
    pool.release(second, 3, ended=False)
    assert pool.acquire(5)  # four that hold nothing, and the last of the first that let go
    assert pool.admit(first, 3, 9) == ([0] * 3, 2)
    assert pool.admit(second, 3, 9) is None
    assert pool.admit(second, 2, 9) == ([0] * 2, 2)
    assert pool.admit(third, 1, 9) is None
