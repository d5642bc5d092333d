"""Judges measurements against the promise: which SLO is kept, at risk or broken, by which pool, for how long."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dashboard import queries
from dashboard.queries import Rows
from dashboard.source import Answer
from dashboard.view import View, Window
from dashboard.words import say
from planner.slo import Slo

State = Literal["ok", "warn", "breach", "none"]
Bound = Literal["", "≥", "≤"]

AT_RISK_SHARE = 0.9
"""A latency above this share of its limit is at risk; so is a promise whose budget is spent."""

P95_ALLOWANCE = 0.05
EXACT_WITHIN = 5e-4


@dataclass(frozen=True, slots=True)
class Promise:
    """One SLO as the worst pool keeps it.

    ``value`` and ``limit`` are seconds or shares (``is_share``); ``bound`` is ≥ or ≤ where only a bound of the
    share is known.
    ``values`` is the pool's row. ``broken_s`` is for how long it has been broken without a break; ``budget_left`` is
    the share of the window's error budget that is left (negative: overspent). ``why`` says why there is no value.
    """

    key: str
    title: str
    limit: float
    is_share: bool
    state: State
    pool: str = ""
    value: float | None = None
    values: tuple[float | None, ...] = ()
    broken_s: float = 0.0
    budget_left: float | None = None
    bound: Bound = ""
    why: str = ""

    @property
    def use(self) -> float:
        """How much of the limit is used: 1 is at the limit, above is broken; 0 where nothing is known."""
        if self.value is None:
            return 0.0
        if self.is_share:
            return (1 - self.value) / max(1 - self.limit, 1e-9)
        return self.value / self.limit


def promises(
    answers: Mapping[str, Answer], budgets: Mapping[str, Answer], slo: Slo, view: View, window: Window
) -> tuple[Promise, ...]:
    """The five tiles, in their order."""
    latencies = (
        ("ttft", "TTFT p95", slo.ttft_p95_s),
        ("itl", "ITL p95", slo.itl_p95_s),
        ("e2e_latency", "E2E p95", slo.e2e_p95_s),
    )
    kept = [
        _latency(key, title, limit, answers[f"{key}.p95"], budgets[f"within.{key}"], view, window)
        for key, title, limit in latencies
    ]
    success = _success(answers["within.success"], budgets["within.success"], slo, view, window)
    return (*kept, success, _goodput(answers, slo, view, window))


def _latency(key: str, title: str, limit: float, answer: Answer, budget: Answer, view: View, window: Window) -> Promise:
    rows = queries.by_pool(answer, view)
    pool = worst(rows, highest=True)
    if pool is None:
        return Promise(key, title, limit, False, "none", why=why_empty(answer, rows))
    value = queries.last(rows[pool])
    left = _left(budget, view, pool, P95_ALLOWANCE)
    state: State = "ok"
    if value is not None and value > limit:
        state = "breach"
    elif value is not None and (value > AT_RISK_SHARE * limit or (left is not None and left <= 0)):
        state = "warn"
    broken_s = trailing(rows[pool], lambda one: one > limit) * window.step_s if state == "breach" else 0.0
    return Promise(key, title, limit, False, state, pool, value, tuple(rows[pool]), broken_s, left)


def _success(answer: Answer, budget: Answer, slo: Slo, view: View, window: Window) -> Promise:
    limit = slo.success_ratio
    rows = queries.by_pool(answer, view)
    pool = worst(rows, highest=False)
    if pool is None:
        return Promise("success", "Success", limit, True, "none", why=why_empty(answer, rows))
    value = queries.last(rows[pool])
    left = _left(budget, view, pool, 1 - limit)
    state: State = "ok"
    if value is not None and value < limit:
        state = "breach"
    elif left is not None and left <= 0:
        state = "warn"
    broken_s = trailing(rows[pool], lambda one: one < limit) * window.step_s if state == "breach" else 0.0
    return Promise("success", "Success", limit, True, state, pool, value, tuple(rows[pool]), broken_s, left)


def _goodput(answers: Mapping[str, Answer], slo: Slo, view: View, window: Window) -> Promise:
    """Between two bounds, since histograms do not say which requests missed: all misses fall on different requests
    (lower bound) or on the same (upper). It is broken where even the upper bound is below the target."""
    limit = slo.goodput_ratio
    pace = "within.tpot" if answers["within.tpot"].lines else "within.itl"
    names = [name for name in ("within.ttft", pace, "within.e2e_latency", "within.success") if answers[name].lines]
    parts = [queries.by_pool(answers[name], view) for name in names]
    if "within.ttft" not in names:
        why = why_empty(answers["within.ttft"], {})
        return Promise("goodput", "Goodput", limit, True, "none", why=why)
    lower = {pool: _combined([part[pool] for part in parts if pool in part], lowest=True) for pool in parts[0]}
    upper = {pool: _combined([part[pool] for part in parts if pool in part], lowest=False) for pool in parts[0]}
    pool = worst(lower, highest=False)
    if pool is None:
        return Promise("goodput", "Goodput", limit, True, "none", why=why_empty(answers["within.ttft"], lower))
    value, best = queries.last(lower[pool]), queries.last(upper[pool])
    state: State = "ok"
    bound: Bound
    if best is not None and best < limit:
        state = "breach"
    elif value is not None and value < limit:
        state = "warn"
    broken_s = trailing(upper[pool], lambda one: one < limit) * window.step_s if state == "breach" else 0.0
    shown, bound = (best, "≤") if state == "breach" else (value, "≥")
    if value is not None and best is not None and best - value < EXACT_WITHIN:
        bound = ""
    rows = upper if state == "breach" else lower
    return Promise("goodput", "Goodput", limit, True, state, pool, shown, tuple(rows[pool]), broken_s, None, bound)


def _combined(rows: Sequence[list[float | None]], *, lowest: bool) -> list[float | None]:
    combined: list[float | None] = []
    for step in zip(*rows, strict=True):
        known = [value for value in step if value is not None]
        if not known:
            combined.append(None)
        else:
            combined.append(max(0.0, 1 - sum(1 - value for value in known)) if lowest else min(known))
    return combined


def _left(budget: Answer, view: View, pool: str, allowance: float) -> float | None:
    share = queries.last(queries.by_pool(budget, view).get(pool, []))
    return None if share is None or allowance <= 0 else 1 - (1 - share) / allowance


def worst(rows: Mapping[str, Sequence[float | None]], *, highest: bool) -> str | None:
    """The pool whose newest value is worst; None where no pool has one."""
    newest = {pool: value for pool, row in rows.items() if (value := queries.last(list(row))) is not None}
    if not newest:
        return None
    return max(newest, key=lambda pool: newest[pool] if highest else -newest[pool])


def trailing(values: Sequence[float | None], holds: Callable[[float], bool]) -> int:
    """How many of the last steps in a row satisfy ``holds``; steps without a value neither count nor break the row."""
    held = 0
    for value in reversed(values):
        if value is None:
            continue
        if not holds(value):
            break
        held += 1
    return held


def why_empty(answer: Answer, rows: Rows, view: View | None = None) -> str:
    """Why a panel has nothing to draw, in a few words."""
    if answer.absent:
        return answer.absent
    if answer.error:
        return answer.error
    if answer.lines and not rows:
        return "the pools chosen have no such series"
    if answer.lines:
        return "idle: nothing happened in this time"
    if view is not None and view.where:
        return say("no series with {filters} in this time", filters=view.where.replace("instance", "replica"))
    return "no samples in this time"
