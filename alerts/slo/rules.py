"""Objectives to rules: error ratios per window, the budget, and alerts on how fast it burns.

Windows and factors are those of the Google SRE workbook (chapter 5, "multiwindow, multi-burn-rate alerts"); names of
series and labels are Sloth's, so that dashboards made for it read them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from alerts.emit import emit
from alerts.slo.objective import AlertSpec, Objective, Reading
from collector.model.durations import format_duration

BUDGET_INTERVAL = "5m"
"""How often the long windows are evaluated: they read weeks of samples and change slowly."""


@dataclass(frozen=True, slots=True)
class Burn:
    """Alert where both windows burn so fast that ``share`` of the budget is gone after ``long_s``."""

    severity: str
    share: float
    long_s: int
    short_s: int

    def factor(self, window_s: float) -> float:
        """How many times as fast as the budget allows."""
        return round(self.share * window_s / self.long_s, 6)


BURNS = (
    Burn("page", 0.02, 3_600, 300),
    Burn("page", 0.05, 21_600, 1_800),
    Burn("ticket", 0.10, 86_400, 7_200),
    Burn("ticket", 0.10, 259_200, 21_600),
)
LONG_S = 86_400
"""Windows from here on are evaluated in the group of the budget."""


def rule_file(reading: Reading, runbook: str = "") -> str:
    """A Prometheus rule file over all objectives; adds to the reading's warnings what can never fire."""
    groups: list[dict[str, Any]] = []
    for objective in reading.objectives:
        groups += _groups(objective, runbook)
        for burn in BURNS:
            if burn.factor(objective.window_s) * objective.budget >= 1:
                reading.warnings.append(
                    f"{objective.identity}: the {burn.severity} over {_shown(burn.long_s)} can never fire: "
                    f"{burn.factor(objective.window_s):g} times a budget of {objective.budget:g} is everything"
                )
    return emit(groups)


def _groups(objective: Objective, runbook: str) -> Iterable[dict[str, Any]]:
    windows = sorted({window_s for burn in BURNS for window_s in (burn.short_s, burn.long_s)})
    short = [_error_ratio(objective, window_s) for window_s in windows if window_s < LONG_S]
    long = [_error_ratio(objective, window_s) for window_s in windows if window_s >= LONG_S]
    first = [_record(objective, "slo:sli_error:now", objective.sampled)] if objective.sampled else []
    yield {"name": f"slo-sli-{objective.identity}", "rules": first + short}
    yield {
        "name": f"slo-budget-{objective.identity}",
        "interval": BUDGET_INTERVAL,
        "rules": [*long, _error_ratio(objective, round(objective.window_s)), *_budget(objective)],
    }
    alerts = [
        _alert(objective, severity, spec, runbook)
        for severity, spec in (("page", objective.page), ("ticket", objective.ticket))
        if spec.enabled
    ]
    if alerts:
        yield {"name": f"slo-alerts-{objective.identity}", "rules": alerts}


def _error_ratio(objective: Objective, window_s: int) -> dict[str, Any]:
    window = _shown(window_s)
    if objective.error_ratio is None:
        expr = f"avg_over_time(slo:sli_error:now{{{_own(objective)}}}[{window}])"
    else:
        expr = objective.error_ratio(window)
    return _record(objective, _ratio_name(window_s), expr, sloth_window=window)


def _budget(objective: Objective) -> list[dict[str, Any]]:
    own = _own(objective)
    period = _ratio_name(round(objective.window_s))
    return [
        _record(objective, "slo:objective:ratio", f"vector({objective.ratio:.12g})"),
        _record(objective, "slo:error_budget:ratio", f"vector({objective.budget:.12g})"),
        _record(objective, "slo:time_period:days", f"vector({objective.window_s / 86_400:g})"),
        _record(
            objective,
            "slo:current_burn_rate:ratio",
            f"max without (sloth_window) ({_ratio_name(300)}{{{own}}}) / {objective.budget:.12g}",
        ),
        _record(
            objective,
            "slo:period_burn_rate:ratio",
            f"max without (sloth_window) ({period}{{{own}}}) / {objective.budget:.12g}",
        ),
        _record(objective, "slo:period_error_budget_remaining:ratio", f"1 - slo:period_burn_rate:ratio{{{own}}}"),
    ]


def _alert(objective: Objective, severity: str, spec: AlertSpec, runbook: str) -> dict[str, Any]:
    burns = [burn for burn in BURNS if burn.severity == severity]
    expr = "or\n".join(_burning(objective, burn) for burn in burns)
    shown = f"{objective.service}: {objective.name}"
    annotations = {
        "summary": f"{shown} burns its error budget too fast",
        "description": f"{{{{ $value | humanizePercentage }}}} of events are bad; {objective.budget * 100:g}% may be, "
        f"over {_shown(round(objective.window_s))}.",
    }
    if objective.description:
        annotations["objective"] = objective.description
    if runbook:
        annotations["runbook"] = runbook
    labels = {"sloth_id": objective.identity, "sloth_service": objective.service, "sloth_slo": objective.name}
    return {
        "alert": objective.alert_name or "SLOBurn",
        "expr": expr,
        "labels": labels | {"sloth_severity": severity} | dict(spec.labels),
        "annotations": annotations | dict(spec.annotations),
    }


def _burning(objective: Objective, burn: Burn) -> str:
    factor = burn.factor(objective.window_s)
    sides = [
        f"max without (sloth_window) ({_ratio_name(window_s)}{{{_own(objective)}}}) "
        f"> {factor:g} * {objective.budget:.12g}"
        for window_s in (burn.short_s, burn.long_s)
    ]
    return f"(\n  {sides[0]}\nand\n  {sides[1]}\n)\n"


def _record(objective: Objective, name: str, expr: str, **more: str) -> dict[str, Any]:
    labels = {"sloth_id": objective.identity, "sloth_service": objective.service, "sloth_slo": objective.name}
    return {"record": name, "expr": expr, "labels": labels | more | dict(objective.labels)}


def _own(objective: Objective) -> str:
    return f'sloth_id="{objective.identity}"'


def _ratio_name(window_s: int) -> str:
    return f"slo:sli_error:ratio_rate{_shown(window_s)}"


def _shown(window_s: int) -> str:
    whole_days = window_s % 86_400 == 0
    return f"{window_s // 86_400}d" if whole_days else format_duration(window_s * 1000)
