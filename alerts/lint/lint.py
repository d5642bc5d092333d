"""Remarks on the rules of files."""

from collections.abc import Iterator, Sequence

from alerts.lint.checks import CHECKS
from alerts.lint.finding import Finding, Remark, place
from alerts.lint.labels import missing_labels
from alerts.lint.names import Names
from alerts.rule import DEFAULT_INTERVAL_S, AlertRule, RecordRule, Rule, RuleFile, RuleGroup
from collector.model.durations import format_duration
from collector.promql import parse
from collector.signals import Dialect, load_dialects


def lint(files: Sequence[RuleFile], dialects: Sequence[Dialect] | None = None) -> list[Finding]:
    """Remarks on the rules of ``files``, in their order; names are those of ``dialects`` (default: all known).

    What one of the files records is known to all.
    """
    names = Names.of(load_dialects() if dialects is None else dialects)
    recorded = frozenset(rule.name for file in files for rule in file.rules if isinstance(rule, RecordRule))
    found = []
    for file in files:
        source = file.text.splitlines()
        for group in file.groups:
            for rule in group.rules:
                for remark in dict.fromkeys(_remarks(rule, group, names, recorded)):
                    line, column = place(rule, remark.token, source)
                    found.append(
                        Finding(file.path, line, column, rule.name, remark.code, remark.message, remark.mended)
                    )
    return found


def _remarks(rule: Rule, group: RuleGroup, names: Names, recorded: frozenset[str]) -> Iterator[Remark]:
    expr = parse(rule.expr)
    for check in CHECKS:
        yield from check(expr, names, recorded)
    if isinstance(rule, AlertRule):
        yield from missing_labels(rule)
        yield from _short_for(rule, group)


def _short_for(rule: AlertRule, group: RuleGroup) -> Iterator[Remark]:
    interval_s = group.interval_s or DEFAULT_INTERVAL_S
    if group.interval_s is not None and 0 < rule.for_s < interval_s:
        shown = format_duration(round(rule.for_s * 1000))
        every = format_duration(round(interval_s * 1000))
        yield Remark(
            "for-below-interval", f"for is {shown}, but the group is evaluated every {every}, and so for lasts"
        )
