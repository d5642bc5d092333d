"""What the engine is asked for, and what it gives back per token."""

from dataclasses import dataclass, field
from typing import Literal

from probe_engine.model.logprobs import TokenLogprobs
from probe_engine.model.sampling import SamplingParams
from probe_engine.sched import FinishReason, Request

Operation = Literal["text_completion", "chat"]


@dataclass(frozen=True, slots=True)
class Generation:
    """One prompt to continue.

    arrival_s: when it reached the server, on the engine's (monotonic) clock. stop: texts that end the output and are
    not part of it; stop_token_ids: tokens likewise. ignore_eos: the end of text does not end it. min_tokens: before
    that many, neither the end of text nor a stop does. priority, tenant, deadline_s: as in ``sched.Request``.
    operation, traceparent: for its trace. after: id of a generation of the same prompt; this one is queued once that
    one's prompt is computed, so that it finds it in the prefix cache.
    """

    request_id: str
    prompt_ids: list[int]
    max_tokens: int
    arrival_s: float
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    operation: Operation = "text_completion"
    traceparent: str | None = None
    min_tokens: int = 0
    priority: int = 0
    tenant: str | None = None
    deadline_s: float | None = None
    after: str | None = None
    stop_token_ids: frozenset[int] = frozenset()

    def request(self) -> Request:
        """What the scheduler needs to know of it, block hashes not yet made."""
        return Request(
            self.request_id,
            len(self.prompt_ids),
            self.max_tokens,
            self.arrival_s,
            priority=self.priority,
            tenant=self.tenant,
            deadline_s=self.deadline_s,
        )


@dataclass(slots=True)
class TokenOutput:
    """What one step gave one request.

    token_id: None where it ended without a token. text: what became final with it (may be empty). finish_reason: set
    on the last output, together with ``request`` (its timeline and counts). stop_reason: the stop text or token that
    ended it. error: why the request failed. logprobs: of ``token_id``, where the sampling asks for them.
    """

    request_id: str
    token_id: int | None
    text: str
    finish_reason: FinishReason | None = None
    request: Request | None = None
    stop_reason: str | int | None = None
    error: str | None = None
    logprobs: TokenLogprobs | None = None
