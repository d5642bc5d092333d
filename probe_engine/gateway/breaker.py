"""A circuit breaker per replica: closed, open, half open, with four triggers.

It opens when more than ``error_ratio`` of the answers of the last ``error_window_s`` are errors (of at least
``least_requests``); when the p99 of the latency has been above ``p99_s`` for ``slow_for_s``; when the GPU's memory is
used beyond ``gpu_memory_ratio``; or when more than ``queue`` requests wait. After ``open_s`` it lets ``trials``
requests through: all well, it closes; one bad, it opens again.
"""

from collections import deque
from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "half_open", "open"]
Trigger = Literal["errors", "latency", "gpu_memory", "queue", "trial", "operator"]
SLOT_S = 10.0  # a p99 is taken over this long, so that "for a minute" means six of them in a row


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When it opens and how it closes."""

    error_ratio: float = 0.5
    error_window_s: float = 10.0
    least_requests: int = 10
    p99_s: float = 10.0
    slow_for_s: float = 60.0
    gpu_memory_ratio: float = 0.95
    queue: int = 1000
    open_s: float = 30.0
    trials: int = 3


class Breaker:
    """One replica's breaker. ``opened`` is why it opened last; times (s, monotonic) are passed in."""

    def __init__(self, rules: BreakerRules) -> None:
        self.rules = rules
        self.opened: Trigger | None = None
        self.times_opened: dict[Trigger, int] = {}
        self._state: State = "closed"
        self._until_s: float | None = None  # while open: when it half opens; None: when the operator says so
        self._answers: deque[tuple[float, bool]] = deque()
        self._errors = 0
        self._latencies: deque[tuple[float, float]] = deque()
        self._slow_since_s: float | None = None
        self._trials_out = 0
        self._trials_passed = 0

    def state(self, now_s: float) -> State:
        """Which of the three it is in."""
        if self._state == "open" and self._until_s is not None and now_s >= self._until_s:
            self._state = "half_open"
            self._trials_out = self._trials_passed = 0
        return self._state

    def allows(self, now_s: float) -> bool:
        """Whether a request may go to the replica now."""
        state = self.state(now_s)
        return state == "closed" or (
            state == "half_open" and self._trials_out + self._trials_passed < self.rules.trials
        )

    def retry_after_s(self, now_s: float) -> float:
        """When it is worth asking again."""
        return 1.0 if self._until_s is None else max(1.0, self._until_s - now_s)

    def sent(self, now_s: float) -> None:
        """A request that ``allows()`` let through goes to the replica."""
        if self.state(now_s) == "half_open":
            self._trials_out += 1

    def unsent(self, now_s: float) -> None:
        """It came back without telling anything of the replica (the client left, or the replica was busy)."""
        if self.state(now_s) == "half_open":
            self._trials_out = max(0, self._trials_out - 1)

    def answered(self, now_s: float, *, well: bool, latency_s: float) -> None:
        """The replica answered, or failed to; ``latency_s`` is the time to the first byte."""
        state = self.state(now_s)
        if state == "half_open":
            self._trials_out = max(0, self._trials_out - 1)
            self._trials_passed += well
            if not well or latency_s > self.rules.p99_s:
                self._open("trial", now_s)
            elif self._trials_passed >= self.rules.trials:
                self._close()
        elif state == "closed":
            self._answers.append((now_s, well))
            self._errors += not well
            self._latencies.append((now_s, latency_s))
            self._judge(now_s)

    def observed(self, now_s: float, *, waiting: float | None, gpu_memory_ratio: float | None) -> None:
        """What a probe of the replica saw; None is not known."""
        if self.state(now_s) == "open":
            return
        if gpu_memory_ratio is not None and gpu_memory_ratio > self.rules.gpu_memory_ratio:
            self._open("gpu_memory", now_s)
        elif waiting is not None and waiting > self.rules.queue:
            self._open("queue", now_s)

    def force(self, state: Literal["open", "closed"]) -> None:
        """The operator opens (until they close it) or closes it."""
        if state == "open":
            self._open("operator", None)
        else:
            self._close()

    def _judge(self, now_s: float) -> None:
        rules, answers = self.rules, self._answers
        while answers and answers[0][0] <= now_s - rules.error_window_s:
            self._errors -= not answers.popleft()[1]
        while self._latencies and self._latencies[0][0] <= now_s - SLOT_S:
            self._latencies.popleft()
        if len(answers) >= rules.least_requests and self._errors > rules.error_ratio * len(answers):
            self._open("errors", now_s)
            return
        if self._p99_s() <= rules.p99_s:
            self._slow_since_s = None
        elif self._slow_since_s is None:
            self._slow_since_s = now_s
        elif now_s - self._slow_since_s >= rules.slow_for_s:
            self._open("latency", now_s)

    def _p99_s(self) -> float:
        if self._latencies[-1][1] <= self.rules.p99_s and self._slow_since_s is None:
            return 0.0  # nothing slow is going on: spare the sorting
        ordered = sorted(latency_s for _, latency_s in self._latencies)
        return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]

    def _open(self, trigger: Trigger, now_s: float | None) -> None:
        self._forget()
        self._state, self.opened = "open", trigger
        self.times_opened[trigger] = self.times_opened.get(trigger, 0) + 1
        self._until_s = None if now_s is None else now_s + self.rules.open_s

    def _close(self) -> None:
        self._forget()
        self._state = "closed"

    def _forget(self) -> None:
        self._answers.clear()
        self._latencies.clear()
        self._errors = 0
        self._slow_since_s = None
        self._trials_out = self._trials_passed = 0
