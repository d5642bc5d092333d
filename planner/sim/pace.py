"""Step times in whole ticks of a femtosecond, so that a thousand steps in one are exactly a thousand steps."""

from collections.abc import Callable
from dataclasses import replace

from planner.latency import ConstantModel, HingeModel, LatencyModel, LinearModel
from probe_engine.sched import StepStats

TICKS_PER_S = 10**15


def to_ticks(seconds: float) -> int:
    """Whole ticks, rounded."""
    return round(seconds * TICKS_PER_S)


def to_s(ticks: int) -> float:
    """Seconds."""
    return ticks / TICKS_PER_S


class Pace:
    """A step-time model on the tick clock.

    ``kv_ticks`` is what each decode KV token adds; None where the model's form is unknown, so that steps of the same
    decodes cannot be summed in closed form.
    """

    __slots__ = ("_decode_ticks", "_fixed_s", "kv_ticks")

    def __init__(self, model: LatencyModel) -> None:
        self._decode_ticks: dict[int, int] = {}
        self.kv_ticks, self._fixed_s = _split(model)

    def ticks(self, stats: StepStats) -> int:
        """Ticks of a step of this size, at least one."""
        kv = (self.kv_ticks or 0) * stats.decode_kv_tokens
        if stats.prefill_tokens or self.kv_ticks is None:
            return max(to_ticks(self._fixed_s(stats)) + kv, 1)
        fixed = self._decode_ticks.get(stats.decode_seqs)
        if fixed is None:
            fixed = self._decode_ticks[stats.decode_seqs] = to_ticks(self._fixed_s(stats))
        return max(fixed + kv, 1)


def _split(model: LatencyModel) -> tuple[int | None, Callable[[StepStats], float]]:
    """(ticks per decode KV token, the rest of the model)."""
    if isinstance(model, LinearModel):
        return to_ticks(model.decode_kv_token_s), replace(model, decode_kv_token_s=0.0).step_seconds
    if isinstance(model, HingeModel):
        bare = replace(model, linear=replace(model.linear, decode_kv_token_s=0.0))
        return to_ticks(model.linear.decode_kv_token_s), bare.step_seconds
    if isinstance(model, ConstantModel):
        return 0, model.step_seconds
    return None, model.step_seconds
