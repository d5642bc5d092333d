"""Blocks that are only counted: the same decisions as blocks with ids, whatever comes."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe_engine.sched import ConfigError, Request, Scheduler, SchedulerConfig

CONFIG = SchedulerConfig(
    num_blocks=24, block_size=4, max_num_batched_tokens=24, max_num_seqs=6, max_model_len=80, prefix_cache=False
)


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
            scheduler.add(Request(str(number), one.prompt_tokens, one.max_tokens, float(step)))
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


@given(st.lists(COMING, max_size=20), st.booleans())
@settings(max_examples=100, deadline=None)
def test_counted_blocks_lead_to_the_same_decisions_as_blocks_with_ids(coming: list[Coming], passing: bool) -> None:
    counted, held = Scheduler(CONFIG, counted=True), Scheduler(CONFIG)
    assert decisions(counted, coming, passing) == decisions(held, coming, passing)
    assert counted.free_blocks == held.free_blocks == CONFIG.num_blocks
    assert counted.preemptions == held.preemptions


def test_blocks_that_are_only_counted_cannot_be_shared() -> None:
    with pytest.raises(ConfigError, match="cannot be shared"):
        Scheduler(SchedulerConfig(num_blocks=8), counted=True)
