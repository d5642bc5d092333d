"""What the dialects say of series: which are counters, gauges, ratios, and which must be switched on."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from collector.signals import Dialect

SAME_START = 3
"""Letters in which a name and what was meant by it agree; an exporter's prefix is seldom mistyped."""

_COUNTER_ENDS = ("_total", "_sum", "_count", "_bucket")


@dataclass(frozen=True, slots=True)
class Names:
    """Series by what is known of them; ``flags`` say what switches a series on that is not there by default."""

    series: frozenset[str]
    gauges: frozenset[str]
    ratios: frozenset[str]
    percents: frozenset[str]
    flags: dict[str, str]

    @classmethod
    def of(cls, dialects: Iterable[Dialect]) -> "Names":
        """Everything that ``dialects`` know."""
        series: set[str] = set()
        gauges: set[str] = set()
        ratios: set[str] = set()
        percents: set[str] = set()
        flags: dict[str, str] = {}
        for dialect in dialects:
            series |= dialect.names()
            for candidate in (one for candidates in dialect.signals.values() for one in candidates):
                if candidate.kind in ("gauge", "info"):
                    gauges.update(candidate.names())
                if candidate.unit == "ratio":
                    ratios.update((candidate.metric, *candidate.aliases))
                if candidate.unit == "percent":
                    percents.update((candidate.metric, *candidate.aliases))
                if candidate.flag and not candidate.default_on:
                    flags |= dict.fromkeys(candidate.names(), candidate.flag)
        return cls(frozenset(series), frozenset(gauges), frozenset(ratios), frozenset(percents), flags)

    def is_counter(self, name: str) -> bool:
        """Whether a series only grows; by its name where no dialect says otherwise."""
        return name.endswith(_COUNTER_ENDS) and name not in self.gauges

    def is_gauge(self, name: str) -> bool:
        """Whether a dialect says that a series goes up and down."""
        return name in self.gauges

    def nearest(self, name: str, also: frozenset[str]) -> str | None:
        """The known name that begins as ``name`` does and is most like it."""
        alike = (one for one in self.series | also if one[:SAME_START] == name[:SAME_START])
        close = get_close_matches(name, alike, n=1, cutoff=0.8)
        return close[0] if close else None
