"""Continuous batching: who computes how many tokens in each step.

It decides and never does: ``schedule()`` says what to run, the driver runs it (the engine with torch, the twin with a
step-time model), ``update()`` records that it ran. Policy:

* decodes first, one token each; then running prefills; then waiting requests, first come, first served, until the
  token budget is spent (chunked prefill);
* a request is admitted when blocks for all of its known tokens can be had, less those found in the prefix cache; the
  first that does not fit holds the queue;
* when a decode needs a block and none can be had, the latest-arrived running request is preempted: it loses its
  blocks, goes back to the head of the queue and computes its tokens again; nobody is admitted in such a step.

Event-driven: a decode step touches only requests that need a block or finish (a calendar of finishes, buckets of
block growth by phase), so its cost does not grow with the number of running requests.
"""

from collections import deque
from collections.abc import Mapping

from probe_engine.sched.block_pool import BlockPool
from probe_engine.sched.config import SchedulerConfig
from probe_engine.sched.errors import RequestRefused
from probe_engine.sched.output import Chunk, SchedulerOutput, StepStats
from probe_engine.sched.request import DecodeClock, FinishReason, Request, RequestStatus


class Scheduler:
    """One replica's queue, running set and KV blocks. Deterministic; not thread-safe.

    Counters (all cumulative): ``steps``, ``preemptions``, ``prefix_queries_tokens`` and ``prefix_hits_tokens`` (first
    admissions only).
    """

    def __init__(self, config: SchedulerConfig) -> None:
        self.config = config
        self.steps = 0
        self.preemptions = 0
        self.prefix_queries_tokens = 0
        self.prefix_hits_tokens = 0
        self.pool = BlockPool(config.num_blocks, config.prefix_cache)
        self._requests: dict[str, Request] = {}
        self._waiting: deque[Request] = deque()
        self._running: dict[Request, None] = {}  # in order of arrival: the last is the latest
        self._prefilling: dict[Request, None] = {}
        self._decoding: dict[Request, None] = {}
        self._decodes: tuple[Request, ...] | None = ()  # _decoding as a tuple; None when it must be made again
        self._timed: dict[Request, list[float]] = {}  # decodes that record each token's time
        self._clock = DecodeClock()
        self._decode_kv_tokens = 0  # keys that the next decode step reads
        self._growth: list[dict[Request, None]] = [{} for _ in range(config.block_size)]
        self._finishes: dict[int, list[Request]] = {}
        self._blocked: tuple[Request, int] | None = None  # head of the queue and pool version when it did not fit

    @property
    def num_running(self) -> int:
        """Requests that hold blocks."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Requests in the queue, preempted ones included."""
        return len(self._waiting)

    @property
    def num_blocks(self) -> int:
        """Blocks in all."""
        return self.pool.num_blocks

    @property
    def free_blocks(self) -> int:
        """Blocks that nobody references (idle cached ones included)."""
        return self.pool.available

    @property
    def kv_usage(self) -> float:
        """Share of blocks that are referenced, 0 to 1."""
        return 1.0 - self.pool.available / self.pool.num_blocks

    def add(self, request: Request) -> None:
        """Put ``request`` at the end of the queue.

        Raises ``RequestRefused`` for one that could never be served, or whose id is in use.
        """
        self.check(request)
        if request.request_id in self._requests:
            raise RequestRefused(f"request id {request.request_id!r} is in use", "request_id")
        self._requests[request.request_id] = request
        self._waiting.append(request)

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
            self._waiting.remove(request)
        self._finish(request, FinishReason.ABORT, now)
        return request

    def schedule(self, now: float) -> SchedulerOutput | None:
        """Decide the next step; None when nothing can run. ``update()`` must follow before the next call."""
        preempted = self._grow_decodes()
        decodes = self._decodes
        if decodes is None:
            decodes = self._decodes = tuple(self._decoding)
        prefills: list[Chunk] = []
        if self._prefilling or self._waiting:
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
            stats=StepStats(*_prefill_work(prefills), len(decodes), self._decode_kv_tokens),
        )
        self.steps += 1
        return output

    def update(self, output: SchedulerOutput, finished: Mapping[str, FinishReason], now: float) -> list[Request]:
        """Record that ``output`` ran and its tokens came at ``now``; the requests that ended with it.

        ``finished``: requests that the driver saw stop at this step's token. Requests that reach ``max_tokens`` end
        by themselves; ids that are no longer here (aborted while the step ran) are passed over.
        """
        self._clock.updated_s = now
        ended = self._update_decodes(finished, now) if output.decodes else []
        for chunk in output.prefills:
            self._update_prefill(chunk, finished, now, ended)
        return ended

    def _grow_decodes(self) -> list[Request]:
        """Give a block to each decode that starts one; returns those preempted for want of blocks."""
        preempted: list[Request] = []
        pool, size = self.pool, self.config.block_size
        growing = self._growth[self._clock.steps % size]
        if not growing:
            return preempted
        for request in list(growing):
            if request.status is not RequestStatus.DECODE:
                continue
            self._publish_last(request)
            block = pool.acquire_one()
            while block is None and request.status is RequestStatus.DECODE:
                preempted.append(self._preempt())
                block = pool.acquire_one() if request.status is RequestStatus.DECODE else None
            if block is not None:
                request.block_table.append(block)
        return preempted

    def _continue_prefills(self, budget: int, prefills: list[Chunk]) -> int:
        for request in self._prefilling:
            if not budget:
                break
            budget -= _add_chunk(request, budget, prefills)
        return budget

    def _admit(self, budget: int, prefills: list[Chunk], now: float) -> None:
        config, pool, waiting = self.config, self.pool, self._waiting
        while waiting and budget and len(self._running) < config.max_num_seqs:
            request = waiting[0]
            if self._blocked == (request, pool.version):
                return
            total = request.total_tokens
            # the last token is always computed: its logits are what the first sample needs
            shared = pool.match(request.block_hashes, (total - 1) // config.block_size)
            table = pool.acquire(shared, config.blocks_for(total) - len(shared))
            if table is None:
                self._blocked = (request, pool.version)
                return
            waiting.popleft()
            cached = len(shared) * config.block_size
            if request.timeline.scheduled_s is None:
                request.timeline.scheduled_s = now
                request.cached_tokens = cached
                if config.prefix_cache:
                    self.prefix_queries_tokens += total
                    self.prefix_hits_tokens += cached
            request.block_table = table
            request.set_computed(cached)
            request.status = RequestStatus.PREFILL
            self._running[request] = None
            self._prefilling[request] = None
            budget -= _add_chunk(request, budget, prefills)

    def _preempt(self) -> Request:
        victim = next(reversed(self._running))
        self._withdraw(victim)
        victim.set_computed(0)
        victim.status = RequestStatus.WAITING
        victim.preemptions += 1
        self.preemptions += 1
        self._waiting.appendleft(victim)
        return victim

    def _update_decodes(self, finished: Mapping[str, FinishReason], now: float) -> list[Request]:
        ended: list[Request] = []
        clock = self._clock
        clock.steps += 1
        self._decode_kv_tokens += len(self._decoding)
        for times in self._timed.values():
            times.append(now)
        for request_id, reason in finished.items():
            stopped = self._requests.get(request_id)
            if stopped is not None and stopped.status is RequestStatus.DECODE:
                ended.append(self._finish(stopped, reason, now))
        for request in self._finishes.pop(clock.steps, ()):
            # an entry is stale when the request was preempted or ended since
            if request.status is RequestStatus.DECODE and request.finish_step == clock.steps:
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
        size, hashes, table = self.config.block_size, request.block_hashes, request.block_table
        for index in range(start // size, min(end // size, len(hashes))):
            self.pool.publish(hashes[index], table[index])
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
        request.begin_decode(self._clock)
        self._decoding[request] = None
        self._decodes = None
        self._decode_kv_tokens += request.computed_tokens + 1
        self._growth[-request.decode_origin % self.config.block_size][request] = None
        self._finishes.setdefault(request.finish_step, []).append(request)
        if request.timeline.token_times is not None:
            self._timed[request] = request.timeline.token_times

    def _finish(self, request: Request, reason: FinishReason, now: float) -> Request:
        if request.status is not RequestStatus.WAITING:
            self._withdraw(request)
        request.status = RequestStatus.FINISHED
        request.finish_reason = reason
        request.timeline.finished_s = now
        del self._requests[request.request_id]
        return request

    def _withdraw(self, request: Request) -> None:
        """Take a running request out of every structure and free its blocks."""
        del self._running[request]
        if request.status is RequestStatus.DECODE:
            self._publish_last(request)
            self._decode_kv_tokens -= request.computed_tokens + 1
            del self._decoding[request]
            self._decodes = None
            del self._growth[-request.decode_origin % self.config.block_size][request]
            self._timed.pop(request, None)
            request.end_decode()
        else:
            del self._prefilling[request]
        self.pool.release(request.block_table)
        request.block_table = []

    def _publish_last(self, request: Request) -> None:
        """Publish the block that a decode has just filled, if it has and its hash is known."""
        full, beyond = divmod(request.computed_tokens, self.config.block_size)
        if not beyond and 0 < full <= len(request.block_hashes):
            self.pool.publish(request.block_hashes[full - 1], request.block_table[full - 1])


def _add_chunk(request: Request, budget: int, prefills: list[Chunk]) -> int:
    start = request.computed_tokens
    left = request.total_tokens - start
    tokens = min(budget, left)
    prefills.append(Chunk(request, start, tokens, tokens == left))
    return tokens


def _prefill_work(prefills: list[Chunk]) -> tuple[int, int]:
    tokens = pairs = 0
    for chunk in prefills:
        tokens += chunk.tokens
        pairs += chunk.tokens * chunk.start + chunk.tokens * (chunk.tokens + 1) // 2
    return tokens, pairs
