"""When a request reached each stage: queue time, TTFT, TPOT and E2E are defined here and nowhere else.

Engine, replay and twin share these definitions. All times are seconds on one clock, whichever the driver passes in.
"""

from dataclasses import dataclass
from itertools import pairwise


@dataclass(slots=True)
class RequestTimeline:
    """Times (s) of one request; None until the stage is reached.

    ``scheduled_s`` is the first admission (a preempted request keeps it). ``last_token_s`` and ``tokens`` are brought
    up to date whenever the request stops decoding (finish, abort, preemption), not at each token.
    ``token_times`` is None unless the driver wants each token's time and sets it to a list before ``add()``.
    """

    arrival_s: float
    scheduled_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    finished_s: float | None = None
    tokens: int = 0
    token_times: list[float] | None = None

    @property
    def queue_s(self) -> float | None:
        """Arrival to first admission."""
        return None if self.scheduled_s is None else self.scheduled_s - self.arrival_s

    @property
    def prefill_s(self) -> float | None:
        """First admission to first token."""
        if self.first_token_s is None or self.scheduled_s is None:
            return None
        return self.first_token_s - self.scheduled_s

    @property
    def decode_s(self) -> float | None:
        """First token to last token."""
        if self.first_token_s is None or self.last_token_s is None:
            return None
        return self.last_token_s - self.first_token_s

    @property
    def ttft_s(self) -> float | None:
        """Time to first token: arrival to first token."""
        return None if self.first_token_s is None else self.first_token_s - self.arrival_s

    @property
    def e2e_s(self) -> float | None:
        """Arrival to finish."""
        return None if self.finished_s is None else self.finished_s - self.arrival_s

    @property
    def tpot_s(self) -> float | None:
        """Mean time per output token after the first; None with fewer than two tokens."""
        decode_s = self.decode_s
        return None if decode_s is None or self.tokens < 2 else decode_s / (self.tokens - 1)

    @property
    def gaps_s(self) -> list[float]:
        """Inter-token latencies, one fewer than tokens; empty unless ``token_times`` was recorded."""
        times = self.token_times or []
        return [later - earlier for earlier, later in pairwise(times)]
