"""Runs the tests of one file: evaluates the rules over the given series step by step, and tells what differs."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from alerts.evaluation import Outside
from alerts.group import Group
from alerts.rule import RuleFile
from alerts.rulefile import load_rule_file
from alerts.ruletest.source import SyntheticSource
from alerts.ruletest.testfile import AlertCase, ExprCase, Test, TestFile
from alerts.writeback import Writeback
from collector.model.errors import QueryError
from collector.model.labels import METRIC_NAME, Labels, get, render
from collector.promql import Engine

TOLERANCE = 1e-12
"""Relative difference below which two values are the same: the order in which sums are taken is nobody's promise."""

FUZZY_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that is not as the test says, with the place of the test's case."""

    path: str
    line: int
    test: str
    message: str

    def __str__(self) -> str:
        named = f' (test "{self.test}")' if self.test else ""
        return f"{self.path}:{self.line}: {self.message}{named}"


def run_test_file(
    file: TestFile, engine: Engine | None = None, warn: Callable[[str], None] = lambda _: None
) -> list[Failure]:
    """Every failure of ``file``; rule files are looked for beside it, and ``warn`` hears of patterns without any.

    Raises RuleFileError, OSError and UnicodeDecodeError where a rule file cannot be used.
    """
    rules = [load_rule_file(path) for path in _rule_paths(file, warn)]
    return [failure for test in file.tests for failure in _run(file, test, rules, engine or Engine())]


def _rule_paths(file: TestFile, warn: Callable[[str], None]) -> list[Path]:
    folder = Path(file.path).parent
    found: dict[Path, None] = {}
    for pattern in file.rule_files:
        paths = _matching(folder, pattern)
        if not paths:
            warn(f"{file.path}: no rule file matches {pattern}")
        found |= dict.fromkeys(map(Path, paths))
    return list(found)


def _matching(folder: Path, pattern: str) -> list[Path]:
    if Path(pattern).is_absolute():
        folder, pattern = Path("/"), pattern.lstrip("/")
    return sorted(folder.glob(pattern))


def _run(file: TestFile, test: Test, rules: Sequence[RuleFile], engine: Engine) -> list[Failure]:
    source = SyntheticSource(dict(test.series), test.interval_s, engine)
    groups = _groups(file, test, rules, source)
    failures: list[Failure] = []
    waiting = sorted(test.alerts, key=lambda case: case.at_s)
    step_s = file.evaluation_interval_s
    for step in range(math.floor(test.end_s / step_s) + 1):
        now_s = step * step_s
        source.until_ms = round(now_s * 1000)
        for group in groups:
            group.evaluate(now_s)
        if broken := list(_broken(file, test, groups, now_s)):
            return failures + broken
        while waiting and waiting[0].at_s < now_s + step_s:
            failures += _alert_failures(file, test, waiting.pop(0), groups)
    source.until_ms = None
    for case in test.exprs:
        failures += _expr_failures(file, test, case, source)
    return failures


def _groups(file: TestFile, test: Test, rules: Sequence[RuleFile], source: SyntheticSource) -> list[Group]:
    order = {name: place for place, name in enumerate(file.group_order)}
    outside = Outside(test.external_url, test.external_labels)
    groups = [
        Group(group, source, Writeback(source.write), interval_s=test.interval_s, outside=outside, timer=lambda: 0.0)
        for read in rules
        for group in read.groups
    ]
    return sorted(groups, key=lambda group: order.get(group.group.name, 0))


def _broken(file: TestFile, test: Test, groups: Iterable[Group], now_s: float) -> Iterable[Failure]:
    for group in groups:
        for status in group.status.rules:
            if status.health == "err":
                message = f"rule {status.rule.name} cannot be evaluated at {_moment(now_s)}: {status.error}"
                yield Failure(file.path, test.line, test.name, message)


def _alert_failures(file: TestFile, test: Test, case: AlertCase, groups: Iterable[Group]) -> list[Failure]:
    found = [
        (alert.labels, tuple(pair for pair in alert.annotations if pair[1]))
        for group in groups
        for status in group.status.rules
        if status.rule.name == case.name
        for alert in status.active
        if alert.state == "firing"
    ]
    expected = [(labels, tuple(pair for pair in annotations if pair[1])) for labels, annotations in case.expected]
    if sorted(expected) == sorted(found):
        return []
    lines = _difference([_alert_shown(*each) for each in expected], [_alert_shown(*each) for each in found])
    message = f"alert {case.name} at {_moment(case.at_s)} is not as expected:\n{lines}"
    return [Failure(file.path, case.line, test.name, message)]


def _expr_failures(file: TestFile, test: Test, case: ExprCase, source: SyntheticSource) -> list[Failure]:
    try:
        found = sorted((sample.labels, sample.value) for sample in source.query(case.expr, case.at_s))
    except QueryError as error:
        return [Failure(file.path, case.line, test.name, str(error))]
    expected = sorted(case.expected)
    tolerance = FUZZY_TOLERANCE if file.fuzzy else TOLERANCE
    if len(found) == len(expected) and all(
        labels == others and _same(value, other, tolerance)
        for (labels, value), (others, other) in zip(expected, found, strict=True)
    ):
        return []
    lines = _difference([_sample_shown(*each) for each in expected], [_sample_shown(*each) for each in found])
    message = f"{case.expr!r} at {_moment(case.at_s)} is not as expected:\n{lines}"
    return [Failure(file.path, case.line, test.name, message)]


def _same(expected: float, found: float, tolerance: float) -> bool:
    if math.isnan(expected) or math.isnan(found):
        return math.isnan(expected) and math.isnan(found)
    return math.isclose(expected, found, rel_tol=tolerance)


def _difference(expected: Sequence[str], found: Sequence[str]) -> str:
    """Lines with ``-`` were expected and did not come, with ``+`` came and were not expected."""
    missing, more = list(expected), []
    for each in found:
        if each in missing:
            missing.remove(each)
        else:
            more.append(each)
    same = [each for each in found if each not in more]
    return "\n".join(f"  {mark} {each}" for mark, some in ((" ", same), ("-", missing), ("+", more)) for each in some)


def _alert_shown(labels: Labels, annotations: Labels) -> str:
    own = tuple(pair for pair in labels if pair[0] != "alertname")
    texts = "".join(f"\n      {name}: {text}" for name, text in annotations)
    return f"{get(labels, 'alertname')}{render(own)}{texts}"


def _sample_shown(labels: Labels, value: float) -> str:
    name = get(labels, METRIC_NAME)
    own = render(tuple(pair for pair in labels if pair[0] != METRIC_NAME))
    return f"{name}{own} {value:.17g}"


def _moment(time_s: float) -> str:
    hours, rest = divmod(round(time_s), 3600)
    return f"{hours}h{rest // 60}m{rest % 60}s" if hours else f"{rest // 60}m{rest % 60}s"
