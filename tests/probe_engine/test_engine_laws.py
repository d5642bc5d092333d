"""Through the whole loop, under every policy: a request gets the tokens that it would get alone, in their order.

The runner reads each context back through the block tables, so a block that leaked, was shared wrongly or was given
away too early shows as another token.
"""

from dataclasses import replace
from hashlib import blake2b

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from probe_engine.model.sampling import SamplingParams
from probe_engine.runtime.generation import Generation
from probe_engine.sched import POLICIES, FinishReason, SchedulerConfig

BLOCK = 4
PROMPTS = st.builds(
    lambda group, blocks, tail: [97 + group] * (blocks * BLOCK) + tail,
    st.integers(0, 1),
    st.integers(0, 4),
    st.lists(st.integers(100, 102), min_size=1, max_size=9),
)
ASKED = st.builds(
    dict,
    prompt_ids=PROMPTS,
    max_tokens=st.integers(1, 14),
    priority=st.integers(0, 2),
    tenant=st.sampled_from([None, "a", "b"]),
    patience_s=st.none() | st.integers(0, 15),
    arrives=st.integers(0, 10),
    aborted=st.none() | st.integers(0, 25),
)
CONFIGS = st.builds(
    lambda blocks, budget, seqs, cache: SchedulerConfig(
        num_blocks=blocks,
        block_size=BLOCK,
        max_num_batched_tokens=max(budget, seqs),
        max_num_seqs=seqs,
        max_model_len=48,
        prefix_cache=cache,
    ),
    st.integers(12, 24),
    st.integers(1, 24),
    st.integers(1, 6),
    st.booleans(),
)


def continued(prompt_ids: list[int], count: int) -> list[int]:
    """What ``RecallingRunner`` samples after this prompt when nothing is wrong."""
    ids = list(prompt_ids)
    for _ in range(count):
        ids.append(97 + blake2b(repr(ids).encode(), digest_size=1).digest()[0] % 26)
    return ids[len(prompt_ids) :]


@pytest.mark.parametrize("overlaps", [False, True], ids=["one after the other", "overlapping"])
@pytest.mark.parametrize("policy", sorted(POLICIES))
@settings(max_examples=30, deadline=None)
@given(CONFIGS, st.lists(ASKED, min_size=1, max_size=9))
def test_every_request_gets_its_own_tokens_in_order_under_every_policy(
    engine_of, overlapping_engine_of, policy, overlaps, config, asked
):
    config = replace(config, policy=policy)
    now = [0.0]
    engine, runner = (overlapping_engine_of if overlaps else engine_of)(config, clock=lambda: now[0])
    asked = {f"r{index}": dict(one) for index, one in enumerate(asked)}
    got: dict[str, list[int]] = {name: [] for name in asked}
    ends: dict[str, FinishReason] = {}
    while len(ends) < len(asked):
        outputs = []
        for name, one in asked.items():
            if one["arrives"] == now[0]:
                engine.add(_generation(name, one))
            if one["aborted"] == now[0] and name not in ends and one["arrives"] <= now[0]:
                outputs.append(engine.abort(name))
        outputs += engine.step()
        for output in filter(None, outputs):
            if output.token_id is not None:
                got[output.request_id].append(output.token_id)
            if output.finish_reason is not None:
                assert output.request_id not in ends, "it ended twice"
                ends[output.request_id] = output.finish_reason
        now[0] += 1.0
        assert now[0] < 1500, "requests starve"
    event(f"preempted: {engine.scheduler.preemptions > 0}")
    for name, tokens in got.items():
        assert tokens == continued(asked[name]["prompt_ids"], len(tokens))
        if ends[name] is FinishReason.LENGTH:
            assert len(tokens) == asked[name]["max_tokens"]
        if ends[name] is FinishReason.DEADLINE:
            assert tokens == []
    assert set(ends.values()) <= {FinishReason.LENGTH, FinishReason.ABORT, FinishReason.DEADLINE}
    assert (runner.ids, engine.scheduler.free_blocks) == ({}, config.num_blocks)


def _generation(name: str, one: dict) -> Generation:
    deadline_s = None if one["patience_s"] is None else float(one["arrives"] + one["patience_s"])
    return Generation(
        name,
        one["prompt_ids"],
        one["max_tokens"],
        float(one["arrives"]),
        SamplingParams(temperature=0.0),
        priority=one["priority"],
        tenant=one["tenant"],
        deadline_s=deadline_s,
    )
