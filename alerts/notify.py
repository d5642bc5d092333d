"""Delivers messages to one receiver, in order, with back-off; nothing that it does holds up an evaluation."""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import httpx
import orjson

from alerts.errors import DeliveryError, StateError
from alerts.mail import Mail
from alerts.message import Message, Receiver

BATCH_ALERTS = 64
MAX_WAITING = 10_000
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0

_RETRY_STATUS = frozenset({408, 425, 429})

_log = logging.getLogger(__name__)


class Outbox(Protocol):
    """Where undelivered messages outlive the process; ``State`` is one."""

    def outbox(self, receiver: str) -> list[Message]:
        """Messages that were not delivered, oldest first."""
        ...

    def delivered(self, messages: Iterable[Message]) -> None:
        """Forget these."""
        ...


class Tally(Protocol):
    """Counts what became of notifications; ``Telemetry`` is one."""

    def sent(self, receiver: str, count: int) -> None:
        """Delivered."""
        ...

    def failed(self, receiver: str, count: int) -> None:
        """A try failed; it may be repeated."""
        ...

    def dropped(self, receiver: str, count: int) -> None:
        """Given up."""
        ...


class Notifier:
    """A queue in front of one receiver. ``put`` never blocks; ``deliver`` is called by one thread."""

    def __init__(
        self, receiver: Receiver, outbox: Outbox, tally: Tally, http: httpx.Client, mail: Mail | None = None
    ) -> None:
        self.receiver = receiver
        self._outbox = outbox
        self._tally = tally
        self._http = http
        self._mail = mail
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._waiting: dict[str, Message] = {message.key: message for message in outbox.outbox(receiver.name)}
        self._failures = 0
        self._retry_at_s = float("-inf")

    @property
    def waiting(self) -> int:
        """Messages not delivered yet."""
        with self._lock:
            return len(self._waiting)

    def put(self, messages: Iterable[Message]) -> None:
        """Take this receiver's messages; one with the key of a waiting one takes its place at the end."""
        with self._lock:
            for message in messages:
                if message.receiver == self.receiver.name:
                    self._waiting.pop(message.key, None)
                    self._waiting[message.key] = message
            excess = [self._waiting[key] for key in list(self._waiting)[: max(0, len(self._waiting) - MAX_WAITING)]]
            for message in excess:
                del self._waiting[message.key]
        if excess:
            _log.error("%s: %d notifications dropped: more than %d wait", self.receiver.name, len(excess), MAX_WAITING)
            self._tally.dropped(self.receiver.name, len(excess))
            self._forget(excess)
        self._wake.set()

    def deliver(self, now_s: float) -> bool:
        """Send what waits, unless it is too early to try again; True where something was delivered or given up."""
        if now_s < self._retry_at_s:
            return False
        batch = self._next()
        if not batch:
            return False
        try:
            self._send(batch)
        except DeliveryError as error:
            self._tally.failed(self.receiver.name, len(batch))
            if error.retry:
                self._back_off(now_s, error)
                return False
            _log.error("%s: %d notifications given up: %s", self.receiver.name, len(batch), error)
            self._tally.dropped(self.receiver.name, len(batch))
        else:
            self._tally.sent(self.receiver.name, len(batch))
            if self._failures:
                _log.info("%s takes notifications again", self.receiver.name)
            self._failures, self._retry_at_s = 0, float("-inf")
        self._done(batch)
        return True

    def run(self, stop: threading.Event, now: Callable[[], float]) -> None:
        """Deliver until ``stop`` is set."""
        while not stop.is_set():
            self._wake.clear()
            while self.deliver(now()):
                if stop.is_set():
                    return
            wait_s = min(max(self._retry_at_s - now(), 0.05), LONGEST_RETRY_S) if self.waiting else None
            self._wake.wait(wait_s)

    def wake(self) -> None:
        """Let ``run`` look at its stop event."""
        self._wake.set()

    def _next(self) -> list[Message]:
        with self._lock:
            size = BATCH_ALERTS if self.receiver.kind == "alertmanager" else 1
            return list(self._waiting.values())[:size]

    def _done(self, batch: Sequence[Message]) -> None:
        with self._lock:
            for message in batch:
                if self._waiting.get(message.key) is message:
                    del self._waiting[message.key]
        self._forget(batch)

    def _forget(self, batch: Sequence[Message]) -> None:
        try:
            self._outbox.delivered(batch)
        except StateError as error:
            _log.error("delivered notifications stay in the outbox and may be sent again after a restart: %s", error)

    def _back_off(self, now_s: float, error: DeliveryError) -> None:
        if self._failures == 0:
            _log.warning("%s does not take notifications; they wait: %s", self.receiver.name, error)
        delay_s = min(FIRST_RETRY_S * 2**self._failures, LONGEST_RETRY_S)
        self._failures = min(self._failures + 1, 16)
        self._retry_at_s = now_s + delay_s

    def _send(self, batch: Sequence[Message]) -> None:
        receiver, body = self.receiver, batch[0].body
        if receiver.kind == "email":
            assert self._mail is not None, "a receiver of mail has a mail server"
            self._mail.send(**orjson.loads(body))
        elif receiver.kind == "alertmanager":
            body = b"[" + b",".join(message.body for message in batch) + b"]"
            self._post(f"{receiver.url.rstrip('/')}/api/v2/alerts", body)
        elif receiver.kind == "pagerduty":
            self._post(receiver.url, orjson.dumps(orjson.loads(body) | {"routing_key": receiver.secret}))
        else:
            self._post(receiver.secret or receiver.url, body, batch[0].key)

    def _post(self, url: str, body: bytes, key: str | None = None) -> None:
        shown = self.receiver.url
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        try:
            response = self._http.post(
                url, content=body, headers={"Content-Type": "application/json"} | dict(headers or {})
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DeliveryError(f"{shown}: {error or type(error).__name__}", retry=True) from error
        if not response.is_success:
            retry = response.status_code >= 500 or response.status_code in _RETRY_STATUS
            raise DeliveryError(f"{shown}: {response.status_code}: {response.text.strip()[:300]}", retry=retry)
