"""What losing replicas at the peak does to the promise: attainment during the outage, and how long until it is kept."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.errors import CapacityError
from planner.room.verdict import met
from planner.sim import Played, Twin, play
from planner.sim.outage import Outage, strike
from planner.slo import Slo
from planner.traces.trace import Trace

WINDOW_REQUESTS = 100
AT_RATIO = 0.4


@dataclass(frozen=True, slots=True)
class Aftermath:
    """One outage: shares of requests that met the promise before it, until ``recovery_s`` after it, and from then on.

    ``recovery_s`` is the time after the loss from which every stretch of 100 requests keeps the goodput promised; None
    when that never comes. ``lost`` requests were in the replicas that went; ``given_up`` of them never got an answer.
    """

    replicas: int
    lost_replicas: int
    requests_per_s: float
    before_ratio: float
    during_ratio: float | None
    after_ratio: float | None
    recovery_s: float | None
    lost: int
    given_up: int

    @property
    def survived(self) -> bool:
        """Whether the promise is kept again."""
        return self.recovery_s is not None


def fail(
    trace: Trace,
    twin: Twin,
    slo: Slo,
    replicas: int,
    *,
    cold_start_s: float | None = None,
    at_s: float | None = None,
    seed: int = 0,
) -> Aftermath:
    """Play ``trace`` and lose ``replicas`` at ``at_s`` (two fifths of the way by default).

    Without ``cold_start_s`` they do not come back: what is left must carry the load. Raises CapacityError when nobody
    would be left.
    """
    if replicas >= twin.replicas and cold_start_s is None:
        raise CapacityError(f"losing {replicas} of {twin.replicas} replicas for good leaves nobody to serve")
    moment = at_s if at_s is not None else float(trace.arrival_ns[int(len(trace) * AT_RATIO)]) / 1e9
    outage = Outage(moment, replicas, cold_start_s)
    played = play(trace, twin, seed=seed, script=strike([outage]))
    return _aftermath(played, trace, twin, slo, outage)


def _aftermath(played: Played, trace: Trace, twin: Twin, slo: Slo, outage: Outage) -> Aftermath:
    good = met(played, trace.output_tokens, slo)
    before = played.due_s < outage.at_s
    hit = before & ((played.attempts > 1) | np.isnan(played.last_token_s))
    later = np.nonzero(~before)[0]
    recovered = _recovered(good[later], slo.goodput_ratio)
    recovery_s, during, after = None, good[later], good[:0]
    if recovered is not None:
        recovery_s = max(float(played.due_s[later[recovered]]) - outage.at_s, 0.0) if recovered else 0.0
        during, after = good[later[:recovered]], good[later[recovered:]]
    settled = before & (np.arange(len(good)) >= len(good) // 20) & ~hit
    return Aftermath(
        replicas=twin.replicas,
        lost_replicas=outage.replicas,
        requests_per_s=len(trace) / max(trace.duration_s, 1e-9),
        before_ratio=_share(good[settled]) or 0.0,
        during_ratio=_share(during),
        after_ratio=_share(after),
        recovery_s=recovery_s,
        lost=int((played.attempts > 1).sum()),
        given_up=sum("lost" in reason for reason in played.refusals.values()),
    )


def _recovered(good: npt.NDArray[np.bool_], goodput: float) -> int | None:
    """Index from which every window keeps the goodput and no miss stands at its head; None when there is none."""
    width = min(WINDOW_REQUESTS, len(good))
    if not width:
        return None
    reached = np.convolve(good.astype(np.float64), np.ones(width), mode="valid") >= goodput * width - 1e-9
    broken = np.nonzero(~reached)[0]
    if not len(broken):
        return 0
    start = int(broken[-1]) + 1
    return start if start < len(reached) else None


def _share(values: npt.NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
