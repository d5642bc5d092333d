"""One replica of the twin: the engine's scheduler, a step-time model, and a log of its steps."""

from array import array
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np

from planner.latency import LatencyModel
from probe_engine.sched import FinishReason, Request, Scheduler, SchedulerConfig, SchedulerOutput

_NOBODY: Mapping[str, FinishReason] = MappingProxyType({})
_DRAWS = 4096


class StepLog:
    """What a replica's steps were, summed, and the gap that each made between tokens.

    ``kv_peak_ratio`` is looked at when prompts come in, 1 where a request lost its blocks for want of any.
    ``gap_s`` and ``gap_tokens``: a step of this many seconds gave this many decodes their next token. ``long_gaps_s``:
    gaps of requests that lost their blocks between two tokens.
    """

    __slots__ = (
        "busy_s",
        "decode_kv_tokens",
        "decode_seqs",
        "gap_s",
        "gap_tokens",
        "kv_peak_ratio",
        "long_gaps_s",
        "outside",
        "prefill_attention",
        "prefill_tokens",
        "steps",
    )

    def __init__(self) -> None:
        self.steps = 0
        self.outside = 0
        self.busy_s = 0.0
        self.prefill_tokens = 0
        self.prefill_attention = 0
        self.decode_seqs = 0
        self.decode_kv_tokens = 0
        self.kv_peak_ratio = 0.0
        self.gap_s = array("d")
        self.gap_tokens = array("q")
        self.long_gaps_s = array("d")


class Replica:
    """A server that is idle or in a step; the event loop calls ``begin`` and ``end`` in turn.

    ``hull`` holds the largest step sizes that the model was fitted on, by name; steps beyond are counted in the log.
    ``noise`` are factors to multiply a step's time with, drawn from ``generator``; empty for none.
    """

    def __init__(
        self,
        config: SchedulerConfig,
        model: LatencyModel,
        *,
        noise: tuple[float, ...] = (),
        generator: np.random.Generator | None = None,
        hull: Mapping[str, float] | None = None,
    ) -> None:
        self.scheduler = Scheduler(config)
        self.log = StepLog()
        self.output: SchedulerOutput | None = None
        self._model = model
        self._noise = _forever(noise, generator) if noise and generator is not None else None
        bounds = hull or {}
        self._most_prefill = bounds.get("prefill_tokens", float("inf"))
        self._most_attention = bounds.get("prefill_attention", float("inf"))
        self._most_seqs = bounds.get("decode_seqs", float("inf"))
        self._most_kv = bounds.get("decode_kv_tokens", float("inf"))

    @property
    def load(self) -> int:
        """Requests here, running and waiting: what a least-load router looks at."""
        return self.scheduler.num_running + self.scheduler.num_waiting

    def begin(self, now: float) -> float | None:
        """Start the next step; when it will end, or None when there is nothing to do."""
        output = self.scheduler.schedule(now)
        self.output = output
        if output is None:
            return None
        stats = output.stats
        seconds = self._model.step_seconds(stats)
        if self._noise is not None:
            seconds *= next(self._noise)
        log = self.log
        log.steps += 1
        log.busy_s += seconds
        log.prefill_tokens += stats.prefill_tokens
        log.prefill_attention += stats.prefill_attention
        log.decode_seqs += stats.decode_seqs
        log.decode_kv_tokens += stats.decode_kv_tokens
        if output.prefills or output.preempted:
            log.kv_peak_ratio = max(log.kv_peak_ratio, 1.0 if output.preempted else self.scheduler.kv_usage)
        if stats.decode_seqs:
            log.gap_s.append(seconds)
            log.gap_tokens.append(stats.decode_seqs)
        if (
            stats.prefill_tokens > self._most_prefill
            or stats.prefill_attention > self._most_attention
            or stats.decode_seqs > self._most_seqs
            or stats.decode_kv_tokens > self._most_kv
        ):
            log.outside += 1
        return now + seconds

    def end(self, now: float) -> list[Request]:
        """The step that ``begin`` started ends at ``now``; requests that finished with it."""
        output = self.output
        assert output is not None
        for chunk in output.prefills:
            if chunk.samples and chunk.request.preemptions:
                last = chunk.request.timeline.last_token_s
                if last is not None:
                    self.log.long_gaps_s.append(now - last)
            usage = self.scheduler.kv_usage
            self.log.kv_peak_ratio = max(self.log.kv_peak_ratio, usage)
        self.output = None
        return self.scheduler.update(output, _NOBODY, now)


def _forever(values: tuple[float, ...], generator: np.random.Generator) -> Iterator[float]:
    choices = np.array(values)
    while True:
        yield from generator.choice(choices, size=_DRAWS).tolist()
