"""The engine's loop body: schedule, execute, update, and what becomes of each token.

Synchronous and single-threaded; ``async_engine`` runs it in a thread.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from probe_engine.errors import WorkerLost
from probe_engine.runtime.flight import Flight, Launch, Lengths, close, cut, put_right
from probe_engine.runtime.generation import Generation, TokenOutput
from probe_engine.runtime.promises import Detokeniser, ModelRunner, TextStream
from probe_engine.runtime.stop import StopText
from probe_engine.sched import Chunk, FinishReason, Request, Scheduler, SchedulerConfig, SchedulerOutput, hash_blocks
from probe_engine.sched.block_hash import ROOT
from probe_engine.sched.moments import Moments
from probe_engine.telemetry.metrics import EngineMetrics, Gauges
from probe_engine.telemetry.steps import StepRecord, StepRing

log = logging.getLogger(__name__)


class _Active:
    """One request being served."""

    __slots__ = ("came_s", "generation", "open_ids", "parent", "request", "stop", "stream", "tokens")

    def __init__(self, generation: Generation, request: Request, stream: TextStream) -> None:
        self.generation = generation
        self.request = request
        self.stream = stream
        self.stop = StopText(generation.stop) if generation.stop else None
        self.parent = ROOT  # hash of the last full block
        self.open_ids: list[int] = []  # tokens after it
        self.tokens = 0  # that have come, ...
        self.came_s = 0.0  # ... and when the last of them did


class Engine:
    """One model replica: a scheduler and a runner, driven step by step.

    ``clock`` gives seconds (monotonic). ``record_tokens`` keeps each token's time in the request's timeline.
    ``launch`` starts a step of ``runner`` without waiting for its tokens: each step is then scheduled and launched
    while the one before it runs, whose tokens need not be known for that. A request that its token ends has one more
    under way, which is dropped. None: a step is executed before the next is scheduled.
    """

    def __init__(
        self,
        runner: ModelRunner,
        detokeniser: Detokeniser,
        config: SchedulerConfig,
        metrics: EngineMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        record_tokens: bool = False,
        launch: Launch | None = None,
    ) -> None:
        self.scheduler = Scheduler(config)
        self.metrics = metrics
        self.steps = StepRing()
        self.clock = clock
        self._runner = runner
        self._detokeniser = detokeniser
        self._eos_ids = frozenset(detokeniser.eos_ids)
        self._record_tokens = record_tokens
        self._active: dict[str, _Active] = {}
        self._followers: dict[str, list[Generation]] = {}  # by the id whose prompt they share, until it is computed
        self.stalled = False  # the last step found requests but nothing to run: see ``pause_s``
        self._launch = launch
        self._flight: Flight | None = None  # the step that runs, where steps overlap
        self._resumed_s: float | None = None  # end of the last step, while steps follow each other
        self._token_s = 0.0  # when the last step's tokens came

    @property
    def has_work(self) -> bool:
        """Whether a request is waiting or running."""
        return bool(self._active)

    def gauges(self) -> Gauges:
        """Running, waiting and KV usage now; may be read from any thread."""
        scheduler = self.scheduler
        return Gauges(scheduler.num_running, scheduler.num_waiting, scheduler.kv_usage, scheduler.batch_limit)

    def add(self, generation: Generation) -> None:
        """Queue a request; raises ``RequestRefused`` or the runner's ``ModelError`` and keeps nothing of it."""
        leader = self._active.get(generation.after or "")
        if leader is not None and self.scheduler.config.prefix_cache and not leader.request.output_tokens:
            self._followers.setdefault(leader.request.request_id, []).append(generation)
            return
        request = generation.request()
        if self._record_tokens:
            request.timeline.token_times = []
        self.scheduler.add(request)
        try:
            self._runner.add(generation.request_id, generation.prompt_ids, generation.sampling)
        except Exception:
            self.scheduler.abort(generation.request_id, self.clock())
            raise
        active = _Active(generation, request, self._detokeniser.stream())
        self._active[generation.request_id] = active
        self._hash(active, generation.prompt_ids)

    def abort(self, request_id: str) -> TokenOutput | None:
        """End a request whose client has gone and free its blocks; None when it is not here (any more)."""
        request = self.scheduler.abort(request_id, self.clock())
        if request is None:
            return self._abort_follower(request_id)
        cut(request, self._forget(request_id).tokens)
        with self.metrics.lock:
            self.metrics.finished(request)
        return TokenOutput(request_id, None, "", FinishReason.ABORT, request)

    def _abort_follower(self, request_id: str) -> TokenOutput | None:
        for waiting in self._followers.values():
            for generation in waiting:
                if generation.request_id == request_id:
                    waiting.remove(generation)
                    request = generation.request()
                    request.finish_reason, request.timeline.finished_s = FinishReason.ABORT, self.clock()
                    return TokenOutput(request_id, None, "", FinishReason.ABORT, request)
        return None

    def _release(self, leader_id: str) -> None:
        """Queue those that waited for ``leader_id``'s prompt: it is in the prefix cache now, or never will be."""
        for generation in self._followers.pop(leader_id, ()):
            self.add(generation)

    def fail_all(self, reason: str, message: str) -> list[TokenOutput]:
        """End every request with an error; ``reason`` is the label it is counted under."""
        for leader_id in list(self._followers):
            for generation in self._followers.pop(leader_id):
                self.add(replace(generation, after=None))
        return self._fail([active.request for active in self._active.values()], reason, message)

    @property
    def pause_s(self) -> float | None:
        """How long (s) until a step is worth trying, after one that found nothing to run; None: no time will help."""
        wake_s = self.scheduler.wake_s()
        return None if wake_s is None else max(0.0, wake_s - self.clock())

    def idle(self) -> None:
        """Nothing to run: the time until the next step belongs to no step."""
        self._resumed_s = None

    def step(self) -> list[TokenOutput]:
        """One step: what it gave, per request. A step that raises fails the requests in it and nothing else.

        Where steps overlap it begins one and gives what the one before gave.
        """
        start_s = self.clock()
        output = self.scheduler.schedule(start_s)
        outputs = self._drop()
        begun = None
        if output is not None:
            scheduler = self.scheduler
            lengths = (scheduler.decoding.variance, scheduler.queued, scheduler.put_back)
            begun = self._begin(output, start_s, lengths, outputs)
        landing, self._flight = (begun, None) if self._launch is None else (self._flight, begun)
        self.stalled = output is None and landing is None and self.has_work
        if landing is not None:
            outputs += self._land(landing)
        if begun is None:
            self.idle()
        return outputs

    def _begin(
        self, output: SchedulerOutput, start_s: float, lengths: Lengths, outputs: list[TokenOutput]
    ) -> Flight | None:
        """Execute or launch a step; None where that fails, and ``outputs`` then tells whose end it is."""
        try:
            if self._launch is None:
                sampled = self._runner.execute(output)
                return Flight(output, lambda: sampled, start_s, lengths)
            flight = Flight(output, self._launch(output), start_s, lengths)
        except WorkerLost:
            raise  # nothing can be computed any more: not this step's fault
        except Exception as error:
            outputs += self._failed(output, error)
            return None
        flight.ended = self.scheduler.update(output, {}, self.clock())
        return flight

    def _land(self, flight: Flight) -> list[TokenOutput]:
        """A step's tokens are there: what they gave."""
        output = flight.output
        try:
            sampled = flight.landed()
        except WorkerLost:
            raise
        except Exception as error:
            return self._failed(output, error)
        now = self.clock()
        resumed = [chunk.request.request_id for chunk in output.prefills if chunk.samples and chunk.request.preemptions]
        late = [now - self._active[name].came_s for name in resumed if name in sampled and self._active[name].tokens]
        outputs, finished = self._take(sampled, now)
        if self._launch is None:
            ended = self.scheduler.update(output, finished, now)
        else:
            ended = self._catch_up(flight, sampled, finished, now)
        self._end(ended, outputs)
        for leader_id in [leader_id for leader_id in self._followers if leader_id in sampled]:
            self._release(leader_id)
        self._record(flight, ended, late, now, len(outputs))
        return list(outputs.values())

    def _catch_up(
        self, flight: Flight, sampled: Mapping[str, int], finished: Mapping[str, FinishReason], now: float
    ) -> list[Request]:
        """Tell the scheduler, which was told of the step when it began, whom its tokens end; all who end with it."""
        for request_id in sampled:
            put_right(self._active[request_id].request, self._active[request_id].tokens, now)
        ended = [request for request in flight.ended if request.request_id not in flight.gone]
        for request_id, reason in finished.items():
            request = self._active[request_id].request
            if self.scheduler.abort(request_id, now) is not None or request not in ended:
                ended.append(request)
            request.finish_reason = reason
        for request in ended:
            close(request, self._active[request.request_id].tokens, now)
        return ended

    def _failed(self, output: SchedulerOutput, error: Exception) -> list[TokenOutput]:
        requests = [request for request in output.requests if self._is_here(request)]
        log.exception("step %d failed; %d requests in it end with an error", output.step, len(requests), exc_info=error)
        self.idle()
        return self._fail(requests, "step_failed", f"the engine's step failed: {error}")

    def _is_here(self, request: Request) -> bool:
        active = self._active.get(request.request_id)
        return active is not None and active.request is request

    def _drop(self) -> list[TokenOutput]:
        """Tell of the requests whose deadline passed while they waited."""
        dropped = self.scheduler.take_dropped()
        if not dropped:
            return []
        outputs = []
        with self.metrics.lock:
            for request in dropped:
                self._forget(request.request_id)
                waited_ms = round(((request.timeline.finished_s or 0.0) - request.arrival_s) * 1000)
                message = f"the request's deadline passed after it had waited {waited_ms} ms"
                outputs.append(TokenOutput(request.request_id, None, "", FinishReason.DEADLINE, request, error=message))
                self.metrics.ended(request)
            self.metrics.failed("deadline", len(dropped))
        return outputs

    def _take(self, sampled: Mapping[str, int], now: float) -> tuple[dict[str, TokenOutput], dict[str, FinishReason]]:
        """Each token's text, and who stops at it."""
        outputs: dict[str, TokenOutput] = {}
        finished: dict[str, FinishReason] = {}
        eos_ids, hashing, size = self._eos_ids, self.scheduler.config.prefix_cache, self.scheduler.config.block_size
        logprobs = self._runner.logprobs
        for request_id, token in sampled.items():
            active = self._active[request_id]
            output = outputs[request_id] = TokenOutput(request_id, token, "")
            if logprobs:
                output.logprobs = logprobs.get(request_id)
            early = active.tokens < active.generation.min_tokens
            active.tokens += 1
            active.came_s = now
            if token in eos_ids and not (early or active.generation.ignore_eos):
                finished[request_id] = FinishReason.STOP
                continue
            if token in active.generation.stop_token_ids and not early:
                output.stop_reason = token
                finished[request_id] = FinishReason.STOP
                continue
            text = active.stream.push(token)
            if active.stop is not None:
                text = active.stop.pass_over(text) if early else active.stop.push(text)
                if active.stop.matched is not None:
                    output.stop_reason = active.stop.matched
                    finished[request_id] = FinishReason.STOP
            output.text = text
            if hashing:
                active.open_ids.append(token)
                if len(active.open_ids) == size:
                    ids, active.open_ids = active.open_ids, []
                    self._hash(active, ids)
        return outputs, finished

    def _end(self, ended: Sequence[Request], outputs: Mapping[str, TokenOutput]) -> None:
        for request in ended:
            active = self._forget(request.request_id)
            output = outputs[request.request_id]
            output.finish_reason = request.finish_reason
            output.request = request
            if not isinstance(output.stop_reason, str):
                output.text += self._rest(active)

    @staticmethod
    def _rest(active: _Active) -> str:
        """Text that was held back and that nothing can follow any more."""
        text = active.stream.flush()
        return text if active.stop is None else active.stop.push(text) + active.stop.flush()

    def _record(self, flight: Flight, ended: Sequence[Request], late: Sequence[float], now: float, tokens: int) -> None:
        metrics, scheduler, output, lengths = self.metrics, self.scheduler, flight.output, flight.lengths
        stats, preempted = output.stats, len(output.preempted)
        start_s = flight.start_s if self._resumed_s is None else self._resumed_s
        with metrics.lock:
            firsts = 0
            for chunk in output.prefills:
                if chunk.samples and chunk.request.request_id not in flight.gone:
                    firsts += 1
                    if chunk.request.timeline.first_token_s == now:
                        metrics.first_token(chunk.request)
            if tokens > firsts:
                metrics.gap(now - self._token_s, tokens - firsts)
            for gap_s in late:
                metrics.gap(gap_s, 1)
            metrics.tokens(tokens)
            metrics.prefix_cache(scheduler.prefix_queries_tokens, scheduler.prefix_hits_tokens)
            for request in ended:
                metrics.finished(request)
            self._token_s = now
            self._resumed_s = end_s = self.clock()
            metrics.step(stats, end_s - start_s, preempted)
        self.steps.append(
            StepRecord(
                output.step,
                start_s,
                end_s - start_s,
                stats.prefill_tokens,
                stats.prefill_attention,
                stats.decode_seqs,
                stats.decode_kv_tokens,
                preempted,
                scheduler.num_waiting,
                *_prefill_lengths(output.prefills),
                lengths[0],
                *lengths[1],
                *lengths[2],
            )
        )

    def _fail(self, requests: Sequence[Request], reason: str, message: str) -> list[TokenOutput]:
        now = self.clock()
        outputs = []
        for request in requests:
            self.scheduler.abort(request.request_id, now)
            self._forget(request.request_id)
            outputs.append(TokenOutput(request.request_id, None, "", FinishReason.ABORT, request, error=message))
        with self.metrics.lock:
            self.metrics.failed(reason, len(outputs))
        return outputs

    def _forget(self, request_id: str) -> _Active:
        self._runner.remove(request_id)
        forgotten = self._active.pop(request_id)
        if self._flight is not None:
            self._flight.gone.add(request_id)
            if not self._active:
                self._flight = None  # what it computes is nobody's
        self._release(request_id)
        return forgotten

    def _hash(self, active: _Active, ids: Sequence[int]) -> None:
        """Append the hashes of the full blocks in ``ids``, which begin at a block's border."""
        config = self.scheduler.config
        if not config.prefix_cache:
            return
        hashes = hash_blocks(active.parent, ids, config.block_size)
        if hashes:
            active.parent = hashes[-1]
            active.request.block_hashes += hashes
        active.open_ids = list(ids[len(hashes) * config.block_size :])


def _prefill_lengths(prefills: Sequence[Chunk]) -> tuple[int, float, int]:
    """Requests that prefill, the variance of their prompts' lengths, and the keys that they find computed."""
    if not prefills:
        return 0, 0.0, 0
    prompts = Moments()
    for chunk in prefills:
        prompts.add(chunk.request.prompt_tokens)
    return len(prefills), prompts.variance, sum(chunk.start for chunk in prefills)
