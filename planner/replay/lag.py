"""Whether a replay may be believed: how far behind its schedule the client itself was."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from planner.result import Requests

MAX_P99_LAG_S = 0.010
MAX_LAG_OF_TTFT = 0.05
GOOD_LAG_S = 0.0035
"""What an idle machine of two cores keeps; a server whose own TTFT is a few milliseconds asks for no less."""


@dataclass(frozen=True, slots=True)
class Lag:
    """Written minus due, seconds, against the run's absolute start; ``inversions`` counts neighbours out of order."""

    sent: int
    p50_s: float
    p90_s: float
    p99_s: float
    max_s: float
    later_than_1ms: float
    later_than_10ms: float
    later_than_100ms: float
    inversions: int


def measure(requests: Requests) -> Lag | None:
    """The lag of the requests that were written; None when none was."""
    written = ~np.isnan(requests.sent_s)
    if not written.any():
        return None
    sent = requests.sent_s[written]
    lag = sent - requests.due_s[written]
    p50, p90, p99 = (float(value) for value in np.percentile(lag, [50, 90, 99]))
    later = [float((lag > bound).mean()) for bound in (0.001, 0.010, 0.100)]
    inversions = int((np.diff(sent) < 0).sum())
    return Lag(len(lag), p50, p90, p99, float(lag.max()), later[0], later[1], later[2], inversions)


def verdict(requests: Requests, missing: int = 0, faults: Sequence[str] = ()) -> dict[str, Any]:
    """``valid``, the reasons why not, and the lag; goes into the run's header.

    A run is valid when every planned request was sent (none is ``missing``), nothing else went wrong (``faults``) and
    the p99 lag is at most 5% of the median TTFT, but no less than 3.5 ms and no more than 10 ms are asked for.
    """
    lag = measure(requests)
    reasons = list(faults)
    if missing:
        reasons.append(f"{missing} requests were not sent: the run was stopped")
    if lag is None:
        reasons.append("no request was written to the server")
    else:
        first = requests.first_token_s - requests.sent_s
        ttft_s = float(np.nanmedian(first)) if (~np.isnan(first)).any() else np.inf
        bound_s = min(MAX_P99_LAG_S, max(GOOD_LAG_S, MAX_LAG_OF_TTFT * ttft_s))
        if lag.p99_s > bound_s:
            reasons.append(
                f"p99 schedule lag {lag.p99_s * 1e3:.2f} ms is over {bound_s * 1e3:.2f} ms "
                "(5% of the median TTFT, between 3.5 and 10 ms): the client was too slow for this machine"
            )
    return {"valid": not reasons, "reasons": reasons, "lag": None if lag is None else asdict(lag)}
