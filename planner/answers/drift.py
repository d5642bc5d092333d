"""Whether an engine has left its twin's band, as a report and as series."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from collector.model.labels import METRIC_NAME
from collector.model.series import Series
from planner.answers.inputs import step_error
from planner.report import Cell, Report, Table
from planner.steps.drift import BATCH, FALSE_PER_DAY, Drift, onset
from planner.steps.first_tokens import TOGETHER, FirstTokens
from planner.steps.latency import StepModel

Waits = Mapping[str, FirstTokens]
"""What was found of waits for first tokens, by name of the run."""


def drift_report(
    model: StepModel,
    found: Drift | None,
    waits: Waits,
    source: str,
    again: StepModel | None,
    left_out: Sequence[str] = (),
) -> Report:
    """What was watched, the alarms, and the error before and after recalibration; ``found`` is None without steps."""
    findings = [] if found is None else [_steps_words(found)]
    findings += [_waits_words(name, one) for name, one in waits.items()]
    if again is not None:
        findings.append(
            f"recalibrated on what came since: mean error {(again.held_out or again.fit).mean:.1%}, "
            f"bias {(again.held_out or again.fit).bias:+.1%}"
        )
    delay = np.inf if found is None else found.band.delay_steps
    sees = f"after about {delay:.0f} steps" if np.isfinite(delay) else "never: its noise is too large"
    rows: list[tuple[Cell, ...]] = []
    if found is not None:
        rows += [("step", alarm.at, alarm.since, alarm.side) for alarm in found.alarms]
    rows += [(f"request of {name}", alarm.at, alarm.since, alarm.side) for name, one in waits.items()
             for alarm in one.alarms]  # fmt: skip
    notes = [f"false alarms of steps: at most {FALSE_PER_DAY:.0%} of days", *left_out]
    if waits:
        notes.append("alarms of waits are hints, as false ones are frequent; drift is judged on steps")
    if found is not None:
        notes.insert(0, f"a slowdown of 10% would be seen {sees}")
    return Report(
        kind="drift",
        title=f"Drift of {source} from {model.source}",
        findings=tuple(findings),
        inputs={
            "steps": 0 if found is None else found.steps,
            "batch_steps": BATCH,
            "requests": sum(one.requests for one in waits.values()),
            "requests_judged_together": TOGETHER,
            "false_alarms_per_day": FALSE_PER_DAY,
        },
        model_error=step_error(again or model),
        tables=(Table(title="Alarms", columns=("counted by", "at", "since", "engine is"), rows=tuple(rows)),)
        if rows
        else (),
        notes=tuple(notes),
        result={
            "drifting": found is not None and found.drifting,
            "error_ratio": None if found is None else found.error_ratio,
            "recent_error_ratio": None if found is None else found.recent_error_ratio,
            "delay_steps": delay if np.isfinite(delay) else None,
            "first_tokens": {
                name: {"drifting": one.drifting, "error_ratio": one.error_ratio,
                       "recent_error_ratio": one.recent_error_ratio} for name, one in waits.items()
            },
            "model": None if again is None else again.model_dump(mode="json"),
        },
    )  # fmt: skip


def drift_series(
    found: Drift | None, waits: Waits, pool: str, time_s: float, again: StepModel | None = None
) -> Iterator[Series]:
    """One sample each of the twin's errors since the last alarms, and of whether there was one.

    With a model that was calibrated ``again``, also its error on what it was not fitted on: before and after.
    """
    values = {"loadline_twin_drift": float(found is not None and found.drifting)}
    if found is not None:
        values["loadline_twin_error_ratio"] = found.recent_error_ratio
    if waits:
        values["loadline_twin_ttft_error_ratio"] = list(waits.values())[-1].recent_error_ratio
    if again is not None:
        values["loadline_twin_recalibrated_error_ratio"] = (again.held_out or again.fit).bias
    for name, value in values.items():
        labels = ((METRIC_NAME, name), ("pool", pool)) if pool else ((METRIC_NAME, name),)
        yield Series(labels, np.array([round(time_s * 1000)], dtype=np.int64), np.array([value]))


def _steps_words(found: Drift) -> str:
    if not found.drifting:
        return (
            f"no drift: the steps stay within the model's band; the model's total over {found.steps} steps is off by "
            f"{found.error_ratio:+.1%}"
        )
    return (
        f"drift: steps are {found.alarms[-1].side} than the model since about step {onset(found.alarms)}, "
        f"where its total is off by {found.recent_error_ratio:+.1%}"
    )


def _waits_words(name: str, one: FirstTokens) -> str:
    off = f"the twin's are off by {one.recent_error_ratio:+.1%}"
    if not one.drifting:
        return f"waits for first tokens of {name} stay within the twin's band; {off}"
    return (
        f"a hint of drift: waits for first tokens of {name} are {one.alarms[-1].side} than the twin's "
        f"since about request {onset(one.alarms)}; {off} there"
    )
