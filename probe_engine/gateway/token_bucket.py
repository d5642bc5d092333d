"""A token bucket: fills at a rate up to a capacity; who takes more than is there has to wait."""


class TokenBucket:
    """Starts full. Over any interval no more than ``capacity + rate_per_s * seconds`` is taken, net of what is settled.

    Times are passed in (s, never going back). ``rate_per_s`` and ``capacity`` may be changed at any time.
    """

    __slots__ = ("_at_s", "_level", "capacity", "rate_per_s")

    def __init__(self, rate_per_s: float, capacity: float, now_s: float) -> None:
        self.rate_per_s = rate_per_s
        self.capacity = capacity
        self._level = capacity
        self._at_s = now_s

    def level(self, now_s: float) -> float:
        """What can be taken now; below 0 when more was used than had been reserved."""
        self._level = min(self.capacity, self._level + self.rate_per_s * (now_s - self._at_s))
        self._at_s = now_s
        return self._level

    def take(self, amount: float, now_s: float) -> None:
        """Take ``amount`` whether it is there or not; a negative one gives back."""
        self._level = min(self.capacity, self.level(now_s) - amount)

    def wait_s(self, amount: float, now_s: float) -> float | None:
        """How long until ``amount`` is there: 0 when it is, None when it is more than the bucket ever holds."""
        if amount > self.capacity:
            return None
        return max(0.0, (amount - self.level(now_s)) / self.rate_per_s)

    def full_s(self, now_s: float) -> float:
        """How long until the bucket is full."""
        return (self.capacity - self.level(now_s)) / self.rate_per_s
