"""What one call of ``schedule()`` decided: who computes which tokens in this step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from probe_engine.sched.request import Request


class Chunk(NamedTuple):
    """Positions ``[start, start + tokens)`` of one request, computed in this step; ``samples``: it yields a token."""

    request: Request
    start: int
    tokens: int
    samples: bool


@dataclass(frozen=True, slots=True)
class StepStats:
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

    step: number of this step, from 0. decodes: requests that compute one token each; prefills: the other chunks;
    preempted: requests that lost their blocks now and wait again; stats: the size of the step.
    ``chunks`` is all of it as chunks, decodes first; it is built when first asked for (the twin never asks), which
    must be before ``update()``.
    """

    __slots__ = ("_chunks", "_decode_step", "decodes", "preempted", "prefills", "stats", "step")

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
        self._decode_step = decode_step
        self._chunks: tuple[Chunk, ...] | None = None

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """Every chunk of the step, decodes first."""
        if self._chunks is None:
            at = self._decode_step
            decodes = [Chunk(request, request.decode_origin + at, 1, True) for request in self.decodes]
            self._chunks = (*decodes, *self.prefills)
        return self._chunks

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request that takes part in the step."""
        return (*self.decodes, *(chunk.request for chunk in self.prefills))
