"""Conditions under which a run fails, for CI: ``ttft_p99>10%``, ``e2e_p95>2s``, ``itl_p99>80ms``, ``goodput<0.95``.

A percentage is a change against another run, and holds only when chance does not explain it: the interval of the change
must leave out none. A time or a share is a limit on the run itself.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.errors import RunError
from planner.replay.intervals import STATISTICS
from planner.replay.significance import Shift
from planner.result import Run, Summary

METRICS = {
    "ttft": "ttft_due_s",
    "ttft_sent": "ttft_sent_s",
    "itl": "itl_s",
    "tpot": "tpot_s",
    "e2e": "e2e_due_s",
    "e2e_sent": "e2e_sent_s",
    "lag": "lag_s",
}
SHARES = ("goodput", "success")
_UNITS = {"%": 0.01, "ms": 0.001, "s": 1.0, "": 1.0}
_CONDITION = re.compile(r"\s*([a-z0-9_]+)\s*([<>])\s*(-?[0-9.]+)\s*(%|ms|s|)\s*")


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition. ``statistic`` is None for a share; ``relative`` compares with the other run."""

    text: str
    metric: str
    statistic: str | None
    above: bool
    limit: float
    relative: bool


def parse_gate(text: str) -> Gate:
    """Read a condition. Raises RunError with what is allowed."""
    found = _CONDITION.fullmatch(text)
    allowed = f"METRIC_STATISTIC>LIMIT with a metric of {', '.join(METRICS)} and a statistic of {', '.join(STATISTICS)}"
    refused = RunError(f"--fail-if {text!r}: must be {allowed}, such as ttft_p99>10% or e2e_p95>2s, or goodput<0.95")
    if found is None:
        raise refused
    name, sign, number, unit = found.groups()
    try:
        limit = float(number) * _UNITS[unit]
    except ValueError:
        raise refused from None
    if name in SHARES and unit == "":
        return Gate(text.strip(), name, None, sign == ">", limit, relative=False)
    metric, _, statistic = name.rpartition("_")
    if metric not in METRICS or statistic not in STATISTICS or unit == "":
        raise refused
    return Gate(text.strip(), METRICS[metric], statistic, sign == ">", limit, relative=unit == "%")


def violations(gates: Sequence[Gate], run: Run, shifts: Mapping[str, Shift] | None = None) -> tuple[str, ...]:
    """What the run breaks, in words. Raises RunError for a condition on a change where there is no other run, or on a
    figure that the run does not have.
    """
    summary = run.summary()
    return tuple(words for gate in gates if (words := _broken(gate, summary, shifts)) is not None)


def _broken(gate: Gate, summary: Summary, shifts: Mapping[str, Shift] | None) -> str | None:
    if not gate.relative:
        value = _figure(gate, summary)
        return f"{gate.text}: it is {value:.6g}" if (value > gate.limit) == gate.above and value != gate.limit else None
    if shifts is None:
        raise RunError(f"--fail-if {gate.text!r}: a change needs a run to compare with")
    if gate.metric not in shifts or gate.statistic is None:
        raise RunError(f"--fail-if {gate.text!r}: the two runs do not both have this latency")
    change = shifts[gate.metric].changes[gate.statistic]
    ratio = change.ratio
    beyond = ratio.value > gate.limit if gate.above else ratio.value < gate.limit
    if not (beyond and change.significant):
        return None
    return f"{gate.text}: it changed by {ratio.value:+.1%} (95% interval {ratio.low:+.1%} to {ratio.high:+.1%})"


def _figure(gate: Gate, summary: Summary) -> float:
    if gate.statistic is None:
        value = summary.goodput_ratio if gate.metric == "goodput" else summary.success_ratio
    else:
        value = getattr(summary.latency[gate.metric], gate.statistic)
    if value is None:
        raise RunError(f"--fail-if {gate.text!r}: the run has no such figure")
    return float(value)
