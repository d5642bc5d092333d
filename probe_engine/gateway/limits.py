"""Admission: how much each user, each model and all together may ask for."""

from collections import OrderedDict
from dataclasses import dataclass

from probe_engine.gateway.day_window import DayWindow
from probe_engine.gateway.errors import Refused
from probe_engine.gateway.leaky_bucket import LeakyBucket
from probe_engine.gateway.settings import Limits
from probe_engine.gateway.token_bucket import TokenBucket

MOST_USERS = 10_000  # remembered; the longest unseen are forgotten first
BUSY_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to run one request; ``tokens`` are reserved until it is settled."""

    user: str
    model: str
    tokens: int


class _User:
    __slots__ = ("day", "requests", "tokens")

    def __init__(self, limits: Limits, now_s: float) -> None:
        self.requests = _per_minute(limits.user_requests_per_min, now_s)
        self.tokens = _per_minute(limits.user_tokens_per_min, now_s)
        self.day = DayWindow()


class Limiter:
    """Asks every limit before it takes from any. Times (s) are passed in: monotonic, and for days any steady clock."""

    def __init__(self, limits: Limits, now_s: float) -> None:
        self.limits = limits
        self._users: OrderedDict[str, _User] = OrderedDict()
        self._running: dict[str, int] = {}
        self._all = _leaky(limits, now_s)

    def change(self, limits: Limits, now_s: float) -> None:
        """New limits from now on; what was used stays used."""
        self.limits = limits
        self._all = _resized_leaky(self._all, limits, now_s)
        for user in self._users.values():
            user.requests = _resized(user.requests, limits.user_requests_per_min, now_s)
            user.tokens = _resized(user.tokens, limits.user_tokens_per_min, now_s)

    def running(self) -> dict[str, int]:
        """Requests that run, by model."""
        return dict(self._running)

    def admit(self, user: str, model: str, tokens: int, now_s: float) -> Grant:
        """Reserve ``tokens`` for a request; raises ``Refused`` (429) that says which limit and when to come back."""
        limits, state = self.limits, self._user(user, now_s)
        most = limits.model_concurrency
        if most is not None and self._running.get(model, 0) >= most:
            raise _too_many("model_concurrency", f"{most} requests of {model!r} run already", BUSY_RETRY_S)
        if self._all is not None:
            _check("tokens_per_s", limits.tokens_per_s, tokens, self._all.wait_s(tokens, now_s))
        if state.requests is not None:
            _check("user_requests_per_min", limits.user_requests_per_min, 1, state.requests.wait_s(1, now_s))
        if state.tokens is not None:
            _check("user_tokens_per_min", limits.user_tokens_per_min, tokens, state.tokens.wait_s(tokens, now_s))
        if limits.user_tokens_per_day is not None:
            wait_s = state.day.wait_s(tokens, limits.user_tokens_per_day, now_s)
            _check("user_tokens_per_day", limits.user_tokens_per_day, tokens, wait_s)
        self._take(state, tokens, now_s)
        if state.requests is not None:
            state.requests.take(1, now_s)
        self._running[model] = self._running.get(model, 0) + 1
        return Grant(user, model, tokens)

    def settle(self, grant: Grant, used_tokens: int, now_s: float) -> None:
        """The request of ``grant`` has ended and used ``used_tokens``: the difference is given back, or owed."""
        self._take(self._user(grant.user, now_s), used_tokens - grant.tokens, now_s)
        left = self._running[grant.model] - 1
        if left:
            self._running[grant.model] = left
        else:
            del self._running[grant.model]

    def headers(self, user: str, now_s: float) -> dict[str, str]:
        """``x-ratelimit-*`` of what is limited, for ``user``, as OpenAI sends them."""
        state, limits = self._user(user, now_s), self.limits
        found: dict[str, str] = {}
        for what, bucket in (("requests", state.requests), ("tokens", state.tokens)):
            if bucket is not None:
                found[f"x-ratelimit-limit-{what}"] = str(int(bucket.capacity))
                found[f"x-ratelimit-remaining-{what}"] = str(max(0, int(bucket.level(now_s))))
                found[f"x-ratelimit-reset-{what}"] = f"{bucket.full_s(now_s):.3f}s"
        if state.tokens is None and limits.user_tokens_per_day is not None:
            left = limits.user_tokens_per_day - state.day.used(now_s)
            found["x-ratelimit-limit-tokens"] = str(int(limits.user_tokens_per_day))
            found["x-ratelimit-remaining-tokens"] = str(max(0, int(left)))
            wait_s = state.day.wait_s(limits.user_tokens_per_day, limits.user_tokens_per_day, now_s) or 0.0
            found["x-ratelimit-reset-tokens"] = f"{wait_s:.3f}s"
        return found

    def _take(self, state: _User, tokens: int, now_s: float) -> None:
        if self._all is not None:
            self._all.pour(tokens, now_s)
        if state.tokens is not None:
            state.tokens.take(tokens, now_s)
        state.day.add(tokens, now_s)

    def _user(self, name: str, now_s: float) -> _User:
        user = self._users.get(name)
        if user is None:
            user = self._users[name] = _User(self.limits, now_s)
            if len(self._users) > MOST_USERS:
                self._users.popitem(last=False)
        self._users.move_to_end(name)
        return user


def _check(limit: str, value: float | None, asked: float, wait_s: float | None) -> None:
    if wait_s is None:
        raise _too_many(limit, f"the request asks for {asked:g} and {limit} is {value:g}: it can never be served", None)
    if wait_s > 0:
        raise _too_many(limit, f"{limit} is {value:g}; the request, which asks for {asked:g}, must wait", wait_s)


def _too_many(limit: str, message: str, retry_after_s: float | None) -> Refused:
    return Refused(
        429, message, kind="rate_limit_error", code="rate_limit_exceeded", reason=limit, retry_after_s=retry_after_s
    )


def _per_minute(limit: float | None, now_s: float) -> TokenBucket | None:
    return None if limit is None else TokenBucket(limit / 60, limit, now_s)


def _resized(bucket: TokenBucket | None, limit: float | None, now_s: float) -> TokenBucket | None:
    if bucket is None or limit is None:
        return _per_minute(limit, now_s)
    bucket.level(now_s)
    bucket.rate_per_s, bucket.capacity = limit / 60, limit
    return bucket


def _leaky(limits: Limits, now_s: float) -> LeakyBucket | None:
    rate = limits.tokens_per_s
    return None if rate is None else LeakyBucket(rate, rate * limits.burst_s, now_s)


def _resized_leaky(bucket: LeakyBucket | None, limits: Limits, now_s: float) -> LeakyBucket | None:
    fresh = _leaky(limits, now_s)
    if bucket is not None and fresh is not None:
        fresh.pour(bucket.level(now_s), now_s)
    return fresh
