"""The requests that decode: each gains one token with every step, so what happens to them when is known in advance.

A calendar holds who finishes at which step, buckets who needs a block at which step (by phase: a block lasts
``block_size`` steps). A step touches only those that its bucket and its day of the calendar hold.
"""

from collections.abc import Iterator, Sequence

from probe_engine.sched.moments import Moments, Population
from probe_engine.sched.request import DecodeClock, Request, RequestStatus


class DecodeSet:
    """``kv_tokens``: keys that the next step of all of them reads. Deterministic: in the order of ``start``."""

    __slots__ = ("_calendar", "_growth", "_members", "_moments", "_size", "_timed", "_tuple", "clock", "kv_tokens")

    def __init__(self, block_size: int) -> None:
        self.clock = DecodeClock()
        self.kv_tokens = 0
        self._size = block_size
        self._members: dict[Request, None] = {}
        self._tuple: tuple[Request, ...] | None = ()  # _members; None when it must be made again
        self._timed: dict[Request, list[float]] = {}  # those that record each token's time
        self._growth: list[dict[Request, None]] = [{} for _ in range(block_size)]
        self._calendar: dict[int, list[Request]] = {}
        self._moments = Moments()  # of the origins: contexts are these plus the clock, so their spread is the same

    def __len__(self) -> int:
        return len(self._members)

    @property
    def members(self) -> tuple[Request, ...]:
        """All of them."""
        if self._tuple is None:
            self._tuple = tuple(self._members)
        return self._tuple

    @property
    def population(self) -> Population:
        """Their contexts as the next step reads them."""
        return Population(len(self._members), self.kv_tokens, self._moments.variance)

    def start(self, request: Request) -> None:
        """``request`` has its first token and decodes from the next step on."""
        request.begin_decode(self.clock)
        self._members[request] = None
        self._tuple = None
        self.kv_tokens += request.computed_tokens + 1
        self._moments.add(request.decode_origin)
        self._growth[-request.decode_origin % self._size][request] = None
        self._calendar.setdefault(request.finish_step, []).append(request)
        if request.timeline.token_times is not None:
            self._timed[request] = request.timeline.token_times

    def leave(self, request: Request) -> None:
        """``request`` decodes no more; its counters stand still."""
        self.kv_tokens -= request.computed_tokens + 1
        del self._members[request]
        self._tuple = None
        self._moments.remove(request.decode_origin)
        del self._growth[-request.decode_origin % self._size][request]
        self._timed.pop(request, None)
        request.end_decode()

    def growing(self) -> list[Request]:
        """Those that need a block for the next step."""
        growing = self._growth[self.clock.steps % self._size]
        return list(growing) if growing else []

    def step(self, now: float) -> None:
        """A step of all of them has come at ``now``."""
        self.clock.steps += 1
        self.kv_tokens += len(self._members)
        for times in self._timed.values():
            times.append(now)

    def due(self) -> Iterator[Request]:
        """Those whose last token came with the last step; call it once a step."""
        step = self.clock.steps
        for request in self._calendar.pop(step, ()):
            # an entry is stale when the request was preempted or ended since
            if request.status is RequestStatus.DECODE and request.finish_step == step:
                yield request

    def uniform_steps(self, room: int) -> int:
        """Steps, the next included, until one finishes or ``room`` blocks are not enough to grow into."""
        now, size, growth = self.clock.steps, self._size, self._growth
        finish = min(self._calendar)
        if len(self._members) * (-(-(finish - now) // size)) <= room:
            return finish - now
        step = now + 1
        while step < finish:
            room -= len(growth[step % size])
            if room < 0:
                break
            step += 1
        return step - now

    def pass_over(self, steps: int, times_s: Sequence[float]) -> Iterator[tuple[Request, int]]:
        """Complete ``steps`` uniform steps; those that grow meanwhile, and by how many blocks, in the order of time."""
        self.kv_tokens += steps * len(self._members)
        for times in self._timed.values():
            times.extend(times_s)
        now, size = self.clock.steps, self._size
        last = self.clock.steps = now + steps
        for first in range(now + 1, now + 1 + min(steps, size)):
            for request in self._growth[first % size]:
                yield request, (last - first) // size + 1
