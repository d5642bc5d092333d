"""The sentence at the head of the Overview: the worst fact first, then how far the load line is, then what changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dashboard import quantity
from dashboard.figures.chart import Mark
from dashboard.judge import Promise, State
from dashboard.words import said_reason, say

if TYPE_CHECKING:
    from collector.client import Target
    from planner.room.headroom import PoolHeadroom

SILENT_AFTER_S = 180.0
SOON_AFTER_S = 900.0
"""A change counts as near when the trouble began at most this long after it."""

BOUNDS = {
    "": "{value} against {limit}",
    "≥": "At least {value} against {limit}",
    "≤": "At most {value} against {limit}",
}

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
    return Verdict(
        "breach", "The source does not answer.", say(" Nothing is known from {address}.", address=address), detail
    )


def no_engine(address: str) -> Verdict:
    """The server answers but holds no engine that is known."""
    detail: tuple[Piece, ...] = (
        ("Scrape one: ", ""), ("loadline collector serve --scrape http://HOST:PORT/metrics", "code"),
        (" (vLLM or Loadline's engine).", ""),
    )  # fmt: skip
    return Verdict(
        "none", "No engine is measured yet.", say(" {address} holds no engine's metrics.", address=address), detail
    )


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
        lead, rest = (
            say("{pool} cannot lose two replicas.", pool=pool.pool),
            " All SLOs met, but the load is above the N+2 line.",
        )
        return Verdict("warn", lead, rest, _capacity(pool.pool, facts), pool.pool)
    if risky:
        worst = risky[0]
        lead = say("{pool} is close to its {slo} limit.", pool=worst.pool, slo=worst.title)
        return Verdict(
            "warn",
            lead,
            say(" {against}.", against=_against(worst)),
            _capacity(worst.pool, facts),
            worst.pool,
            worst.key,
        )
    if firing:
        return _firing("warn", firing, facts)
    known = [one for one in facts.promises if one.value is not None]
    if not known:
        return _idle(facts)
    return Verdict("ok", "All SLOs met.", " " + _tightest(facts), _capacity(_tightest_pool(facts), facts))


def _mute(facts: Facts) -> Verdict:
    age = ""
    if facts.newest_s is not None:
        age = say(" What is shown is {age} old.", age=quantity.span(facts.now_s - facts.newest_s))
    return Verdict("breach", "The source does not answer.", age, ((say("{reason}.", reason=facts.silence), ""),))


def _silent(facts: Facts) -> Verdict:
    age = quantity.span(facts.now_s - (facts.newest_s or facts.now_s))
    rest = say(" The newest sample is {age} old; what is shown below is the past.", age=age)
    return Verdict(
        "breach", "Measurements have stopped.", rest, (("Is the collector running, and are its targets up?", ""),)
    )


def _down(down: Sequence["Target"], facts: Facts) -> Verdict:
    first = down[0]
    counted = "{down} of {all} targets is down." if len(down) == 1 else "{down} of {all} targets are down."
    lead = say(counted, down=len(down), all=len(facts.targets))
    why = say(": {reason}", reason=first.last_error) if first.last_error else ""
    more = say(" and {n} more", n=len(down) - 1) if len(down) > 1 else ""
    broken = [one for one in facts.promises if one.state == "breach"]
    detail: list[Piece] = [(say("{address}{reason}{more}.", address=first.url, reason=why, more=more), "")]
    if broken:
        besides = say(
            " Besides, {pool} is breaching {slo}: {against}.",
            pool=broken[0].pool, slo=broken[0].title, against=_against(broken[0]),
        )  # fmt: skip
        detail.append((besides, "b"))
    return Verdict("breach", lead, " What they served is missing from every figure below.", tuple(detail))


def _broken(broken: Sequence[Promise], facts: Facts) -> Verdict:
    worst = broken[0]
    others = (
        say(" So is {slo}.", slo=broken[1].title) if len(broken) == 2
        else say(" So are {n} others.", n=len(broken) - 1) if broken[2:] else ""
    )  # fmt: skip
    lasted = say(" for {span}", span=quantity.span(worst.broken_s)) if worst.broken_s else ""
    detail = [*_capacity(worst.pool, facts), *_onset(worst, facts)]
    lead = say("{pool} is breaching {slo}.", pool=worst.pool, slo=worst.key if worst.is_share else worst.title)
    rest = say(" {against}{lasted}.{others}", against=_against(worst), lasted=lasted, others=others)
    return Verdict("breach", lead, rest, tuple(detail), worst.pool, worst.key)


def _over(pool: "PoolHeadroom", facts: Facts) -> Verdict:
    load, line = quantity.count(pool.load_req_per_s), quantity.per_second(pool.load_line_req_per_s)
    rest = say(" {load} against {line}.", load=load, line=line)
    return Verdict(
        "breach", say("{pool} is beyond its load line.", pool=pool.pool), rest, _capacity(pool.pool, facts), pool.pool
    )


def _firing(state: State, firing: Sequence[Mapping[str, Any]], facts: Facts) -> Verdict:
    first = firing[0]
    lead = say("{alert} is firing.", alert=first.get("labels", {}).get("alertname", "An alert"))
    others = " So is {n} more." if len(firing) == 2 else " So are {n} more."
    more = say(others, n=len(firing) - 1) if len(firing) > 1 else ""
    rest = f" {first.get('annotations', {}).get('summary', '')}".rstrip() + more
    return Verdict(state, lead, rest, _capacity(_tightest_pool(facts), facts))


def _idle(facts: Facts) -> Verdict:
    why = next((one.why for one in facts.promises if one.why), "")
    up = sum(target.health == "up" for target in facts.targets)
    seen = "{up} of {all} targets up; {reason}." if facts.targets else "{reason}."
    detail = say(seen, up=up, all=len(facts.targets), reason=why or "no samples in this time")
    return Verdict("none", "Idle: no requests to judge.", "", ((detail, ""),))


def _against(promise: Promise) -> str:
    if promise.is_share:
        value, limit = " ".join(quantity.share_parts(promise.value)), quantity.threshold(promise.limit)
    else:
        value, limit = quantity.duration(promise.value), quantity.threshold_s(promise.limit)
    return say(BOUNDS[promise.bound], value=value, limit=limit)


def _tightest_pool(facts: Facts) -> str:
    lined = [one for one in facts.headroom if one.headroom_ratio is not None]
    if lined:
        return min(lined, key=lambda one: one.headroom_ratio or 0.0).pool
    return facts.headroom[0].pool if facts.headroom else ""


def _tightest(facts: Facts) -> str:
    lined = [one for one in facts.headroom if one.headroom_ratio is not None]
    if lined:
        one = min(lined, key=lambda pool: pool.headroom_ratio or 0.0)
        return say(
            "Tightest: {pool}, {left} headroom, bound by {constraint}.",
            pool=one.pool, left=quantity.percent(one.headroom_ratio), constraint=one.bound_by,
        )  # fmt: skip
    known = max((one for one in facts.promises if one.value is not None), key=lambda one: one.use)
    return say("Tightest: {slo} of {pool}, {against}.", slo=known.title, pool=known.pool, against=_against(known))


def _capacity(pool: str, facts: Facts) -> tuple[Piece, ...]:
    """How far the load line of ``pool`` is."""
    one = next((candidate for candidate in facts.headroom if candidate.pool == pool), None)
    if one is None:
        return ()
    if one.load_line_req_per_s is None or one.headroom_ratio is None:
        return (
            (
                say(
                    "Load is {load}; no load line: {reason}. ",
                    load=quantity.per_second(one.load_req_per_s), reason=said_reason(one.reason or "not known"),
                ),
                "",
            ),
        )  # fmt: skip
    load = say(
        "Load is {load} of {line}, {left}{spare}. ",
        load=quantity.count(one.load_req_per_s), line=quantity.per_second(one.load_line_req_per_s),
        left=headroom_text(one.headroom_ratio), spare=_n2(one),
    )  # fmt: skip
    pieces: list[Piece] = [(load, "")]
    if one.crosses_at_s is not None and one.crosses_at_s > facts.now_s and one.headroom_ratio >= 0:
        pieces += [
            ("Forecast crosses the load line ", ""),
            (say("in {span}", span=quantity.span(one.crosses_at_s - facts.now_s)), "b"),
            (". ", ""),
        ]
    return tuple(pieces)


def headroom_text(ratio: float) -> str:
    """How much is left up to the load line."""
    return say("{left} headroom", left=quantity.percent(ratio)) if ratio >= 0 else "no headroom"


def _n2(one: "PoolHeadroom") -> str:
    if one.n2_line_req_per_s is None:
        if one.replicas == 1:
            return say("; N+2 has no meaning with 1 replica")
        return say("; N+2 has no meaning with {n} replicas", n=one.replicas) if one.replicas < 3 else ""
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
    return [(say("Began {span} after: {cause}.", span=quantity.span(began_s - cause.time_s), cause=cause.text), "")]
