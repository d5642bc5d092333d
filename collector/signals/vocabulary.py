"""Signals as one source holds them: says which are present, and writes the PromQL that asks for them.

Every builder answers PromQL text grouped by canonical labels (``pool``, and any other by its own name). Where several
dialects are present, each is asked in its own names and units and the answers are merged, so that nothing is dropped.
It writes text and asks nobody.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from collector.signals import promql
from collector.signals.buckets import fraction_of
from collector.signals.dialect import Candidate, Dialect, load_dialects
from collector.signals.errors import SignalAbsent, SignalError, UnknownSignal
from collector.signals.signals import SIGNALS, Kind, Signal
from collector.signals.status import NotExposed, Present, Status, SwitchedOff

Aggregation = Literal["sum", "avg", "max", "min"]
Part = Literal["count", "sum"]

POOL: tuple[str, ...] = ("pool",)


@dataclass(frozen=True, slots=True)
class Cut:
    """What a builder was asked for: window, canonical labels to group by, canonical matchers."""

    window: str
    by: tuple[str, ...]
    where: str


@dataclass(frozen=True, slots=True)
class Use:
    """A dialect's candidate for a signal, with those of its metrics that the source holds."""

    dialect: Dialect
    candidate: Candidate
    metrics: tuple[str, ...]

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

    def ranged(self, function: str, cut: Cut, suffix: str, le: str = "") -> str:
        """``function`` over each metric's range; a series that an alias repeats counts once."""
        own = promql.translate_where(cut.where, self.dialect.labels)
        selectors = [
            promql.selector(metric + suffix, le, self.candidate.where, own, window=cut.window)
            for metric in self.metrics
        ]
        return promql.either([f"{function}({text})" for text in selectors])

    def plain(self, cut: Cut) -> str:
        """The gauge's or info metric's series."""
        own = promql.translate_where(cut.where, self.dialect.labels)
        selectors = [promql.selector(metric, self.candidate.where, own) for metric in self.metrics]
        if self.candidate.times is None:
            return promql.either(selectors)
        return promql.either([f"{text} * {promql.selector(self.candidate.times, own)}" for text in selectors])


class Vocabulary:
    """The dialects that a source speaks; ``names`` are its metric names, or None where every name is taken as held."""

    def __init__(self, dialects: Sequence[Dialect], names: frozenset[str] | None) -> None:
        self.dialects = tuple(dialects)
        self._names = names

    @classmethod
    def of(cls, dialects: Sequence[Dialect]) -> "Vocabulary":
        """A source that holds everything that ``dialects`` can expose."""
        return cls(dialects, None)

    # what is there

    def status(self, signal: str) -> Status:
        """Whether the source holds ``signal``, and if not why. Raises UnknownSignal."""
        declared = _signal(signal)
        uses, lacking = self._find(signal)
        if uses:
            return Present(
                dialects=tuple(dict.fromkeys(use.dialect.engine for use in uses)),
                metrics=tuple(metric for use in uses for metric in use.metrics),
                definition=uses[0].candidate.definition,
                lacking=tuple((dialect.engine, status.reason) for dialect, status in lacking),
            )
        for _, status in lacking:
            if isinstance(status, SwitchedOff):
                return status
        if not lacking:
            return NotExposed("the source holds no engine or exporter that is known")
        speakers = [status for dialect, status in lacking if signal in dialect.signals or signal in dialect.not_exposed]
        if not speakers:
            titles = ", ".join(dialect.title for dialect in self.dialects)
            return NotExposed(f"nothing in the source ({titles}) exposes {declared.what}")
        return NotExposed("; ".join(status.reason for status in speakers))

    def present(self, signal: str) -> bool:
        """Whether the source holds ``signal``."""
        return isinstance(self.status(signal), Present)

    # what to ask

    def rate(
        self, signal: str, window: str = "1m", by: Sequence[str] = POOL, where: str = "", part: Part = "count"
    ) -> str:
        """Per-second rate of a counter; of a histogram, of its observations or (``part="sum"``) of their sum.

        ``where`` narrows it with matchers in canonical names, such as ``pool="llama"``.
        """
        return self._counted("rate", signal, Cut(window, tuple(by), where), part)

    def increase(
        self, signal: str, window: str = "1m", by: Sequence[str] = POOL, where: str = "", part: Part = "count"
    ) -> str:
        """Growth over ``window`` of a counter, or of a histogram's observations or their sum."""
        return self._counted("increase", signal, Cut(window, tuple(by), where), part)

    def quantile(self, signal: str, q: float, window: str = "1m", by: Sequence[str] = POOL, where: str = "") -> str:
        """Quantile ``q`` (0..1) of a histogram's observations within ``window``.

        Engines' buckets differ, so where a group is served by several engines the greatest of their quantiles stands.
        """
        if not 0 <= q <= 1:
            raise SignalError(f"quantile of {signal} is {q}; it must lie between 0 and 1")
        cut = Cut(window, tuple(by), where)

        def one(use: Use) -> str:
            inner = promql.grouped("sum", (*use.own(cut.by), "le"), use.ranged("rate", cut, "_bucket"))
            quantile = f"histogram_quantile({promql.number(q)}, {inner})"
            return promql.scaled(quantile, use.candidate.factor)

        return self._merged("max", cut.by, self._uses(signal, "histogram"), one)

    def mean(self, signal: str, window: str = "1m", by: Sequence[str] = POOL, where: str = "") -> str:
        """Mean of a histogram's observations within ``window``; NaN where there were none."""
        self._uses(signal, "histogram")
        cut = Cut(window, tuple(by), where)
        return f"({self._counted('rate', signal, cut, 'sum')} / {self._counted('rate', signal, cut, 'count')})"

    def fraction_below(
        self, signal: str, threshold: float, window: str = "1m", by: Sequence[str] = POOL, where: str = ""
    ) -> str:
        """Share (0..1) of a histogram's observations within ``window`` that are at or below ``threshold``.

        ``threshold`` is in the signal's canonical unit. Where it is a bucket's bound, the share is exact; otherwise
        it is interpolated linearly between the two neighbouring buckets, whose bounds are the engine's defaults as
        its dialect lists them; beyond the last bound, the last bucket stands (a floor). NaN where there were no
        observations.
        """
        cut = Cut(window, tuple(by), where)

        def term(use: Use, bound: float, share: float) -> str:
            bucket = use.ranged("rate", cut, "_bucket", promql.le_matcher(bound))
            return promql.scaled(promql.grouped("sum", use.own(cut.by), bucket), share)

        def one(use: Use) -> str:
            terms = [term(use, bound, share) for bound, share in fraction_of(signal, use.candidate, threshold)]
            return terms[0] if len(terms) == 1 else f"({' + '.join(terms)})"

        below = self._merged("sum", cut.by, self._uses(signal, "histogram"), one)
        return f"({below} / {self._counted('rate', signal, cut, 'count')})"

    def buckets(self, signal: str, window: str = "1m", by: Sequence[str] = (), where: str = "") -> str:
        """Rate of a histogram's cumulative buckets by ``le`` (in the engine's unit), for heat maps.

        Engines' bounds differ, so the answer also carries the label ``dialect``.
        """
        cut = Cut(window, (*by, "le"), where)

        def one(use: Use) -> str:
            inner = promql.grouped("sum", use.own(cut.by), use.ranged("rate", cut, "_bucket"))
            return promql.tagged(inner, promql.DIALECT_LABEL, use.dialect.engine)

        return self._merged("sum", (*cut.by, promql.DIALECT_LABEL), self._uses(signal, "histogram"), one)

    def gauge(self, signal: str, agg: Aggregation = "sum", by: Sequence[str] = POOL, where: str = "") -> str:
        """A gauge, aggregated with ``agg`` over the series of each group."""
        if agg not in ("sum", "avg", "max", "min"):
            raise SignalError(f"gauge({signal!r}): agg is {agg!r}; allowed are sum, avg, max, min")
        cut = Cut("", tuple(by), where)
        if agg == "avg" and len(self._uses(signal, "gauge")) > 1:
            return f"({self._gauged('sum', 'sum', signal, cut)} / {self._gauged('sum', 'count', signal, cut)})"
        return self._gauged(agg, agg, signal, cut)

    def ratio(self, top: str, bottom: str, window: str = "1m", by: Sequence[str] = POOL, where: str = "") -> str:
        """Rate of counter ``top`` over rate of counter ``bottom``; 0 where only ``top`` has no series yet."""
        cut = Cut(window, tuple(by), where)
        below = self._counted("rate", bottom, cut, "count")
        return f"(({self._counted('rate', top, cut, 'count')} or 0 * {below}) / {below})"

    def replicas(self, by: Sequence[str] = POOL, where: str = "") -> str:
        """Servers (scraped instances) that report running requests."""
        cut = Cut("", tuple(by), where)

        def one(use: Use) -> str:
            own = use.own(cut.by)
            servers = promql.grouped("count", tuple(dict.fromkeys((*own, "job", "instance"))), use.plain(cut))
            return promql.grouped("count", own, servers)

        return self._merged("sum", cut.by, self._uses("running_requests", "gauge"), one)

    def info(self, signal: str, where: str = "") -> str:
        """The raw series of an info metric, under the engines' own names and labels."""
        return promql.either([use.plain(Cut("", (), where)) for use in self._uses(signal, "info")])

    # how it is done

    def _counted(self, function: str, signal: str, cut: Cut, part: Part) -> str:
        kind = _signal(signal).kind
        if kind not in ("counter", "histogram"):
            raise SignalError(f"signal {signal} is a {kind}; {function}() takes a counter or a histogram")
        suffix = "" if kind == "counter" else f"_{part}"

        def one(use: Use) -> str:
            inner = promql.grouped("sum", use.own(cut.by), use.ranged(function, cut, suffix))
            return inner if suffix == "_count" else promql.scaled(inner, use.candidate.factor)

        return self._merged("sum", cut.by, self._uses(signal, kind), one)

    def _gauged(self, outer: str, inner: str, signal: str, cut: Cut) -> str:
        def one(use: Use) -> str:
            text = promql.grouped(inner, use.own(cut.by), use.plain(cut))
            return text if inner == "count" else promql.scaled(text, use.candidate.factor)

        return self._merged(outer, cut.by, self._uses(signal, "gauge"), one)

    def _merged(self, operator: str, by: Sequence[str], uses: Sequence[Use], one: Callable[[Use], str]) -> str:
        """What ``one`` writes for each use, in canonical labels, as one vector grouped by exactly ``by``."""
        parts = [use.canonical(one(use), by) for use in uses]
        if len(uses) == 1:
            return promql.grouped(operator, by, parts[0]) if uses[0].own(by) != tuple(by) else parts[0]
        apart = [promql.tagged(text, promql.USE_LABEL, use.tag) for text, use in zip(parts, uses, strict=True)]
        return promql.grouped(operator, by, promql.either(apart))

    def _uses(self, signal: str, kind: Kind) -> list[Use]:
        declared = _signal(signal)
        if declared.kind != kind:
            raise SignalError(f"signal {signal} is a {declared.kind}; a {kind} is asked for")
        uses, _ = self._find(signal)
        if not uses:
            status = self.status(signal)
            assert not isinstance(status, Present)
            raise SignalAbsent(signal, status)
        return uses

    def _find(self, signal: str) -> tuple[list[Use], list[tuple[Dialect, NotExposed | SwitchedOff]]]:
        uses: list[Use] = []
        lacking: list[tuple[Dialect, NotExposed | SwitchedOff]] = []
        for dialect in self.dialects:
            found = self._candidates(dialect, signal)
            if isinstance(found, list):
                uses += found
            else:
                lacking.append((dialect, found))
        return uses, lacking

    def _candidates(self, dialect: Dialect, signal: str) -> list[Use] | NotExposed | SwitchedOff:
        """The first candidate that the source holds, and others of the same definition, which other servers show."""
        candidates = dialect.signals.get(signal, ())
        uses = [Use(dialect, candidate, held) for candidate in candidates if (held := self._held(candidate))]
        if uses:
            return [use for use in uses if use.candidate.definition == uses[0].candidate.definition]
        if not candidates:
            default = f"{dialect.title} does not expose {SIGNALS[signal].what}"
            return NotExposed(dialect.not_exposed.get(signal, default))
        first = candidates[0]
        if not first.default_on and first.flag is not None:
            return SwitchedOff(first.flag, f"{dialect.title} exposes {first.metric} only with {first.flag}")
        since = f" since {first.since}" if first.since else ""
        return NotExposed(f"{dialect.title} exposes {first.metric}{since}; this source holds no such series")

    def _held(self, candidate: Candidate) -> tuple[str, ...]:
        """Metrics of a candidate that the source holds; none where a metric that it cannot do without is missing."""
        if self._names is None or candidate.sparse:
            return (candidate.metric, *candidate.aliases, *candidate.plus)
        if candidate.times is not None and candidate.times not in self._names:
            return ()
        suffix = "_bucket" if candidate.kind == "histogram" else ""
        held = tuple(metric for metric in (candidate.metric, *candidate.aliases) if metric + suffix in self._names)
        return (*held, *candidate.plus) if held else ()


def detect(metric_names: Iterable[str], dialects: Sequence[Dialect] | None = None) -> Vocabulary:
    """The vocabulary of a source that holds series of these names.

    ``dialects`` are those to look for (default: all that come with Loadline).
    """
    names = frozenset(metric_names)
    known = load_dialects() if dialects is None else dialects
    return Vocabulary([dialect for dialect in known if not names.isdisjoint(dialect.marks)], names)


def _signal(name: str) -> Signal:
    try:
        return SIGNALS[name]
    except KeyError:
        raise UnknownSignal(name) from None
