"""What one call of ``schedule()`` decided: who computes which tokens in this step."""

from collections.abc import Sequence
from typing import NamedTuple

from probe_engine.sched.request import Request


class Chunk(NamedTuple):
    """Positions ``[start, start + tokens)`` of one request, computed in this step; ``samples``: it yields a token."""

    request: Request
    start: int
    tokens: int
    samples: bool


class StepStats(NamedTuple):
    """How much work a step is; what a step-time model is fitted to.

    prefill_tokens: tokens of prefill chunks (recompute after preemption too).
    prefill_attention: query-key pairs of those chunks, sum of ``tokens * start + tokens * (tokens + 1) / 2``.
    decode_seqs: decoding requests. decode_kv_tokens: keys that they read, each its own included.
    """

    prefill_tokens: int
    prefill_attention: int
    decode_seqs: int
    decode_kv_tokens: int


def prefill_work(prefills: Sequence[Chunk]) -> tuple[int, int]:
    """``prefill_tokens`` and ``prefill_attention`` of these chunks."""
    tokens = pairs = 0
    for chunk in prefills:
        tokens += chunk.tokens
        pairs += chunk.tokens * chunk.start + chunk.tokens * (chunk.tokens + 1) // 2
    return tokens, pairs


class SchedulerOutput:
    """One step's decision.

    step: number of this step, from 0. decodes: requests that compute one token each, the same tuple as in the step
    before while they are the same; decode_step: added to a decode's ``decode_origin`` it is the position that it
    computes; prefills: the other chunks; preempted: requests that lost their blocks now and wait again; stats: the
    size of the step.
    """

    __slots__ = ("decode_step", "decodes", "preempted", "prefills", "stats", "step")

    def __init__(
        self,
        *,
        step: int,
        decode_step: int,
        decodes: tuple[Request, ...],
        prefills: tuple[Chunk, ...],
        preempted: tuple[Request, ...],
        stats: StepStats,
    ) -> None:
        self.step = step
        self.decodes = decodes
        self.prefills = prefills
        self.preempted = preempted
        self.stats = stats
        self.decode_step = decode_step

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """All of it as chunks, decodes first, until ``update()``; made anew each time: engine and twin never ask."""
        at = self.decode_step
        return (*(Chunk(request, request.decode_origin + at, 1, True) for request in self.decodes), *self.prefills)

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request that takes part in the step."""
        return (*self.decodes, *(chunk.request for chunk in self.prefills))
