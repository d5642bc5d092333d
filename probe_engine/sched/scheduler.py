"""Continuous batching: who computes how many tokens in each step.

It decides and never does: ``schedule()`` says what to run, the driver runs it (the engine with torch, the twin with a
step-time model), ``update()`` records that it ran. Policy:

* decodes first, one token each; then running prefills; then waiting requests, in the order of the configured policy
  (first come, first served unless told otherwise), until the token budget is spent (chunked prefill);
* a request is admitted when blocks for all of its known tokens can be had, less those found in the prefix cache; the
  first that does not fit holds the queue;
* when a decode needs a block and none can be had, a running request is preempted (the latest admitted, unless the
  policy knows better): it loses its blocks, goes back to the queue, ahead of its peers, and computes its tokens again;
  nobody is admitted in such a step;
* a request whose deadline passes while it waits for its first admission is dropped.

Event-driven: a decode step touches only requests that need a block or finish (``decode_set.py``), so its cost does not
grow with the number of running requests.
"""

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush

from probe_engine.sched.batch_limit import BatchLimit
from probe_engine.sched.block_pool import BlockPool, Blocks, CountedBlocks
from probe_engine.sched.config import SchedulerConfig
from probe_engine.sched.decode_set import DecodeSet
from probe_engine.sched.errors import ConfigError, RequestRefused
from probe_engine.sched.moments import Moments, Population
from probe_engine.sched.output import Chunk, SchedulerOutput, StepStats, prefill_work
from probe_engine.sched.policies import POLICIES
from probe_engine.sched.request import FinishReason, Request, RequestStatus


class Scheduler:
    """One replica's queue, running set and KV blocks. Deterministic; not thread-safe.

    Counters (all cumulative): ``steps``, ``preemptions``, ``prefix_queries_tokens`` and ``prefix_hits_tokens`` (first
    admissions only). With ``counted`` blocks are numbers without ids, for drivers that keep no keys and whose requests
    share none; every decision is the same.
    """

    def __init__(self, config: SchedulerConfig, *, counted: bool = False) -> None:
        self.config = config
        self.steps = 0
        self.preemptions = 0
        self.prefix_queries_tokens = 0
        self.prefix_hits_tokens = 0
        self.pool: Blocks = (CountedBlocks if counted else BlockPool)(config.num_blocks, config.prefix_cache)
        self._requests: dict[str, Request] = {}
        self._running: dict[Request, None] = {}  # in order of admission: the last is the latest
        self._prefilling: dict[Request, None] = {}
        self._decoding = DecodeSet(config.block_size)
        self._clock = self._decoding.clock
        self._queue = POLICIES[config.policy](config, self._clock)
        self._queued = Moments()  # prompts of those that wait for their first admission
        self._put_back = Moments()  # contexts of those that were preempted and wait again
        self._limit = None if config.itl_slo_s is None else BatchLimit(config.itl_slo_s, config.max_num_seqs)
        self._most_running = config.max_num_seqs
        self._decoded_s: float | None = None  # when the last step's decodes got their tokens
        self._deadlines: list[tuple[float, int, Request]] = []  # a heap; entries of admitted requests are stale
        self._deadlines_made = 0
        self._dropped: list[Request] = []
        self._blocked: tuple[Request, int] | None = None  # head of the queue and pool version when it did not fit

    @property
    def num_running(self) -> int:
        """Requests that hold blocks."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Requests in the queue, preempted ones included."""
        return self._queue.waiting

    @property
    def decoding(self) -> Population:
        """Requests that decode, and the contexts that their next step reads."""
        return self._decoding.population

    @property
    def queued(self) -> Population:
        """Requests that have never been admitted, and their prompts."""
        return self._queued.population()

    @property
    def put_back(self) -> Population:
        """Preempted requests that wait again, and their contexts."""
        return self._put_back.population()

    @property
    def batch_limit(self) -> int:
        """Most requests that may run now: ``max_num_seqs``, or fewer to keep ``itl_slo_s`` or as ``hold_to`` said."""
        return self._most_running if self._limit is None else min(self._most_running, self._limit.limit)

    def hold_to(self, most: int | None) -> None:
        """Let at most ``most`` requests run from now on; None: as many as configured. What runs goes on.

        Changes one number: safe from any thread. Raises ``ConfigError``.
        """
        allowed = self.config.max_num_seqs
        if most is not None and not 1 <= most <= allowed:
            raise ConfigError(f"max_num_seqs is {most}; it must be 1 to {allowed}, with which the engine started")
        self._most_running = allowed if most is None else most

    @property
    def num_blocks(self) -> int:
        """Blocks in all."""
        return self.pool.num_blocks

    @property
    def free_blocks(self) -> int:
        """Blocks that nobody references (idle cached ones included)."""
        return self.pool.available

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request that is here, waiting or running, in the order of arrival."""
        return tuple(self._requests.values())

    @property
    def kv_usage(self) -> float:
        """Share of blocks that are referenced, 0 to 1."""
        return 1.0 - self.pool.available / self.pool.num_blocks

    def add(self, request: Request) -> None:
        """Put ``request`` into the queue.

        Raises ``RequestRefused`` for one that could never be served, or whose id is in use.
        """
        self.check(request)
        if request.request_id in self._requests:
            raise RequestRefused(f"request id {request.request_id!r} is in use", "request_id")
        self._requests[request.request_id] = request
        self._queue.add(request)
        self._queued.add(request.prompt_tokens)
        if request.deadline_s is not None:
            self._deadlines_made += 1
            heappush(self._deadlines, (request.deadline_s, self._deadlines_made, request))

    def check(self, request: Request) -> None:
        """Raise ``RequestRefused`` for a request that could never be served, however idle the replica.

        Reads nothing but limits: safe from any thread.
        """
        config = self.config
        prompt, most = request.prompt_tokens, request.max_tokens
        if prompt < 1 or most < 1:
            raise RequestRefused(f"{prompt} prompt tokens and max_tokens {most}; both must be at least 1", "max_tokens")
        if prompt + most > config.max_model_len:
            raise RequestRefused(
                f"{prompt} prompt tokens and max_tokens {most} make {prompt + most}; "
                f"max_model_len is {config.max_model_len}",
                "max_model_len",
            )
        blocks = config.blocks_for(prompt + most - 1)
        if blocks > config.num_blocks:
            raise RequestRefused(
                f"{prompt} prompt tokens and max_tokens {most} need {blocks} KV blocks of {config.block_size} tokens; "
                f"there are {config.num_blocks}",
                "num_blocks",
            )

    def abort(self, request_id: str, now: float) -> Request | None:
        """End a request wherever it is and free its blocks; None when no such request is here."""
        request = self._requests.get(request_id)
        if request is None:
            return None
        if request.status is RequestStatus.WAITING:
            self._queue.remove(request)
            self._forget_waiting(request)
        self._finish(request, FinishReason.ABORT, now)
        return request

    def take_dropped(self) -> list[Request]:
        """Requests that ``schedule()`` dropped since this was last asked: their deadline passed while they waited."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def wake_s(self) -> float | None:
        """When ``schedule()`` is worth asking again after it returned None, though nothing arrives; None if never."""
        times = [] if (due_s := self._queue.wake_s(len(self._running))) is None else [due_s]
        if self._deadlines and self._queue.waiting:
            times.append(self._deadlines[0][0])
        return min(times, default=None)

    def schedule(self, now: float) -> SchedulerOutput | None:
        """Decide the next step; None when nothing can run. ``update()`` must follow before the next call."""
        preempted = self._grow_decodes()
        decodes = self._decoding.members
        prefills: list[Chunk] = []
        if self._prefilling or self._queue.waiting:
            if self._deadlines:
                self._drop_late(now)
            budget = self._continue_prefills(self.config.max_num_batched_tokens - len(decodes), prefills)
            if not preempted:
                self._admit(budget, prefills, now)
        if not decodes and not prefills:
            return None
        output = SchedulerOutput(
            step=self.steps,
            decode_step=self._clock.steps,
            decodes=decodes,
            prefills=tuple(prefills),
            preempted=tuple(preempted),
            stats=StepStats(*prefill_work(prefills), len(decodes), self._decoding.kv_tokens),
        )
        self.steps += 1
        return output

    def update(self, output: SchedulerOutput, finished: Mapping[str, FinishReason], now: float) -> list[Request]:
        """Record that ``output`` ran and its tokens came at ``now``; the requests that ended with it.

        ``finished``: requests that the driver saw stop at this step's token. Requests that reach ``max_tokens`` end
        by themselves; ids that are no longer here (aborted while the step ran) are passed over.
        """
        self._clock.updated_s = now
        if self._limit is not None:
            self._judge_gap(output, now, self._limit)
        ended = self._update_decodes(finished, now) if output.decodes else []
        for chunk in output.prefills:
            self._update_prefill(chunk, finished, now, ended)
        return ended

    def uniform_steps(self, output: SchedulerOutput) -> int:
        """Steps from ``output`` on, itself included, that compute the same decodes and nothing else, if nobody arrives.

        Between ``schedule()`` and ``update()``. It is 1 where the next step may differ: prefills, a finish, too few
        blocks to grow into, a queue whose head may change.
        """
        config, queue = self.config, self._queue
        if output.prefills or output.preempted or self._prefilling or self._limit is not None:
            return 1
        if queue.waiting:
            head = queue.head(self._clock.updated_s, len(self._running)) if config.policy == "fcfs" else None
            full = len(self._running) >= self.batch_limit or self._blocked == (head, self.pool.version)
            if head is None or self._deadlines or not full:
                return 1
        return self._decoding.uniform_steps(self.pool.available)

    def pass_over(self, steps: int, times_s: Sequence[float]) -> None:
        """Complete the first ``steps`` of ``uniform_steps()`` at ``times_s``; ``update()`` completes the one after.

        ``times_s`` may be empty when no request records its tokens' times.
        """
        self.steps += steps
        for request, blocks in self._decoding.pass_over(steps, times_s):
            table, last = request.block_table, len(request.block_table) - 1
            table += self.pool.acquire(blocks) or ()
            if last < len(request.block_hashes):
                contents = request.block_hashes[last : last + blocks]
                self.pool.publish(contents, table[last : last + len(contents)])

    def _grow_decodes(self) -> list[Request]:
        """Give a block to each decode that starts one; returns those preempted for want of blocks."""
        preempted: list[Request] = []
        pool, growing = self.pool, self._decoding.growing()
        if len(growing) <= pool.free:
            for request, free in zip(growing, pool.acquire(len(growing)) or (), strict=True):
                table = request.block_table
                if len(table) <= len(request.block_hashes):
                    self._publish_filled(request)
                table.append(free)
            return preempted
        for request in growing:
            if request.status is not RequestStatus.DECODE:
                continue
            self._publish_filled(request)
            block = pool.acquire_one()
            while block is None and request.status is RequestStatus.DECODE:
                preempted.append(self._preempt())
                block = pool.acquire_one() if request.status is RequestStatus.DECODE else None
            if block is not None:
                request.block_table.append(block)
        return preempted

    def _publish_filled(self, request: Request) -> None:
        """Publish the last block of a decode that needs the next one, if its hash is known."""
        hashes, last = request.block_hashes, len(request.block_table) - 1
        if last < len(hashes):
            self.pool.publish(hashes[last : last + 1], request.block_table[last:])

    def _continue_prefills(self, budget: int, prefills: list[Chunk]) -> int:
        for request in self._prefilling:
            if not budget:
                break
            budget -= _add_chunk(request, budget, prefills)
        return budget

    def _admit(self, budget: int, prefills: list[Chunk], now: float) -> None:
        config, pool, queue = self.config, self.pool, self._queue
        most = self.batch_limit
        while budget and queue.waiting and len(self._running) < most:
            request = queue.head(now, len(self._running))
            if request is None or self._blocked == (request, pool.version):
                return
            total = request.total_tokens
            # the last token is always computed: its logits are what the first sample needs
            admitted = pool.admit(request, config.blocks_for(total), (total - 1) // config.block_size)
            if admitted is None:
                self._blocked = (request, pool.version)
                queue.blocked(request)
                return
            table, shared = admitted
            cached = shared * config.block_size
            if request.timeline.scheduled_s is None:
                request.timeline.scheduled_s = now
                request.cached_tokens = cached
                if config.prefix_cache:
                    self.prefix_queries_tokens += total
                    self.prefix_hits_tokens += cached
            self._forget_waiting(request)
            queue.take(request)
            request.block_table = table
            request.set_computed(cached)
            request.status = RequestStatus.PREFILL
            self._running[request] = None
            self._prefilling[request] = None
            budget -= _add_chunk(request, budget, prefills)

    def _preempt(self) -> Request:
        victim = self._queue.victim(self._running)
        self._withdraw(victim, ended=False)
        victim.set_computed(0)
        victim.status = RequestStatus.WAITING
        victim.preemptions += 1
        self.preemptions += 1
        self._queue.put_back(victim)
        self._put_back.add(victim.total_tokens)
        return victim

    def _forget_waiting(self, request: Request) -> None:
        """``request`` leaves the queue."""
        if request.preemptions:
            self._put_back.remove(request.total_tokens)
        else:
            self._queued.remove(request.prompt_tokens)

    def _drop_late(self, now: float) -> None:
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= now:
            request = heappop(deadlines)[2]
            if request.status is RequestStatus.WAITING and request.timeline.scheduled_s is None:
                self._queue.remove(request)
                self._forget_waiting(request)
                self._dropped.append(self._finish(request, FinishReason.DEADLINE, now))

    def _judge_gap(self, output: SchedulerOutput, now: float, limit: BatchLimit) -> None:
        """Tell the batch limit how long the decodes of ``output`` waited for their tokens."""
        if not output.decodes:
            self._decoded_s = None
            return
        if self._decoded_s is not None:
            limit.observe(now - self._decoded_s, len(self._running))
        self._decoded_s = now

    def _update_decodes(self, finished: Mapping[str, FinishReason], now: float) -> list[Request]:
        ended: list[Request] = []
        self._decoding.step(now)
        for request_id, reason in finished.items():
            stopped = self._requests.get(request_id)
            if stopped is not None and stopped.status is RequestStatus.DECODE:
                ended.append(self._finish(stopped, reason, now))
        for request in self._decoding.due():
            ended.append(self._finish(request, FinishReason.LENGTH, now))
        return ended

    def _update_prefill(
        self, chunk: Chunk, finished: Mapping[str, FinishReason], now: float, ended: list[Request]
    ) -> None:
        request, start, tokens, samples = chunk
        if request.status is not RequestStatus.PREFILL:
            return  # aborted while the step ran
        end = start + tokens
        request.set_computed(end)
        size, hashes = self.config.block_size, request.block_hashes
        first, last = start // size, min(end // size, len(hashes))
        if first < last:
            self.pool.publish(hashes[first:last], request.block_table[first:last])
        if not samples:
            return
        request.take_token(now)
        if request.timeline.token_times is not None:
            request.timeline.token_times.append(now)
        reason = finished.get(request.request_id)
        if reason is None and request.output_tokens >= request.max_tokens:
            reason = FinishReason.LENGTH
        if reason is None:
            self._start_decoding(request)
        else:
            ended.append(self._finish(request, reason, now))

    def _start_decoding(self, request: Request) -> None:
        del self._prefilling[request]
        self._decoding.start(request)
        self._queue.started(request)

    def _finish(self, request: Request, reason: FinishReason, now: float) -> Request:
        if request.status is not RequestStatus.WAITING:
            self._withdraw(request, ended=True)
        request.status = RequestStatus.FINISHED
        request.finish_reason = reason
        request.timeline.finished_s = now
        del self._requests[request.request_id]
        return request

    def _withdraw(self, request: Request, *, ended: bool) -> None:
        """Take a running request out of every structure and free its blocks."""
        del self._running[request]
        if request.status is RequestStatus.DECODE:
            self._publish_last(request)
            self._queue.ended(request)
            self._decoding.leave(request)
        else:
            del self._prefilling[request]
        self.pool.release(request, request.computed_tokens // self.config.block_size, ended=ended)
        request.block_table = []

    def _publish_last(self, request: Request) -> None:
        """Publish the block that a decode has just filled, if it has and its hash is known."""
        if not request.block_hashes:
            return
        full, beyond = divmod(request.computed_tokens, self.config.block_size)
        if not beyond and 0 < full <= len(request.block_hashes):
            self.pool.publish(request.block_hashes[full - 1 : full], request.block_table[full - 1 : full])


def _add_chunk(request: Request, budget: int, prefills: list[Chunk]) -> int:
    start = request.computed_tokens
    left = request.total_tokens - start
    tokens = min(budget, left)
    prefills.append(Chunk(request, start, tokens, tokens == left))
    return tokens
