"""Step times in whole ticks of a femtosecond, so that a thousand steps in one are exactly a thousand steps."""

from planner.steps.latency import ConstantModel, CorrectedModel, HingeModel, LatencyModel, LinearModel, factor_at
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

    ``closed`` says whether steps of the same decodes differ by a fixed number of ticks only, so that they can be summed
    in closed form; so it is for models whose form is known.
    """

    __slots__ = ("_base", "_decodes", "_model", "closed")

    def __init__(self, model: LatencyModel) -> None:
        self._model = model
        self._decodes: dict[int, tuple[int, int]] = {}
        self._base = _base_of(model)
        self.closed = self._base is not None or isinstance(model, ConstantModel)

    def ticks(self, stats: StepStats) -> int:
        """Ticks of a step of this size, at least one."""
        if stats.prefill_tokens or not self.closed:
            return max(to_ticks(self._model.step_seconds(stats)), 1)
        fixed, per_token = self.decode(stats.decode_seqs)
        return max(fixed + per_token * stats.decode_kv_tokens, 1)

    def decode(self, seqs: int) -> tuple[int, int]:
        """(ticks of a step of so many decodes without keys, ticks per key that they read)."""
        found = self._decodes.get(seqs)
        if found is None:
            bare = self._model.step_seconds(StepStats(0, 0, seqs, 0))
            factor = factor_at(self._model.decode, seqs) if isinstance(self._model, CorrectedModel) else 1.0
            per_token_s = 0.0 if self._base is None else self._base.decode_kv_token_s * factor
            found = self._decodes[seqs] = to_ticks(bare), to_ticks(per_token_s)
        return found


def _base_of(model: LatencyModel) -> LinearModel | None:
    """The linear part of a model of known form."""
    if isinstance(model, CorrectedModel):
        model = model.base
    if isinstance(model, HingeModel):
        model = model.linear
    return model if isinstance(model, LinearModel) else None
