"""Batches that are formed, run to their end and only then followed by the next: what continuous batching replaced.

``dynamic`` is Triton's dynamic batcher: requests of similar length gather until one of the preferred sizes is reached
or the oldest has waited for the longest delay. ``static`` is the same without gathering: whoever waits when the replica
falls idle is the batch. Both are here to be compared with.
"""

from collections import deque
from collections.abc import Sequence

from probe_engine.sched.request import Request
from probe_engine.sched.waiting_queue import FirstCome


class BatchQueue(FirstCome):
    """Nobody joins a running batch.

    most: largest batch. preferred: sizes worth dispatching at once. delay_s: how long the oldest waits for company.
    length_bounds: upper bounds (prompt tokens, inclusive) of the buckets from which a batch is taken; what is longer
    has a bucket of its own. A bucket whose oldest has waited ``delay_s`` goes first, the oldest of them before the
    others: a rare length cannot starve.
    """

    __slots__ = ("_batch", "_bounds", "_buckets", "_delay_s", "_most", "_preferred")

    def __init__(
        self, most: int, *, preferred: Sequence[int] = (), delay_s: float = 0.0, length_bounds: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self._most = most
        self._preferred = sorted(preferred, reverse=True)
        self._delay_s = delay_s
        self._bounds = sorted(length_bounds)
        self._buckets: list[deque[Request]] = [deque() for _ in range(len(self._bounds) + 1)]
        self._batch: deque[Request] = deque()

    def add(self, request: Request) -> None:
        """To the end of its bucket."""
        self._bucket(request).append(request)
        self.waiting += 1

    def put_back(self, request: Request) -> None:
        """To the front of its bucket, for a later batch."""
        self._bucket(request).appendleft(request)
        self.waiting += 1

    def remove(self, request: Request) -> None:
        """Wherever it is."""
        (self._batch if request in self._batch else self._bucket(request)).remove(request)
        self.waiting -= 1

    def head(self, now_s: float, running: int) -> Request | None:
        """The rest of the batch that is being admitted; with nothing running, a new one's first."""
        if not self._batch and not running:
            self._form(now_s)
        return self._batch[0] if self._batch else None

    def take(self, request: Request) -> None:
        """Off the batch."""
        self._batch.popleft()
        self.waiting -= 1

    def blocked(self, request: Request) -> None:
        """The batch is as large as the KV blocks allow: the others wait for the next one."""
        while self._batch:
            left = self._batch.pop()
            self._bucket(left).appendleft(left)

    def wake_s(self, running: int) -> float | None:
        """When the oldest has waited long enough."""
        heads = [bucket[0].arrival_s for bucket in self._buckets if bucket]
        return min(heads) + self._delay_s if heads and not running and not self._batch else None

    def _form(self, now_s: float) -> None:
        filled = [bucket for bucket in self._buckets if bucket]
        due = [bucket for bucket in filled if now_s >= bucket[0].arrival_s + self._delay_s]
        chosen, size = None, 0
        if due:
            chosen = min(due, key=_oldest_s)
            size = self._worthwhile(chosen) or min(len(chosen), self._most)
        elif filled:
            chosen = max(filled, key=self._worthwhile)
            size = self._worthwhile(chosen)
        if chosen is not None:
            self._batch.extend(chosen.popleft() for _ in range(size))

    def _worthwhile(self, bucket: deque[Request]) -> int:
        """The largest preferred (or allowed) size that ``bucket`` fills; 0 when it fills none."""
        sizes = [self._most, *(size for size in self._preferred if size < self._most)]
        return next((size for size in sizes if size <= len(bucket)), 0)

    def _bucket(self, request: Request) -> deque[Request]:
        at = next((at for at, bound in enumerate(self._bounds) if request.prompt_tokens <= bound), len(self._bounds))
        return self._buckets[at]


def _oldest_s(bucket: deque[Request]) -> float:
    return bucket[0].arrival_s
