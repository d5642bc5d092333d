"""Whether an engine has left its twin's band, as a report and as series."""

from collections.abc import Iterator

import numpy as np

from collector.model.labels import METRIC_NAME
from collector.model.series import Series
from planner.answers.inputs import step_error
from planner.drift import BATCH, FALSE_PER_DAY, Drift, onset
from planner.latency import StepModel
from planner.report import Cell, Report, Table


def drift_report(model: StepModel, found: Drift, source: str, again: StepModel | None) -> Report:
    """What was watched, the alarms, and the error before and after recalibration."""
    error = f"the model's total over {found.steps} steps is off by {found.error_ratio:+.1%}"
    if not found.drifting:
        verdict = f"no drift: the steps stay within the model's band; {error}"
    else:
        verdict = (
            f"drift: steps are {found.alarms[-1].side} than the model since about step {onset(found.alarms)}, "
            f"where its total is off by {found.recent_error_ratio:+.1%}"
        )
    findings = [verdict]
    if again is not None:
        findings.append(
            f"recalibrated on what came since: mean error {(again.held_out or again.fit).mean:.1%}, "
            f"bias {(again.held_out or again.fit).bias:+.1%}"
        )
    delay = found.band.delay_steps
    sees = f"after about {delay:.0f} steps" if np.isfinite(delay) else "never: its noise is too large"
    rows: list[tuple[Cell, ...]] = [(alarm.at, alarm.since, alarm.side) for alarm in found.alarms]
    return Report(
        kind="drift",
        title=f"Drift of {source} from {model.source}",
        findings=tuple(findings),
        inputs={"steps": found.steps, "batch_steps": BATCH, "false_alarms_per_day": FALSE_PER_DAY},
        model_error=step_error(again or model),
        tables=(Table(title="Alarms", columns=("at step", "since step", "engine is"), rows=tuple(rows)),)
        if rows
        else (),
        notes=(f"a slowdown of 10% would be seen {sees}; false alarms: at most {FALSE_PER_DAY:.0%} of days",),
        result={
            "drifting": found.drifting,
            "error_ratio": found.error_ratio,
            "recent_error_ratio": found.recent_error_ratio,
            "delay_steps": delay if np.isfinite(delay) else None,
            "model": None if again is None else again.model_dump(mode="json"),
        },
    )


def drift_series(found: Drift, pool: str, time_s: float, again: StepModel | None = None) -> Iterator[Series]:
    """One sample each of the twin's error since the last alarm, and of whether there was one.

    With a model that was calibrated ``again``, also its error on what it was not fitted on: before and after.
    """
    values = {"loadline_twin_error_ratio": found.recent_error_ratio, "loadline_twin_drift": float(found.drifting)}
    if again is not None:
        values["loadline_twin_recalibrated_error_ratio"] = (again.held_out or again.fit).bias
    for name, value in values.items():
        labels = ((METRIC_NAME, name), ("pool", pool)) if pool else ((METRIC_NAME, name),)
        yield Series(labels, np.array([round(time_s * 1000)], dtype=np.int64), np.array([value]))
