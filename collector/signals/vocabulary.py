"""Signals as one source holds them: says which are present, and writes the PromQL that asks for them.

Every builder answers PromQL text grouped by canonical labels (``pool``, and any other by its own name). Where several
dialects are present, each is asked in its own names and units and the answers are merged, so that nothing is dropped
and nothing counts twice: of those that see the same requests from further out only the innermost layer is asked, and of
a family's dialects each thing is asked of one. It writes text and asks nobody.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from collector.signals import promql
from collector.signals.buckets import fraction_of
from collector.signals.dialect import LAYERS, Candidate, Dialect, Layer
from collector.signals.errors import SignalAbsent, SignalError, UnknownSignal
from collector.signals.library import load_dialects
from collector.signals.signals import SIGNALS, Kind, Signal
from collector.signals.status import NotExposed, Present, Status, SwitchedOff
from collector.signals.use import Cut, Part, Suffix, Use

Aggregation = Literal["sum", "avg", "max", "min"]
Missing = NotExposed | SwitchedOff
Writer = Callable[[Use, tuple[str, ...]], str]
"""Writes a use's PromQL, grouped by these canonical labels."""

POOL: tuple[str, ...] = ("pool",)
BUCKETED = ("histogram",)


class Vocabulary:
    """The dialects that a source speaks; ``names`` are its metric names, or None where every name is taken as held."""

    def __init__(self, dialects: Sequence[Dialect], names: frozenset[str] | None) -> None:
        self.dialects = tuple(dialects)
        self._names = names

    @classmethod
    def of(cls, dialects: Sequence[Dialect]) -> "Vocabulary":
        """A source that holds everything that ``dialects`` can expose."""
        return cls(dialects, None)

    def only(self, *engines: str) -> "Vocabulary":
        """The same source as if it spoke these dialects alone: a gateway's view, say, where engines are there too."""
        return Vocabulary([dialect for dialect in self.dialects if dialect.engine in engines], self._names)

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
                mean_only=declared.kind == "histogram" and not any(use.candidate.shape in BUCKETED for use in uses),
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
        return self._counting("rate", signal, Cut(window, tuple(by), where), part)

    def increase(
        self, signal: str, window: str = "1m", by: Sequence[str] = POOL, where: str = "", part: Part = "count"
    ) -> str:
        """Growth over ``window`` of a counter, or of a histogram's observations or their sum."""
        return self._counting("increase", signal, Cut(window, tuple(by), where), part)

    def resets(self, signal: str, window: str = "1m", by: Sequence[str] = POOL, where: str = "") -> str:
        """How often a counter, or a histogram's count of observations, fell within ``window``: its server restarted."""
        return self._counting("resets", signal, Cut(window, tuple(by), where), "count")

    def quantile(self, signal: str, q: float, window: str = "1m", by: Sequence[str] = POOL, where: str = "") -> str:
        """Quantile ``q`` (0..1) of a histogram's observations within ``window``.

        Engines' buckets differ, so where a group is served by several engines the greatest of their quantiles stands.
        """
        if not 0 <= q <= 1:
            raise SignalError(f"quantile of {signal} is {q}; it must lie between 0 and 1")
        cut = Cut(window, tuple(by), where)

        def one(use: Use, by: tuple[str, ...]) -> str:
            inner = promql.grouped("sum", (*use.own(by), "le"), use.ranged("rate", cut, "_bucket"))
            quantile = f"histogram_quantile({promql.number(q)}, {inner})"
            return promql.scaled(quantile, use.candidate.factor)

        return _merged("max", cut.by, self._bucketed(signal), one)

    def mean(self, signal: str, window: str = "1m", by: Sequence[str] = POOL, where: str = "") -> str:
        """Mean of a histogram's observations within ``window``; NaN where there were none.

        It is also had where an engine exposes no more than a sum and a count.
        """
        uses = self._uses(signal, "histogram")
        cut = Cut(window, tuple(by), where)
        return f"({_counted('rate', uses, cut, '_sum')} / {_counted('rate', uses, cut, '_count')})"

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
        uses = self._bucketed(signal)
        if known := [use for use in uses if use.candidate.buckets]:
            uses = known

        def term(use: Use, by: tuple[str, ...], bound: float, share: float) -> str:
            bucket = use.ranged("rate", cut, "_bucket", promql.le_matcher(bound))
            return promql.scaled(promql.grouped("sum", use.own(by), bucket), share)

        def one(use: Use, by: tuple[str, ...]) -> str:
            terms = [term(use, by, bound, share) for bound, share in fraction_of(signal, use.candidate, threshold)]
            return terms[0] if len(terms) == 1 else f"({' + '.join(terms)})"

        return f"({_merged('sum', cut.by, uses, one)} / {_counted('rate', uses, cut, '_count')})"

    def buckets(self, signal: str, window: str = "1m", by: Sequence[str] = (), where: str = "") -> str:
        """Rate of a histogram's cumulative buckets by ``le`` (in the engine's unit), for heat maps.

        Engines' bounds differ, so the answer also carries the label ``dialect``.
        """
        cut = Cut(window, (*by, "le"), where)

        def one(use: Use, by: tuple[str, ...]) -> str:
            own = use.own([label for label in by if label != promql.DIALECT_LABEL])
            inner = promql.grouped("sum", own, use.ranged("rate", cut, "_bucket"))
            return promql.tagged(inner, promql.DIALECT_LABEL, use.dialect.engine)

        return _merged("sum", (*cut.by, promql.DIALECT_LABEL), self._bucketed(signal), one)

    def gauge(self, signal: str, agg: Aggregation = "sum", by: Sequence[str] = POOL, where: str = "") -> str:
        """A gauge, aggregated with ``agg`` over the series of each group."""
        if agg not in ("sum", "avg", "max", "min"):
            raise SignalError(f"gauge({signal!r}): agg is {agg!r}; allowed are sum, avg, max, min")
        cut = Cut("", tuple(by), where)
        uses = self._uses(signal, "gauge")
        if agg == "avg" and len(uses) > 1:
            return f"({_gauged('sum', 'sum', uses, cut)} / {_gauged('sum', 'count', uses, cut)})"
        return _gauged(agg, agg, uses, cut)

    def ratio(self, top: str, bottom: str, window: str = "1m", by: Sequence[str] = POOL, where: str = "") -> str:
        """Rate of counter ``top`` over rate of counter ``bottom``; 0 where only ``top`` has no series yet.

        Both are asked of the same layer, if one has both.
        """
        cut = Cut(window, tuple(by), where)
        common = self._layers(top) & self._layers(bottom)
        layer = min(common, key=LAYERS.index) if common else None
        over = _counted("rate", self._uses(top, _counter(top, "rate"), layer), cut)
        below = _counted("rate", self._uses(bottom, _counter(bottom, "rate"), layer), cut)
        return f"(({over} or 0 * {below}) / {below})"

    def replicas(self, by: Sequence[str] = POOL, where: str = "") -> str:
        """Servers (scraped instances) that report running requests."""
        cut = Cut("", tuple(by), where)
        uses = self._uses("running_requests", "gauge")
        if uses[0].dialect.layer != "engine":
            titles = ", ".join(dict.fromkeys(use.dialect.title for use in uses))
            raise SignalAbsent("replicas", NotExposed(f"{titles} stands before the servers and does not count them"))

        def one(use: Use, by: tuple[str, ...]) -> str:
            own = use.own(by)
            servers = promql.grouped("count", tuple(dict.fromkeys((*own, "job", "instance"))), use.plain(cut.where))
            return promql.grouped("count", own, servers)

        return _merged("sum", cut.by, uses, one)

    def info(self, signal: str, where: str = "") -> str:
        """The raw series of an info metric, under the engines' own names and labels."""
        return promql.either([use.plain(where) for use in self._uses(signal, "info")])

    # how it is done

    def _counting(self, function: str, signal: str, cut: Cut, part: Part) -> str:
        kind = _counter(signal, function)
        suffix: Suffix = "" if kind == "counter" else "_sum" if part == "sum" else "_count"
        return _counted(function, self._uses(signal, kind), cut, suffix)

    def _bucketed(self, signal: str) -> list[Use]:
        """Uses of a histogram that have buckets; SignalAbsent where there is no more than a sum and a count."""
        uses = self._uses(signal, "histogram")
        bucketed = [use for use in uses if use.candidate.shape in BUCKETED]
        if not bucketed:
            title, metric = uses[0].dialect.title, uses[0].candidate.metric
            raise SignalAbsent(
                signal, NotExposed(f"{title} exposes {metric} without buckets: it has a mean, but no quantiles")
            )
        return bucketed

    def _uses(self, signal: str, kind: Kind, layer: Layer | None = None) -> list[Use]:
        """Uses of ``signal``, on ``layer`` or else on the innermost; SignalAbsent where there is none."""
        declared = _signal(signal)
        if declared.kind != kind:
            raise SignalError(f"signal {signal} is a {declared.kind}; a {kind} is asked for")
        uses, _ = self._find(signal, layer)
        if not uses:
            status = self.status(signal)
            assert not isinstance(status, Present)
            raise SignalAbsent(signal, status)
        return uses

    def _layers(self, signal: str) -> set[Layer]:
        _signal(signal)
        return {each.layer for each in self.dialects if isinstance(self._candidates(each, signal), list)}

    def _find(self, signal: str, layer: Layer | None = None) -> tuple[list[Use], list[tuple[Dialect, Missing]]]:
        uses: list[Use] = []
        lacking: list[tuple[Dialect, Missing]] = []
        for dialect in self.dialects:
            found = self._candidates(dialect, signal)
            if isinstance(found, list):
                uses += found
            else:
                lacking.append((dialect, found))
        wanted = layer or min((use.dialect.layer for use in uses), key=LAYERS.index, default=None)
        asked = [use for use in uses if use.dialect.layer == wanted]
        nearer = ", ".join(dict.fromkeys(use.dialect.title for use in asked))
        for further in self.dialects:
            if any(use.dialect is further for use in uses) and further.layer != wanted:
                lacking.append((further, NotExposed(f"{further.title} sees the same from further out than {nearer}")))
        return asked, lacking

    def _candidates(self, dialect: Dialect, signal: str) -> list[Use] | Missing:
        """The first candidate that the source holds, and others of the same definition, which other servers show."""
        candidates = dialect.signals.get(signal, ())
        apart = ",".join(each.beside[dialect.engine] for each in self.dialects if dialect.engine in each.beside)
        uses = [Use(dialect, candidate, held, apart) for candidate in candidates if (held := self._held(candidate))]
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
        if not self._names.issuperset(candidate.required):
            return ()
        either = (candidate.metric, *candidate.aliases)
        held = tuple(metric for metric in either if candidate.shown_as(metric) in self._names)
        return (*held, *candidate.plus) if held else ()


def detect(metric_names: Iterable[str], dialects: Sequence[Dialect] | None = None) -> Vocabulary:
    """The vocabulary of a source that holds series of these names.

    ``dialects`` are those to look for (default: all that come with Loadline).
    """
    names = frozenset(metric_names)
    known = load_dialects() if dialects is None else dialects
    return Vocabulary([dialect for dialect in known if dialect.spoken(names)], names)


def _counted(function: str, uses: Sequence[Use], cut: Cut, suffix: Suffix = "") -> str:
    """``function`` of counters, or of one part of histograms, summed by ``cut.by``."""

    def one(use: Use, by: tuple[str, ...]) -> str:
        inner = promql.grouped("sum", use.own(by), use.ranged(function, cut, suffix))
        return inner if suffix == "_count" else promql.scaled(inner, use.candidate.factor)

    return _merged("sum", cut.by, uses, one)


def _gauged(outer: str, inner: str, uses: Sequence[Use], cut: Cut) -> str:
    def one(use: Use, by: tuple[str, ...]) -> str:
        text = promql.grouped(inner, use.own(by), use.plain(cut.where))
        return text if inner == "count" else promql.scaled(text, use.candidate.factor)

    return _merged(outer, cut.by, uses, one)


def _merged(operator: str, by: tuple[str, ...], uses: Sequence[Use], one: Writer) -> str:
    """What ``one`` writes for each use, in canonical labels, as one vector grouped by exactly ``by``.

    Where several dialects of a family take part, each thing (what has the same ``family.by``) is asked of the first
    that shows it.
    """
    apart: dict[str, list[Use]] = {}
    for use in uses:
        apart.setdefault(use.dialect.family.name if use.dialect.family else use.dialect.engine, []).append(use)
    tagged: list[str] = []
    for name, members in apart.items():
        family = members[0].dialect.family
        speakers = {use.dialect.engine: [each for each in members if each.dialect is use.dialect] for use in members}
        if family is None or len(speakers) == 1:
            tagged += [promql.tagged(use.canonical(one(use, by), by), promql.USE_LABEL, use.tag) for use in members]
            continue
        keyed = tuple(dict.fromkeys((*by, family.by)))
        each = {engine: _merged(operator, keyed, own, one) for engine, own in speakers.items()}
        together = promql.grouped(operator, by, promql.once(each, family.by))
        if len(apart) == 1:
            return together
        tagged.append(promql.tagged(together, promql.USE_LABEL, f"family {name}"))
    if len(uses) == 1:
        alone = uses[0].canonical(one(uses[0], by), by)
        return promql.grouped(operator, by, alone) if uses[0].own(by) != by else alone
    return promql.grouped(operator, by, promql.either(tagged))


def _counter(signal: str, function: str) -> Kind:
    kind = _signal(signal).kind
    if kind not in ("counter", "histogram"):
        raise SignalError(f"signal {signal} is a {kind}; {function}() takes a counter or a histogram")
    return kind


def _signal(name: str) -> Signal:
    try:
        return SIGNALS[name]
    except KeyError:
        raise UnknownSignal(name) from None
