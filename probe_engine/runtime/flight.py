"""A step between its start and its tokens, and what must be mended of a request that the scheduler was ahead of.

Where scheduling overlaps execution, the scheduler is told that a step ran as soon as it is started: how many tokens
there are is known then, which ones is not. So times are put right when the tokens come, and a request whose token ends
it has one more token under way, which nobody gets.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from probe_engine.sched import Request, SchedulerOutput
from probe_engine.sched.moments import Population

Launch = Callable[[SchedulerOutput], Callable[[], Mapping[str, int]]]  # the function it gives waits for the tokens
Lengths = tuple[float, Population, Population]  # variance of decodes' contexts; queued prompts; contexts put back


@dataclass(slots=True)
class Flight:
    """A step that was started at ``start_s``; ``tokens()`` waits for what it samples, by request id.

    ended: who reaches ``max_tokens`` with it, where the scheduler was told ahead. gone: ids of those that ended since.
    """

    output: SchedulerOutput
    tokens: Callable[[], Mapping[str, int]]
    start_s: float
    lengths: Lengths
    ended: Sequence[Request] = ()
    gone: set[str] = field(default_factory=set)

    def landed(self) -> dict[str, int]:
        """Wait for the tokens; those of requests that are still here."""
        tokens = self.tokens()
        return {name: token for name, token in tokens.items() if name not in self.gone} if self.gone else dict(tokens)


def put_right(request: Request, tokens: int, now: float) -> None:
    """The token number ``tokens`` of ``request`` has come now, not when its step was started."""
    timeline = request.timeline
    if tokens == 1:
        timeline.first_token_s = now
    if timeline.token_times is not None:
        timeline.token_times[tokens - 1] = now


def close(request: Request, tokens: int, now: float) -> None:
    """``request`` ended with its token number ``tokens``, which came now."""
    request.timeline.last_token_s = request.timeline.finished_s = now
    cut(request, tokens)


def cut(request: Request, tokens: int) -> None:
    """``request`` has ended with ``tokens`` tokens; what was under way after them is not its own."""
    if request.timeline.token_times is not None:
        del request.timeline.token_times[tokens:]
    request.cut(tokens)
