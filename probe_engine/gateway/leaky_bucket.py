"""A leaky bucket: what is poured in runs out at a constant rate; what would overflow has to wait."""


class LeakyBucket:
    """Bounds what all together send on: at most ``depth + rate_per_s * seconds`` over any interval, and one request.

    A request larger than the whole bucket is let in when it is empty, and the next wait until it has run out.
    """

    __slots__ = ("_at_s", "_level", "depth", "rate_per_s")

    def __init__(self, rate_per_s: float, depth: float, now_s: float) -> None:
        self.rate_per_s = rate_per_s
        self.depth = depth
        self._level = 0.0
        self._at_s = now_s

    def level(self, now_s: float) -> float:
        """What is in it now."""
        self._level = max(0.0, self._level - self.rate_per_s * (now_s - self._at_s))
        self._at_s = now_s
        return self._level

    def pour(self, amount: float, now_s: float) -> None:
        """Pour ``amount`` in; a negative one takes out what was not used after all."""
        self._level = max(0.0, self.level(now_s) + amount)

    def wait_s(self, amount: float, now_s: float) -> float:
        """How long until ``amount`` finds room: 0 when it does now."""
        return max(0.0, (self.level(now_s) - max(0.0, self.depth - amount)) / self.rate_per_s)
