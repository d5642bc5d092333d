"""When to try again: what an answer's status means, how long to wait."""

import math
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Literal

FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 5.0
LONGEST_RETRY_AFTER_S = 3600.0
"""A receiver that asks for more is asked again after an hour."""

RETRIED = frozenset({429, *range(500, 600)})
"""Statuses that are worth another try."""

OTLP_RETRIED = frozenset({429, 502, 503, 504})
"""The same as OTLP's specification has it: no other may be sent again."""

Verdict = Literal["sent", "retry", "refused"]


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to try again: the wait after a first failure, the longest one, and the statuses that are worth it."""

    first_delay_s: float = FIRST_DELAY_S
    longest_delay_s: float = LONGEST_DELAY_S
    retried: frozenset[int] = RETRIED

    def judge(self, status: int) -> Verdict:
        """2xx is taken, ``retried`` is worth another try, the rest is refused for good."""
        if 200 <= status < 300:
            return "sent"
        return "retry" if status in self.retried else "refused"

    def delay_s(self, failures: int, retry_after: str, now_s: float) -> float:
        """How long to wait after so many failures in a row, or as long as the receiver asks for (``Retry-After``)."""
        asked_s = _asked_s(retry_after, now_s)
        if asked_s is not None:
            return min(max(0.0, asked_s), LONGEST_RETRY_AFTER_S)
        return min(self.longest_delay_s, self.first_delay_s * 2.0 ** min(failures - 1, 20))


USUAL = Patience()


def _asked_s(retry_after: str, now_s: float) -> float | None:
    """Seconds, or until a moment in HTTP's way of writing it; None for anything else."""
    try:
        seconds = float(retry_after)
        return seconds if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now_s
