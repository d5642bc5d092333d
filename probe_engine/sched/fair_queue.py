"""Fair share per tenant: the Virtual Token Counter of "Fairness in Serving Large Language Models" (OSDI 2024).

Each tenant has a counter of the service that it got: prompt tokens computed, and output tokens times a weight. The
tenant with the least counter is next. One that comes back after having nothing to wait for is lifted to the least
counter of those who wait, so that idleness earns no credit. Two tenants that both always wait get service that differs
by at most twice the largest of: a prompt's charge, and the charge of all tokens that fit into the KV blocks.

Output tokens are charged as they come, without touching anything at a step: a tenant's counter is what was settled
plus its decoding requests times the steps since.
"""

from collections import deque

from probe_engine.sched.request import DecodeClock, Request
from probe_engine.sched.waiting_queue import FirstCome

MOST_IDLE_TENANTS = 4096  # accounts of tenants with nothing here that are remembered


class _Account:
    """One tenant: its queue and its counter as of ``since`` decode steps, with ``decoding`` requests since then."""

    __slots__ = ("counter", "decoding", "queue", "since")

    def __init__(self, since: int) -> None:
        self.queue: deque[Request] = deque()
        self.counter = 0.0
        self.decoding = 0
        self.since = since


class FairQueue(FirstCome):
    """First come, first served inside a tenant (None is one too); between tenants, least service first.

    Preempted requests go before all: their service was granted already. ``clock`` is the scheduler's.
    """

    __slots__ = ("_accounts", "_clock", "_last", "_output_weight", "_waiting_accounts")

    def __init__(self, output_weight: float, clock: DecodeClock) -> None:
        super().__init__()
        self._output_weight = output_weight
        self._clock = clock
        self._accounts: dict[str | None, _Account] = {}
        self._waiting_accounts: dict[str | None, _Account] = {}
        self._last = 0.0  # counter of the tenant that last left the queue

    def service(self, tenant: str | None) -> float:
        """What ``tenant`` has been charged so far, in weighted tokens."""
        account = self._accounts.get(tenant)
        return 0.0 if account is None else self._settled(account)

    def add(self, request: Request) -> None:
        """To the end of its tenant's queue."""
        account = self._account(request.tenant)
        if not account.queue:
            others = [self._settled(other) for other in self._waiting_accounts.values()]
            account.counter = max(self._settled(account), min(others) if others else self._last)
            self._waiting_accounts[request.tenant] = account
        account.queue.append(request)
        self.waiting += 1

    def remove(self, request: Request) -> None:
        """Wherever it is."""
        account = self._accounts.get(request.tenant)
        if account is not None and request in account.queue:
            account.queue.remove(request)
            self._left(request.tenant, account)
        else:
            self._queue.remove(request)
        self.waiting -= 1

    def head(self, now_s: float, running: int) -> Request | None:
        """A preempted request; else the front of the queue of the tenant that got least."""
        if self._queue:
            return self._queue[0]
        if not self._waiting_accounts:
            return None
        return min(self._waiting_accounts.values(), key=self._settled).queue[0]

    def take(self, request: Request) -> None:
        """Charge the prompt's computed tokens, at the first admission."""
        self.waiting -= 1
        if self._queue and self._queue[0] is request:
            self._queue.popleft()
            return
        account = self._accounts[request.tenant]
        account.queue.popleft()
        account.counter = self._settled(account) + request.prompt_tokens - request.cached_tokens
        self._left(request.tenant, account)

    def started(self, request: Request) -> None:
        """Charge the token that the prefill gave, and one with each step from now on."""
        account = self._account(request.tenant)
        account.counter = self._settled(account) + self._output_weight
        account.decoding += 1

    def ended(self, request: Request) -> None:
        """Charge no more."""
        account = self._account(request.tenant)
        account.counter = self._settled(account)
        account.decoding -= 1

    def _settled(self, account: _Account) -> float:
        steps = self._clock.steps
        if account.since != steps:
            account.counter += self._output_weight * account.decoding * (steps - account.since)
            account.since = steps
        return account.counter

    def _left(self, tenant: str | None, account: _Account) -> None:
        if not account.queue:
            self._last = self._settled(account)
            del self._waiting_accounts[tenant]

    def _account(self, tenant: str | None) -> _Account:
        account = self._accounts.get(tenant)
        if account is None:
            self._forget_idle()
            account = self._accounts[tenant] = _Account(self._clock.steps)
        return account

    def _forget_idle(self) -> None:
        """Names come from callers: forget the eldest of those that have nothing here once there are many."""
        if len(self._accounts) < 2 * MOST_IDLE_TENANTS:
            return
        idle = [tenant for tenant, account in self._accounts.items() if not account.queue and not account.decoding]
        for tenant in idle[:MOST_IDLE_TENANTS]:
            del self._accounts[tenant]
