"""Keeps groups on their clocks: evaluates each when it is due, remembers the outcome, hands on what must be said."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from alerts.alert import Alert
from alerts.dispatch import AT_ONCE, Dispatcher, Muted, Pace
from alerts.errors import StateError
from alerts.group import Group, GroupStatus, Notice, orphaned
from alerts.history import Change, changes
from alerts.message import Links, Message, alertmanager_messages, bundle_messages
from alerts.notify import Notifier
from alerts.responses.responder import Responder
from alerts.state import State
from alerts.telemetry import Telemetry
from alerts.writeback import Writeback

STOP_TIMEOUT_S = 3.0
TICK_S = 1.0
"""How often it is looked for groups of alerts that are due to be told of between evaluations."""

_log = logging.getLogger(__name__)


class Manager:
    """Runs groups and notifiers, each on a thread of its own between ``start`` and ``stop``.

    ``evaluate`` does one evaluation of one group at a given moment and needs no threads. ``pace`` says how soon and how
    often receivers hear of alerts that are not ``muted``. ``now`` answers Unix seconds. Raises StateError.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        state: State,
        notifiers: Sequence[Notifier],
        telemetry: Telemetry,
        writeback: Writeback,
        links: Links,
        pace: Pace = AT_ONCE,
        muted: Muted = lambda alert, now_s: False,
        responder: Responder | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.groups = tuple(groups)
        self._state = state
        self._notifiers = tuple(notifiers)
        self._telemetry = telemetry
        self._writeback = writeback
        self._links = links
        self._dispatcher = Dispatcher(pace, state.told(), muted)
        self._telling = threading.Lock()
        self._responder = responder
        self._now = now
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._state_troubled = False

    def restore(self) -> None:
        """Take up where an earlier process left off; what fired by a rule that is gone is over. Raises StateError."""
        now_s = self._now()
        present = {group.key: group for group in self.groups}
        for key, memory in self._state.groups().items():
            if group := present.get(key):
                gone = group.restore(memory.alerts, memory.evaluated_at_s, now_s)
            else:
                gone = tuple((name, alert) for name, alert in memory.alerts if alert.state == "firing")
            found = self._to_alertmanagers([orphaned(name, alert, now_s) for name, alert in gone])
            if group is None:
                self._state.forget(key, now_s, found)
            elif gone:
                self._state.save(key, memory.evaluated_at_s, _remembered(group.status), found)
            self._post(found)
        for group in self.groups:
            self._dispatcher.note(group.key, group.status, now_s)
        self.tell(now_s)
        if self._responder is not None:
            self._responder.only(present, now_s)

    def evaluate(self, group: Group, now_s: float) -> None:
        """Evaluate ``group`` at ``now_s``, remember what came of it and queue what must be said."""
        before = group.status
        found = self._to_alertmanagers(group.evaluate(now_s))
        status = group.status
        changed = changes(before, status, now_s)
        self._kept(lambda: self._state.save(group.key, now_s, _remembered(status), found, changed))
        self._post(found)
        self._dispatcher.note(group.key, status, now_s)
        self.tell(now_s)
        if self._responder is not None:
            self._responder.note(group.key, status, now_s)
        failures = sum(rule.health == "err" for rule in status.rules)
        self._telemetry.evaluated(group.key, status.took_s, len(status.rules), failures)

    def tell(self, now_s: float) -> None:
        """Queue what groups of alerts that are due have to say."""
        with self._telling:
            telling = self._dispatcher.flush(now_s)
            if not telling.bundles:
                return
            receivers = [notifier.receiver for notifier in self._notifiers]
            found = bundle_messages(telling.bundles, receivers, self._links, now_s)
            self._kept(lambda: self._state.tell(telling.told, telling.over, found, now_s))
            self._post(found)

    def statuses(self) -> tuple[GroupStatus, ...]:
        """Every group as it stands."""
        return tuple(group.status for group in self.groups)

    def history(self, start_s: float, end_s: float, alertname: str | None, limit: int) -> list[Change]:
        """What changed for alerts from ``start_s`` to ``end_s`` (Unix), the latest first. Raises StateError."""
        return self._state.history(start_s, end_s, alertname, limit)

    def metrics_page(self) -> bytes:
        """The ``/metrics`` page."""
        counts = Counter({"pending": 0, "firing": 0})
        counts.update(alert.state for status in self.statuses() for rule in status.rules for alert in rule.active)
        waiting = {notifier.receiver.name: notifier.waiting for notifier in self._notifiers}
        return self._telemetry.page(counts, waiting, self._writeback.failures)

    def start(self) -> None:
        """Start a thread for each group and each notifier, one for groups of alerts that wait and one for responses."""
        for group in self.groups:
            self._spawn(f"group {group.group.name}", partial(self._run, group))
        for notifier in self._notifiers:
            self._spawn(notifier.receiver.name, partial(notifier.run, self._stop, self._now))
        self._spawn("telling", self._run_telling)
        if self._responder is not None:
            self._spawn("responses", partial(self._responder.run, self._stop, self._now))

    def stop(self) -> None:
        """Stop all threads; what is not delivered waits in the state file."""
        self._stop.set()
        for notifier in self._notifiers:
            notifier.wake()
        if self._responder is not None:
            self._responder.wake()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _spawn(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, group: Group) -> None:
        due_s = group.next_evaluation_s(self._now())
        while not self._stop.wait(min(max(0.0, due_s - self._now()), group.interval_s)):
            now_s = self._now()
            if now_s < due_s:  # woken early, or the clock was set back
                due_s = min(due_s, group.next_evaluation_s(now_s))
                continue
            try:
                self.evaluate(group, due_s)
            except Exception:
                _log.exception("group %s: this evaluation failed; the next one is tried", group.key)
            after_s = group.next_evaluation_s(max(self._now(), due_s))
            missed = round((after_s - due_s) / group.interval_s) - 1
            if missed > 0:
                _log.warning("group %s: %d evaluations missed; this one took too long", group.key, missed)
                self._telemetry.missed(group.key, missed)
            due_s = after_s

    def _run_telling(self) -> None:
        while not self._stop.wait(TICK_S):
            try:
                self.tell(self._now())
            except Exception:
                _log.exception("groups of alerts could not be told of; it is tried again")

    def _to_alertmanagers(self, notices: Sequence[Notice]) -> list[Message]:
        return alertmanager_messages(notices, [notifier.receiver for notifier in self._notifiers], self._links)

    def _post(self, found: Sequence[Message]) -> None:
        for notifier in self._notifiers:
            notifier.put(found)

    def _kept(self, save: Callable[[], None]) -> None:
        """Write to the state file; where it cannot be, alerts go on."""
        try:
            save()
        except StateError as error:
            if not self._state_troubled:
                _log.error("alerts go on, but a restart would forget them: %s", error)
            self._state_troubled = True
        else:
            if self._state_troubled:
                _log.info("the state file can be written again")
            self._state_troubled = False


def _remembered(status: GroupStatus) -> list[tuple[str, Alert]]:
    return [(rule.rule.name, alert) for rule in status.rules for alert in rule.alerts.values()]
