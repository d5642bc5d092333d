"""One dialect's candidate for a signal, as a source holds it, and the selectors that ask for its series."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from collector.signals import promql
from collector.signals.dialect import Candidate, Dialect

Part = Literal["count", "sum"]
Suffix = Literal["", "_bucket", "_count", "_sum"]


@dataclass(frozen=True, slots=True)
class Cut:
    """What a builder was asked for: window, canonical labels to group by, canonical matchers."""

    window: str
    by: tuple[str, ...]
    where: str


@dataclass(frozen=True, slots=True)
class Use:
    """A dialect's candidate for a signal, with those of its metrics that the source holds.

    ``apart`` are matchers that keep its series apart from those of another dialect in the source.
    """

    dialect: Dialect
    candidate: Candidate
    metrics: tuple[str, ...]
    apart: str = ""

    @property
    def tag(self) -> str:
        """Tells the answers of different uses apart while they are merged."""
        return f"{self.dialect.engine} {self.candidate.metric}"

    def own(self, by: Sequence[str]) -> tuple[str, ...]:
        """Canonical labels in the dialect's own names."""
        return tuple(dict.fromkeys(self.dialect.labels.get(label, label) for label in by))

    def canonical(self, text: str, by: Sequence[str]) -> str:
        """``text`` with the canonical labels beside the dialect's own."""
        for label in by:
            own = self.dialect.labels.get(label, label)
            if own != label:
                text = promql.renamed(text, label, own)
        return text

    def matchers(self, where: str) -> tuple[str, ...]:
        """What every selector of it carries, beside the canonical matchers ``where``."""
        return (
            self.candidate.where,
            self.dialect.where,
            self.apart,
            promql.translate_where(where, self.dialect.labels),
        )

    def ranged(self, function: str, cut: Cut, suffix: Suffix, le: str = "") -> str:
        """``function`` over each metric's range; a series that an alias repeats counts once."""
        matchers = self.matchers(cut.where)

        def one(metric: str) -> str:
            return f"{function}({promql.selector(metric, le, *matchers, window=cut.window)})"

        if self.candidate.shape == "sums":
            return one(self.candidate.count or "" if suffix == "_count" else self.candidate.metric)
        texts = [one(metric + suffix) for metric in self.metrics]
        if self.candidate.adds:
            texts = [f"({' + '.join([texts[0], *map(one, self.candidate.adds)])})"]
        if self.candidate.times is not None:
            factor = promql.selector(self.candidate.times, *matchers)
            texts = [f"{text} * {factor}" for text in texts]
        return promql.either(texts)

    def plain(self, where: str) -> str:
        """The gauge's or info metric's series."""
        matchers = self.matchers(where)
        if self.candidate.expr is not None:
            inside = ",".join(text for text in matchers[1:] if text)
            return f"({self.candidate.expr.replace('$where', inside)})"
        selectors = [promql.selector(metric, *matchers) for metric in self.metrics]
        if self.candidate.times is None:
            return promql.either(selectors)
        times = promql.selector(self.candidate.times, *matchers[1:])
        return promql.either([f"{text} * {times}" for text in selectors])
