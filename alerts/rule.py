"""Rules and groups as they were written: values that change nothing and ask nobody."""

from dataclasses import dataclass, field

from collector.model.labels import Labels

DEFAULT_INTERVAL_S = 60.0
RECORDED_COLONS = 2


def is_recorded(name: str) -> bool:
    """Whether a series is by its name a recording rule's (level:metric:operation), which no engine exposes."""
    return name.count(":") >= RECORDED_COLONS


@dataclass(frozen=True, slots=True)
class AlertRule:
    """``alert:`` rule. ``for_s`` is how long it must hold before it fires, ``keep_firing_for_s`` how long after.

    ``line`` is where the rule begins, ``expr_line`` and ``expr_column`` where its expression does (1-based).
    """

    name: str
    expr: str
    for_s: float = 0.0
    keep_firing_for_s: float = 0.0
    labels: Labels = ()
    annotations: Labels = ()
    line: int = 0
    expr_line: int = field(default=0, compare=False)
    expr_column: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class RecordRule:
    """``record:`` rule: its answer is written back under ``name``."""

    name: str
    expr: str
    labels: Labels = ()
    line: int = 0
    expr_line: int = field(default=0, compare=False)
    expr_column: int = field(default=0, compare=False)


Rule = AlertRule | RecordRule


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules that are evaluated one after the other at the same moment.

    ``interval_s`` is None where the file leaves it to the server. ``limit`` is the greatest number of alerts or
    series that a rule may give (None: no limit). ``query_offset_s`` is how far in the past the rules look.
    """

    name: str
    file: str
    rules: tuple[Rule, ...]
    interval_s: float | None = None
    limit: int | None = None
    query_offset_s: float = 0.0
    line: int = 0


@dataclass(frozen=True, slots=True)
class RuleFile:
    """One rule file, with what is odd but allowed in it (``file:line:column: ...``) and its text."""

    path: str
    groups: tuple[RuleGroup, ...]
    warnings: tuple[str, ...] = field(default=())
    text: str = field(default="", repr=False)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Rules of all groups."""
        return tuple(rule for group in self.groups for rule in group.rules)
