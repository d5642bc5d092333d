"""Laws that hold for whatever requests come, in whatever order, with stops and aborts."""

from collections import Counter
from dataclasses import dataclass, replace

from hypothesis import event, given, settings
from hypothesis import strategies as st

from probe_engine.sched import POLICIES, FinishReason, Request, RequestStatus, Scheduler, SchedulerConfig, hash_blocks

BLOCK = 4


@dataclass(frozen=True)
class Plan:
    """What one request asks for, and what happens to it."""

    ids: tuple[int, ...]
    max_tokens: int
    arrives_at_step: int
    stops_after: int | None
    aborted_at_step: int | None
    priority: int
    tenant: str | None
    patience: int | None  # steps until its deadline


PROMPTS = st.builds(
    lambda group, blocks, tail: (group,) * (blocks * BLOCK) + tuple(tail),
    st.integers(0, 2),
    st.integers(0, 3),
    st.lists(st.integers(3, 5), min_size=1, max_size=9),
)
PLANS = st.builds(
    Plan,
    PROMPTS,
    st.integers(1, 14),
    st.integers(0, 12),
    st.none() | st.integers(1, 14),
    st.none() | st.integers(0, 30),
    st.integers(0, 3),
    st.sampled_from([None, "a", "b"]),
    st.none() | st.integers(0, 20),
)
POLICY = st.builds(
    lambda policy, itl_slo_s: {"policy": policy, "itl_slo_s": None if policy in {"static", "dynamic"} else itl_slo_s},
    st.sampled_from(sorted(POLICIES)),
    st.none() | st.sampled_from([0.1, 10.0]),
)
CONFIGS = st.builds(
    lambda blocks, budget, seqs, cache: SchedulerConfig(
        num_blocks=blocks,
        block_size=BLOCK,
        max_num_batched_tokens=max(budget, seqs),
        max_num_seqs=seqs,
        max_model_len=100,
        prefix_cache=cache,
    ),
    st.integers(9, 24),
    st.integers(1, 24),
    st.integers(1, 6),
    st.booleans(),
)


class Run:
    """Serves plans to the end and checks every law at every step."""

    def __init__(self, config: SchedulerConfig, plans: list[Plan]) -> None:
        self.config = config
        self.scheduler = Scheduler(config)
        self.plans = {f"r{index}": plan for index, plan in enumerate(plans)}
        self.requests: dict[str, Request] = {}
        self.ended: list[Request] = []
        self.next_position: dict[str, int] = {}
        self.admitted: list[str] = []
        self.decisions: list[object] = []

    def serve(self) -> "Run":
        step = 0
        while len(self.ended) < len(self.plans):
            for name, plan in self.plans.items():
                if plan.arrives_at_step == step:
                    self._arrive(name, plan)
                if plan.aborted_at_step == step and (gone := self.scheduler.abort(name, float(step))) is not None:
                    self.ended.append(gone)
            self._step(float(step))
            self._check_blocks()
            assert len(self.requests) == self.scheduler.num_running + self.scheduler.num_waiting + len(self.ended)
            step += 1
            assert step < 2000, "requests starve"
        return self

    def _arrive(self, name: str, plan: Plan) -> None:
        request = Request(
            name, len(plan.ids), plan.max_tokens, float(plan.arrives_at_step), hash_blocks(0, plan.ids, BLOCK)
        )
        request.priority, request.tenant = plan.priority, plan.tenant
        request.deadline_s = None if plan.patience is None else request.arrival_s + plan.patience
        request.timeline.token_times = []
        self.requests[name] = request
        self.scheduler.add(request)

    def _step(self, now: float) -> None:
        output = self.scheduler.schedule(now)
        self.ended += self._dropped(now)
        if output is None:
            assert self.scheduler.num_running == 0
            assert self.scheduler.num_waiting == 0 or self.scheduler.wake_s() > now
            return
        for victim in output.preempted:
            self.next_position[victim.request_id] = 0
            assert victim.block_table == []
            assert victim.status is RequestStatus.WAITING
        self._check_chunks(output)
        stopped = {
            chunk.request.request_id: FinishReason.STOP
            for chunk in output.chunks
            if chunk.samples and chunk.request.output_tokens + 1 == self.plans[chunk.request.request_id].stops_after
        }
        self.decisions.append(
            [(c.request.request_id, c.start, c.tokens, tuple(c.request.block_table)) for c in output.chunks]
        )
        self.ended += self.scheduler.update(output, stopped, now + 0.5)

    def _dropped(self, now: float) -> list[Request]:
        dropped = self.scheduler.take_dropped()
        for request in dropped:
            assert request.finish_reason is FinishReason.DEADLINE
            assert request.deadline_s <= now
            assert request.timeline.scheduled_s is None
        return dropped

    def _check_chunks(self, output) -> None:
        config, stats = self.config, output.stats
        assert len(output.chunks) == len({chunk.request for chunk in output.chunks}) <= config.max_num_seqs
        assert sum(chunk.tokens for chunk in output.chunks) <= config.max_num_batched_tokens
        assert stats.decode_seqs == len(output.decodes)
        assert all(one.status is RequestStatus.DECODE for one in output.decodes)
        assert stats.decode_kv_tokens == sum(chunk.start + 1 for chunk in output.chunks[: stats.decode_seqs])
        assert stats.prefill_tokens == sum(chunk.tokens for chunk in output.prefills)
        assert stats.prefill_attention == sum(
            position + 1 for chunk in output.prefills for position in range(chunk.start, chunk.start + chunk.tokens)
        )
        for chunk in output.chunks:
            request = chunk.request
            name, expected = request.request_id, self.next_position.get(chunk.request.request_id, 0)
            if expected == 0:  # (re)admitted: it may start after a cached prefix, on a block's border
                assert chunk.start % BLOCK == 0
                if name not in self.admitted:
                    self.admitted.append(name)
            else:
                assert chunk.start == expected, "a token was computed twice or skipped"
            assert chunk.samples == (chunk.start + chunk.tokens == request.total_tokens)
            assert len(request.block_table) >= self.config.blocks_for(chunk.start + chunk.tokens)
            self.next_position[name] = chunk.start + chunk.tokens

    def _check_blocks(self) -> None:
        pool = self.scheduler.pool
        running = [one for one in self.requests.values() if one.status in {RequestStatus.PREFILL, RequestStatus.DECODE}]
        held = Counter(block for one in running for block in one.block_table)
        assert {block: pool.references(block) for block in range(pool.num_blocks) if pool.references(block)} == held
        assert pool.available == pool.num_blocks - len(held)
        owners: dict[int, tuple[int, ...]] = {}
        for one in running:
            assert len(set(one.block_table)) == len(one.block_table)
            for index, block in enumerate(one.block_table):
                if held[block] > 1:
                    content = self.plans[one.request_id].ids[: (index + 1) * BLOCK]
                    assert len(content) == (index + 1) * BLOCK, "an open block is shared"
                    assert owners.setdefault(block, content) == content, "a block is shared by different contents"


@settings(max_examples=200, deadline=None)
@given(CONFIGS, POLICY, st.lists(PLANS, min_size=1, max_size=10))
def test_blocks_and_requests_are_conserved_and_no_token_is_computed_twice(
    config: SchedulerConfig, policy: dict, plans: list[Plan]
):
    run = Run(replace(config, **policy), plans).serve()
    event(f"policy: {policy['policy']}")
    event(f"preemptions: {min(run.scheduler.preemptions, 3)}")
    assert run.scheduler.free_blocks == config.num_blocks
    for request in run.ended:
        plan = run.plans[request.request_id]
        times = request.timeline.token_times
        assert len(times) == request.output_tokens == request.timeline.tokens
        assert times == sorted(set(times))
        if request.finish_reason is FinishReason.LENGTH:
            assert request.output_tokens == plan.max_tokens
        if request.finish_reason is FinishReason.STOP:
            assert request.output_tokens == plan.stops_after
        if times:
            assert (request.timeline.first_token_s, request.timeline.last_token_s) == (times[0], times[-1])


@settings(max_examples=100, deadline=None)
@given(CONFIGS, st.lists(PLANS, min_size=1, max_size=10))
def test_requests_are_first_admitted_in_the_order_of_their_arrival(config: SchedulerConfig, plans: list[Plan]):
    run = Run(config, plans).serve()
    arrived = list(run.requests)
    assert run.admitted == [name for name in arrived if name in set(run.admitted)]
    assert [name for name in arrived if run.requests[name].timeline.scheduled_s is not None] == run.admitted


@settings(max_examples=50, deadline=None)
@given(CONFIGS, POLICY, st.lists(PLANS, min_size=1, max_size=10))
def test_the_same_requests_get_the_same_decisions(config: SchedulerConfig, policy: dict, plans: list[Plan]):
    config = replace(config, **policy)
    assert Run(config, plans).serve().decisions == Run(config, plans).serve().decisions
