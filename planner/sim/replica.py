"""One replica of the twin: the engine's scheduler, a step-time model, and a log of its steps."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from planner.sim.gaps import GapCounts
from planner.sim.pace import Pace, to_s, to_ticks
from planner.steps.latency import LatencyModel
from probe_engine.sched import FinishReason, Request, Scheduler, SchedulerConfig, SchedulerOutput, StepStats

_NOBODY: Mapping[str, FinishReason] = MappingProxyType({})
_DRAWS = 4096


class StepLog:
    """What a replica's steps were, summed, and the gaps that they made between tokens.

    ``kv_peak_ratio`` is looked at when prompts come in, 1 where a request lost its blocks for want of any. ``gaps``
    are those of steps that began after the fleet had settled.
    """

    __slots__ = (
        "busy_ticks",
        "decode_kv_tokens",
        "decode_seqs",
        "gaps",
        "kv_peak_ratio",
        "outside",
        "prefill_attention",
        "prefill_tokens",
        "steps",
    )

    def __init__(self) -> None:
        self.steps = 0
        self.outside = 0
        self.busy_ticks = 0
        self.prefill_tokens = 0
        self.prefill_attention = 0
        self.decode_seqs = 0
        self.decode_kv_tokens = 0
        self.kv_peak_ratio = 0.0
        self.gaps = GapCounts()

    @property
    def busy_s(self) -> float:
        """Seconds in steps."""
        return to_s(self.busy_ticks)


class Replica:
    """A server that is idle or in a run of steps; the event loop calls ``begin`` and ``end`` in turn.

    A run is one step, or, with ``skip``, as many as compute the same decodes; ``interrupt`` cuts it short when a
    request arrives. ``hull`` holds the largest step sizes that the model was fitted on, by name; steps beyond are
    counted in the log. ``noise`` are factors to multiply a step's time with, drawn from ``generator`` in stretches of
    ``noise_stretch`` that follow each other; empty for none. ``prompt_noise`` are those of steps with prompts.
    ``settled`` is the tick from which gaps between tokens are logged. Times are ticks (``planner.sim.pace``).
    ``watch``, where it is set, is told each run's first step as it begins. ``counted``: no two requests share content.
    """

    def __init__(
        self,
        config: SchedulerConfig,
        model: LatencyModel,
        *,
        noise: tuple[float, ...] = (),
        noise_stretch: int = 1,
        prompt_noise: tuple[float, ...] = (),
        generator: np.random.Generator | None = None,
        hull: Mapping[str, float] | None = None,
        skip: bool = True,
        settled: int = 0,
        token_times: bool = False,
        counted: bool = False,
    ) -> None:
        self.scheduler = Scheduler(config, counted=counted)
        self.log = StepLog()
        self.output: SchedulerOutput | None = None
        self.load = 0
        self.index = 0
        self.due: int | None = None
        self.started = 0
        self.stopped: int | None = None
        self.dropping = False  # whether a request came that may be dropped
        self.watch: Callable[[SchedulerOutput], None] | None = None
        self._pace = Pace(model)
        self._skip = skip and self._pace.closed
        self._settled = settled
        self._token_times = token_times
        self._noise: _Factors | None = None
        if noise and generator is not None:
            self._noise = _Factors(noise, prompt_noise or noise, noise_stretch, generator)
        bounds = hull or {}
        self._most_prefill = bounds.get("prefill_tokens", float("inf"))
        self._most_attention = bounds.get("prefill_attention", float("inf"))
        self._most_seqs = bounds.get("decode_seqs", float("inf"))
        self._most_kv = bounds.get("decode_kv_tokens", float("inf"))
        self._begun = 0
        self._steps = 0
        self._kv_tokens = 0  # decode KV tokens of the run's first step
        self._first = 0  # ticks of the run's first step
        self._rise = 0  # ticks by which each of its steps is longer than the one before
        self._ends: npt.NDArray[np.int64] | list[int] | None = None  # with noise: ends of its steps, from its beginning

    def add(self, request: Request) -> None:
        """A request comes. Raises RequestRefused for one that could never be served."""
        self.scheduler.add(request)
        self.load += 1
        self.dropping = self.dropping or request.deadline_s is not None

    def begin(self, now: int) -> int | None:
        """Start the next run of steps; when it will end, or None when there is nothing to do."""
        output = self.scheduler.schedule(to_s(now))
        self.output = output
        if output is None:
            self.due = None
            return None
        if self.watch is not None:
            self.watch(output)
        stats = output.stats
        self._begun = now
        self._first = self._pace.ticks(stats)
        self._kv_tokens = stats.decode_kv_tokens
        self._rise = 0
        self._steps = 1
        self._ends = None
        if self._skip and not output.prefills:
            self._steps = self.scheduler.uniform_steps(output)
            self._rise = self._pace.decode(stats.decode_seqs)[1] * stats.decode_seqs
        if output.preempted:
            self.log.kv_peak_ratio = 1.0
        elif output.prefills:
            self.log.kv_peak_ratio = max(self.log.kv_peak_ratio, self.scheduler.kv_usage)
        if self._steps == 1:
            elapsed = self._first
            if self._noise is not None:
                elapsed = self._noise.one(elapsed, prompts=bool(output.prefills))
                self._ends = [elapsed]
            self.due = now + elapsed
            return self.due
        if self._noise is not None:
            self._ends = self._noise.ends(self._first, self._rise, self._steps)
            self._steps = len(self._ends)
        if now < self._settled:
            self._cut(self._settled)
        self.due = now + self._elapsed(self._steps)
        return self.due

    def take_dropped(self) -> list[Request]:
        """Requests whose deadline passed while they waited, since this was last asked."""
        dropped = self.scheduler.take_dropped()
        self.load -= len(dropped)
        return dropped

    def interrupt(self, now: int) -> int | None:
        """A request came at ``now``: end the run with the step that is under way; its new end, None if as before."""
        if self.due is None or self._steps == 1:
            return None
        before = self._steps
        self._cut(now)
        if self._steps == before:
            return None
        self.due = self._begun + self._elapsed(self._steps)
        return self.due

    def end(self, now: int) -> list[Request]:
        """The run that ``begin`` started ends at ``now``; requests that finished with it."""
        output = self.output
        assert output is not None
        self._record(output, self._steps)
        if self._steps > 1:
            self.scheduler.pass_over(self._steps - 1, self._times(self._steps - 1))
        for chunk in output.prefills:
            if chunk.samples and chunk.request.preemptions:
                last = chunk.request.timeline.last_token_s
                if last is not None and self._begun >= self._settled:
                    self.log.gaps.add(max(now - to_ticks(last), 1), 1)
        self.output = None
        self.due = None
        finished = self.scheduler.update(output, _NOBODY, to_s(now))
        self.load -= len(finished)
        return finished

    def catch_up(self, now: int) -> None:
        """Let log and scheduler be where the run is at ``now``: complete the steps that ended before."""
        if self.due is None or self._steps == 1 or self.output is None:
            return
        done = min(bisect_left(range(1, self._steps + 1), now - self._begun, key=self._elapsed), self._steps - 1)
        if not done:
            return
        self._record(self.output, done)
        self.scheduler.pass_over(done, self._times(done))
        elapsed = self._elapsed(done)
        self._begun += elapsed
        self._first += self._rise * done
        self._kv_tokens += self.output.stats.decode_seqs * done
        self._steps -= done
        if self._ends is not None:
            self._ends = np.asarray(self._ends[done:]) - elapsed

    def _times(self, steps: int) -> list[float]:
        """Ends of the run's first ``steps``, seconds; empty when nobody asks."""
        if not self._token_times:
            return []
        return [to_s(self._begun + self._elapsed(step)) for step in range(1, steps + 1)]

    def _elapsed(self, steps: int) -> int:
        """Ticks that the first ``steps`` of the run take."""
        if self._ends is not None:
            return int(self._ends[steps - 1])
        return steps * self._first + self._rise * (steps * (steps - 1) // 2)

    def _cut(self, now: int) -> None:
        """Leave no more of the run than the step that is under way at ``now``."""
        if self._steps > 1:
            steps = range(1, self._steps + 1)
            at = bisect_left(steps, now - self._begun, key=self._elapsed)
            self._steps = min(at + 1, self._steps)
            if self._noise is not None and self._ends is not None:
                self._noise.give_back(len(self._ends) - self._steps)
                self._ends = self._ends[: self._steps]

    def _record(self, output: SchedulerOutput, steps: int) -> None:
        log, stats = self.log, output.stats
        seqs = stats.decode_seqs
        if steps == 1:
            self._record_one(stats, seqs)
            return
        log.steps += steps
        log.busy_ticks += self._elapsed(steps)
        log.prefill_tokens += stats.prefill_tokens
        log.prefill_attention += stats.prefill_attention
        log.decode_seqs += seqs * steps
        log.decode_kv_tokens += self._kv_tokens * steps + seqs * (steps * (steps - 1) // 2)
        if seqs and self._begun >= self._settled:
            if self._ends is not None:
                before = 0
                for end in np.asarray(self._ends[:steps]).tolist():
                    log.gaps.add(end - before, seqs)
                    before = end
            else:
                log.gaps.add_rising(self._first, self._rise, steps, seqs)
        if seqs > self._most_seqs:
            log.outside += steps
        elif self._kv_tokens + seqs * (steps - 1) > self._most_kv:
            within = max(int((self._most_kv - self._kv_tokens) // seqs) + 1, 0) if seqs else 0
            log.outside += steps - within

    def _record_one(self, stats: StepStats, seqs: int) -> None:
        """A run of one step, or the first of a longer one; the only ones with prompts."""
        log, ends = self.log, self._ends
        elapsed = self._first if ends is None else int(ends[0])
        log.steps += 1
        log.busy_ticks += elapsed
        log.prefill_tokens += stats.prefill_tokens
        log.prefill_attention += stats.prefill_attention
        log.decode_seqs += seqs
        log.decode_kv_tokens += self._kv_tokens
        if seqs and self._begun >= self._settled:
            log.gaps.add(elapsed, seqs)
        if (
            stats.prefill_tokens > self._most_prefill
            or stats.prefill_attention > self._most_attention
            or seqs > self._most_seqs
            or self._kv_tokens > self._most_kv
        ):
            log.outside += 1


class _Factors:
    """Factors of step times, drawn as they are needed; what a cut run did not use is given back."""

    __slots__ = ("_at", "_choices", "_drawn", "_generator", "_listed", "_offsets", "_prompts", "_with_prompts")

    def __init__(
        self, choices: Sequence[float], with_prompts: Sequence[float], stretch: int, generator: np.random.Generator
    ) -> None:
        self._choices = np.array(choices)
        self._with_prompts = np.array(with_prompts)
        self._offsets = np.arange(min(stretch, len(choices)))
        self._generator = generator
        self._drawn: npt.NDArray[np.float64] = np.zeros(0)
        self._listed: list[float] = []
        self._prompts: list[float] = []
        self._at = 0

    def _refill(self) -> None:
        """Stretches that begin anywhere among the choices; the last is followed by the first."""
        count, length = len(self._choices), len(self._offsets)
        starts = self._generator.integers(0, count, max(_DRAWS // length, 1))
        index = ((starts[:, None] + self._offsets) % count).ravel()
        self._drawn = self._choices[index]
        self._listed, self._prompts = self._drawn.tolist(), self._with_prompts[index].tolist()
        self._at = 0

    def one(self, ticks: int, *, prompts: bool) -> int:
        """Ticks of one step."""
        if self._at == len(self._listed):
            self._refill()
        factor = (self._prompts if prompts else self._listed)[self._at]
        self._at += 1
        return max(round(factor * float(ticks)), 1)

    def ends(self, first: int, rise: int, steps: int) -> npt.NDArray[np.int64]:
        """Ends of up to ``steps`` steps, fewer when the drawn factors run out."""
        if self._at == len(self._drawn):
            self._refill()
        factors = self._drawn[self._at : self._at + steps]
        self._at += len(factors)
        mean = np.float64(first) + np.float64(rise) * np.arange(len(factors))
        return np.asarray(np.cumsum(np.maximum(np.rint(factors * mean), 1.0).astype(np.int64)))

    def give_back(self, count: int) -> None:
        """The last ``count`` factors were not used."""
        self._at -= count
