"""How many may run at once, found from an inter-token latency SLO: grows by steps while under it, halves when over."""

WINDOW_STEPS = 8  # steps whose mean is judged: one slow step is no trend
GROWTH_SHARE = 32  # one growth is this part of the most


class BatchLimit:
    """``limit`` is the most that may run now, from 1 to ``most``.

    It grows only while it binds (an idle replica proves nothing), and after halving it waits until no more than
    ``limit`` run before it judges again. Nobody is thrown out: what runs goes on.
    """

    __slots__ = ("_count", "_sum_s", "growth", "itl_slo_s", "limit", "most")

    def __init__(self, itl_slo_s: float, most: int) -> None:
        self.itl_slo_s = itl_slo_s
        self.most = most
        self.growth = max(1, most // GROWTH_SHARE)
        self.limit = self.growth
        self._sum_s = 0.0
        self._count = 0

    def observe(self, gap_s: float, running: int) -> None:
        """A token came to each of ``running`` requests, ``gap_s`` after the one before."""
        if running > self.limit:
            return
        self._sum_s += gap_s
        self._count += 1
        if self._count < WINDOW_STEPS:
            return
        mean_s = self._sum_s / self._count
        self._sum_s, self._count = 0.0, 0
        if mean_s > self.itl_slo_s:
            self.limit = max(1, min(self.limit, running) // 2)
        elif running >= self.limit:
            self.limit = min(self.most, self.limit + self.growth)
