"""The sentence at the head of the Overview: the worst fact first, then how far the load line is, then what changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dashboard import quantity
from dashboard.figures.chart import Mark
from dashboard.judge import Promise, State

if TYPE_CHECKING:
    from collector.client import Target
    from planner.headroom import PoolHeadroom

SILENT_AFTER_S = 180.0
SOON_AFTER_S = 900.0
"""A change counts as near when the trouble began at most this long after it."""

BOUNDS = {"": "", "≥": "At least ", "≤": "At most "}

Piece = tuple[str, str]
"""A text and how it is set: ``""`` plain, ``b`` strong, ``code`` to type."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``lead`` is strong, ``rest`` completes the sentence, ``detail`` is the line below it."""

    state: State
    lead: str
    rest: str = ""
    detail: tuple[Piece, ...] = ()
    pool: str = ""
    metric: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a verdict is drawn from; ``clock`` writes a moment on the viewer's clock."""

    promises: Sequence[Promise]
    headroom: Sequence["PoolHeadroom"]
    targets: Sequence["Target"]
    alerts: Sequence[Mapping[str, Any]]
    changes: Sequence[Mark]
    newest_s: float | None
    now_s: float
    live: bool = True
    silence: str = ""
    """Why the source does not answer now, where it does not."""


def no_source(address: str, message: str) -> Verdict:
    """The server does not answer."""
    detail: tuple[Piece, ...] = (
        (message, ""), (". Start it with ", ""), ("loadline collector serve", "code"),
        (" or name another with ", ""), ("--source", "code"), (".", ""),
    )  # fmt: skip
    return Verdict("breach", "The source does not answer.", f" Nothing is known from {address}.", detail)


def no_engine(address: str) -> Verdict:
    """The server answers but holds no engine that is known."""
    detail: tuple[Piece, ...] = (
        ("Scrape one: ", ""), ("loadline collector serve --scrape http://HOST:PORT/metrics", "code"),
        (" (vLLM or Loadline's engine).", ""),
    )  # fmt: skip
    return Verdict("none", "No engine is measured yet.", f" {address} holds no engine's metrics.", detail)


def worst_broken(promises: Sequence[Promise]) -> Promise | None:
    """The promise whose breach matters most; None where all are kept."""
    return min((one for one in promises if one.state == "breach"), key=_severity, default=None)


def judge(facts: Facts) -> Verdict:
    """The worst fact."""
    down = [target for target in facts.targets if target.health == "down"]
    broken = sorted((one for one in facts.promises if one.state == "breach"), key=_severity)
    over = [one for one in facts.headroom if one.headroom_ratio is not None and one.headroom_ratio < 0]
    firing = [alert for alert in facts.alerts if alert.get("state") == "firing"]
    if facts.silence:
        return _mute(facts)
    if facts.live and facts.newest_s is not None and facts.now_s - facts.newest_s > SILENT_AFTER_S:
        return _silent(facts)
    if down:
        return _down(down, facts)
    if broken:
        return _broken(broken, facts)
    if over:
        return _over(over[0], facts)
    if critical := [alert for alert in firing if alert.get("labels", {}).get("severity") in ("critical", "page")]:
        return _firing("breach", critical, facts)
    return _calmer(facts, firing)


def _severity(promise: Promise) -> tuple[bool, float]:
    """Worst first; goodput last, since it only sums up the others."""
    return promise.key == "goodput", -promise.use


def _calmer(facts: Facts, firing: Sequence[Mapping[str, Any]]) -> Verdict:
    n2 = [
        one for one in facts.headroom
        if one.n2_line_req_per_s is not None and one.load_req_per_s > one.n2_line_req_per_s
    ]  # fmt: skip
    risky = sorted((one for one in facts.promises if one.state == "warn"), key=_severity)
    if n2:
        pool = n2[0]
        lead, rest = f"{pool.pool} cannot lose two replicas.", " All SLOs met, but the load is above the N+2 line."
        return Verdict("warn", lead, rest, _capacity(pool.pool, facts), pool.pool)
    if risky:
        worst = risky[0]
        lead = f"{worst.pool} is close to its {worst.title} limit."
        return Verdict("warn", lead, f" {_against(worst)}.", _capacity(worst.pool, facts), worst.pool, worst.key)
    if firing:
        return _firing("warn", firing, facts)
    known = [one for one in facts.promises if one.value is not None]
    if not known:
        return _idle(facts)
    return Verdict("ok", "All SLOs met.", f" {_tightest(facts)}", _capacity(_tightest_pool(facts), facts))


def _mute(facts: Facts) -> Verdict:
    age = f" What is shown is {quantity.span(facts.now_s - facts.newest_s)} old." if facts.newest_s is not None else ""
    return Verdict("breach", "The source does not answer.", age, ((f"{facts.silence}.", ""),))


def _silent(facts: Facts) -> Verdict:
    age = quantity.span(facts.now_s - (facts.newest_s or facts.now_s))
    rest = f" The newest sample is {age} old; what is shown below is the past."
    return Verdict(
        "breach", "Measurements have stopped.", rest, (("Is the collector running, and are its targets up?", ""),)
    )


def _down(down: Sequence["Target"], facts: Facts) -> Verdict:
    first = down[0]
    lead = f"{len(down)} of {len(facts.targets)} targets {'is' if len(down) == 1 else 'are'} down."
    why = f": {first.last_error}" if first.last_error else ""
    more = f" and {len(down) - 1} more" if len(down) > 1 else ""
    broken = [one for one in facts.promises if one.state == "breach"]
    detail: list[Piece] = [(f"{first.url}{why}{more}.", "")]
    if broken:
        detail.append((f" Besides, {broken[0].pool} is breaching {broken[0].title}: {_against(broken[0])}.", "b"))
    return Verdict("breach", lead, " What they served is missing from every figure below.", tuple(detail))


def _broken(broken: Sequence[Promise], facts: Facts) -> Verdict:
    worst = broken[0]
    others = (
        f" So is {broken[1].title}." if len(broken) == 2 else f" So are {len(broken) - 1} others." if broken[2:] else ""
    )
    lasted = f" for {quantity.span(worst.broken_s)}" if worst.broken_s else ""
    detail = [*_capacity(worst.pool, facts), *_onset(worst, facts)]
    lead = f"{worst.pool} is breaching {worst.title if not worst.is_share else worst.title.lower()}."
    return Verdict("breach", lead, f" {_against(worst)}{lasted}.{others}", tuple(detail), worst.pool, worst.key)


def _over(pool: "PoolHeadroom", facts: Facts) -> Verdict:
    rest = f" {quantity.count(pool.load_req_per_s)} against {quantity.per_second(pool.load_line_req_per_s)}."
    return Verdict("breach", f"{pool.pool} is beyond its load line.", rest, _capacity(pool.pool, facts), pool.pool)


def _firing(state: State, firing: Sequence[Mapping[str, Any]], facts: Facts) -> Verdict:
    first = firing[0]
    lead = f"{first.get('labels', {}).get('alertname', 'An alert')} is firing."
    more = f" So {'is' if len(firing) == 2 else 'are'} {len(firing) - 1} more." if len(firing) > 1 else ""
    rest = f" {first.get('annotations', {}).get('summary', '')}".rstrip() + more
    return Verdict(state, lead, rest, _capacity(_tightest_pool(facts), facts))


def _idle(facts: Facts) -> Verdict:
    why = next((one.why for one in facts.promises if one.why), "")
    up = sum(target.health == "up" for target in facts.targets)
    seen = f"{up} of {len(facts.targets)} targets up. " if facts.targets else ""
    return Verdict(
        "none", "Idle: no requests to judge.", "", ((f"{seen}{why[:1].upper()}{why[1:]}." if why else seen, ""),)
    )


def _against(promise: Promise) -> str:
    if promise.is_share:
        value, limit = " ".join(quantity.share_parts(promise.value)), quantity.threshold(promise.limit)
        return f"{BOUNDS[promise.bound]}{value} against {limit}"
    return f"{quantity.duration(promise.value)} against {quantity.threshold_s(promise.limit)}"


def _tightest_pool(facts: Facts) -> str:
    lined = [one for one in facts.headroom if one.headroom_ratio is not None]
    if lined:
        return min(lined, key=lambda one: one.headroom_ratio or 0.0).pool
    return facts.headroom[0].pool if facts.headroom else ""


def _tightest(facts: Facts) -> str:
    lined = [one for one in facts.headroom if one.headroom_ratio is not None]
    if lined:
        one = min(lined, key=lambda pool: pool.headroom_ratio or 0.0)
        return f"Tightest: {one.pool}, {quantity.percent(one.headroom_ratio)} headroom, bound by {one.bound_by}."
    known = max((one for one in facts.promises if one.value is not None), key=lambda one: one.use)
    return f"Tightest: {known.title} of {known.pool}, {_against(known)}."


def _capacity(pool: str, facts: Facts) -> tuple[Piece, ...]:
    """How far the load line of ``pool`` is."""
    one = next((candidate for candidate in facts.headroom if candidate.pool == pool), None)
    if one is None:
        return ()
    if one.load_line_req_per_s is None or one.headroom_ratio is None:
        return (
            (f"Load is {quantity.per_second(one.load_req_per_s)}; no load line: {one.reason or 'not known'}. ", ""),
        )
    left = f"{quantity.percent(one.headroom_ratio)} headroom" if one.headroom_ratio >= 0 else "no headroom"
    load = f"Load is {quantity.count(one.load_req_per_s)} of {quantity.per_second(one.load_line_req_per_s)}, {left}"
    pieces: list[Piece] = [(f"{load}{_n2(one)}. ", "")]
    if one.crosses_at_s is not None and one.crosses_at_s > facts.now_s and one.headroom_ratio >= 0:
        pieces += [
            ("Forecast crosses the load line ", ""),
            (f"in {quantity.span(one.crosses_at_s - facts.now_s)}", "b"),
            (". ", ""),
        ]
    return tuple(pieces)


def _n2(one: "PoolHeadroom") -> str:
    if one.n2_line_req_per_s is None:
        return (
            f"; N+2 has no meaning with {one.replicas} replica{'' if one.replicas == 1 else 's'}"
            if one.replicas < 3
            else ""
        )
    return ", above the N+2 line" if one.load_req_per_s > one.n2_line_req_per_s else ", below the N+2 line"


def _onset(worst: Promise, facts: Facts) -> list[Piece]:
    began_s = facts.now_s - worst.broken_s
    near = [
        one for one in facts.changes
        if one.kind in ("deploy", "scale", "restart", "target") and 0 <= began_s - one.time_s <= SOON_AFTER_S
    ]  # fmt: skip
    if not near:
        return []
    cause = max(near, key=lambda one: one.time_s)
    return [(f"Began {quantity.span(began_s - cause.time_s)} after: {cause.text}.", "")]
