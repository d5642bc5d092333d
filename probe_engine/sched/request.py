"""One request as the scheduler sees it: counts, block hashes and state, never text or tensors."""

from dataclasses import dataclass, field
from enum import StrEnum

from probe_engine.sched.timeline import RequestTimeline


class FinishReason(StrEnum):
    """Why a request ended."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    DEADLINE = "deadline"


class RequestStatus(StrEnum):
    """Where a request is; ``PREFILL`` and ``DECODE`` together are what is called running."""

    WAITING = "waiting"
    PREFILL = "prefill"
    DECODE = "decode"
    FINISHED = "finished"


class DecodeClock:
    """How many decode steps a scheduler has completed, and when the last one of any kind ended.

    A running decode gains exactly one token a step, so its counters are this clock plus a constant: a step changes
    one number here and not one number in each request.
    """

    __slots__ = ("steps", "updated_s")

    def __init__(self) -> None:
        self.steps = 0
        self.updated_s = 0.0


@dataclass(slots=True, eq=False)
class Request:
    """A request and its progress; created by the driver, changed only by the scheduler afterwards.

    prompt_tokens, max_tokens: counts. arrival_s: on the driver's clock.
    block_hashes: chained hashes of the full blocks of the prompt; the engine appends those of blocks that generated
    tokens fill, the twin gives them all at once, since it knows how long the output will be.
    priority: class, a lower number is more urgent. tenant: who it is for; None is a tenant too.
    deadline_s: when its first token must be there, on the driver's clock; if it still waits to be admitted for the
    first time then, it is dropped.
    cached_tokens: prefix-cache hit of the first admission, tokens. block_table: block ids in order of position.
    """

    request_id: str
    prompt_tokens: int
    max_tokens: int
    arrival_s: float
    block_hashes: list[int] = field(default_factory=list)
    priority: int = 0
    tenant: str | None = None
    deadline_s: float | None = None
    status: RequestStatus = field(default=RequestStatus.WAITING, init=False)
    cached_tokens: int = field(default=0, init=False)
    block_table: list[int] = field(default_factory=list, init=False)
    preemptions: int = field(default=0, init=False)
    finish_reason: FinishReason | None = field(default=None, init=False)
    timeline: RequestTimeline = field(init=False)
    decode_origin: int = field(default=0, init=False)
    finish_step: int = field(default=0, init=False)
    _computed: int = field(default=0, init=False)
    _output: int = field(default=0, init=False)
    _clock: DecodeClock | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.timeline = RequestTimeline(self.arrival_s)

    @property
    def computed_tokens(self) -> int:
        """Tokens whose keys and values are in the block table (cached ones included)."""
        return self._computed if self._clock is None else self.decode_origin + self._clock.steps

    @property
    def output_tokens(self) -> int:
        """Tokens sampled so far."""
        if self._clock is None:
            return self._output
        return self.decode_origin + self._clock.steps + 1 - self.prompt_tokens

    @property
    def total_tokens(self) -> int:
        """Prompt and sampled tokens."""
        return self.prompt_tokens + self.output_tokens

    def set_computed(self, tokens: int) -> None:
        """Scheduler only: ``tokens`` positions are computed (while not decoding)."""
        self._computed = tokens

    def take_token(self, now: float) -> None:
        """Scheduler only: the prefill ended in a sampled token at ``now``."""
        self._output += 1
        timeline = self.timeline
        if timeline.first_token_s is None:
            timeline.first_token_s = now
        timeline.last_token_s = now
        timeline.tokens = self._output

    def cut(self, output_tokens: int) -> None:
        """After its end, for a driver that schedules ahead: only so many of its tokens count."""
        self._output = self.timeline.tokens = output_tokens
        if not output_tokens:
            self.timeline.first_token_s = self.timeline.last_token_s = None

    def begin_decode(self, clock: DecodeClock) -> None:
        """Scheduler only: from now on one token comes with each step of ``clock``."""
        self.status = RequestStatus.DECODE
        self.decode_origin = self._computed - clock.steps
        self.finish_step = clock.steps + self.max_tokens - self._output
        self._clock = clock

    def end_decode(self) -> None:
        """Scheduler only: freeze the counters at the clock's present step."""
        clock = self._clock
        if clock is None:
            return
        computed = self.decode_origin + clock.steps
        output = computed + 1 - self.prompt_tokens
        if output > self._output:
            self.timeline.last_token_s = clock.updated_s
            self.timeline.tokens = output
        self._computed = computed
        self._output = output
        self._clock = None
