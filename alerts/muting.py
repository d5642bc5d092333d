"""Which alerts are kept quiet: by silences, and by other alerts that fire (inhibition)."""

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from alerts.alert import Alert
from alerts.dispatch import AT_ONCE, Pace
from alerts.errors import SilenceError
from alerts.silence import KEPT_AFTER_END_S, Silence, matches
from collector.model.durations import SHAPE, parse_duration_ms
from collector.model.errors import QueryError
from collector.model.labels import get
from collector.model.matchers import Matcher, MatchOp
from collector.signals import Node, parse_document

_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*(?:"((?:[^"\\]|\\.)*)"|([^"\s]*))\s*')


_TIMES = ("group_wait", "group_interval", "repeat_interval")


class SilenceBook(Protocol):
    """Where silences outlive the process; ``State`` is one."""

    def silences(self) -> list[Silence]:
        """All that are kept."""
        ...

    def save_silence(self, silence: Silence) -> None:
        """Keep, in place of one with the same id."""
        ...

    def drop_silences(self, ids: Iterable[str]) -> None:
        """Forget."""
        ...


@dataclass(frozen=True, slots=True)
class InhibitRule:
    """While a source fires, targets with the same values of the labels ``equal`` are kept quiet."""

    source: tuple[Matcher, ...]
    target: tuple[Matcher, ...]
    equal: tuple[str, ...] = ()

    def mutes(self, alert: Alert, firing: Iterable[Alert]) -> bool:
        """Whether ``alert`` is a target of any of ``firing``; an alert does not inhibit itself."""
        if not matches(self.target, alert.labels):
            return False
        both = matches(self.source, alert.labels)
        return any(
            one.labels != alert.labels
            and matches(self.source, one.labels)
            and not (both and matches(self.target, one.labels))
            and all(get(one.labels, name) == get(alert.labels, name) for name in self.equal)
            for one in firing
        )


@dataclass(frozen=True, slots=True)
class NotifyConfig:
    """What a notification file says: when alerts are told of and with which others, and what inhibits what."""

    pace: Pace = AT_ONCE
    inhibit_rules: tuple[InhibitRule, ...] = ()


class Silences:
    """The silences in force, safe for many threads; every change is kept in ``book``."""

    def __init__(self, book: SilenceBook, now: Callable[[], float]) -> None:
        self._book = book
        self.now = now
        self._lock = threading.Lock()
        self._all = {silence.id: silence for silence in book.silences()}

    def all(self) -> list[Silence]:
        """Every silence that is kept, those that end last first."""
        self._prune()
        with self._lock:
            return sorted(self._all.values(), key=lambda one: (-one.ends_at_s, one.id))

    def get(self, name: str) -> Silence | None:
        """The silence with this id."""
        with self._lock:
            return self._all.get(name)

    def put(self, silence: Silence) -> None:
        """Add or change a silence; one that is over cannot be changed. Raises SilenceError, StateError."""
        before = self.get(silence.id)
        if before is not None and before.state(self.now()) == "expired":
            raise SilenceError(f"silence {silence.id} is over; make a new one")
        self._keep(silence)

    def expire(self, name: str) -> bool:
        """End a silence now; False where there is none with this id."""
        silence = self.get(name)
        if silence is None:
            return False
        now_s = self.now()
        if silence.state(now_s) != "expired":
            self._keep(
                replace(silence, ends_at_s=now_s, starts_at_s=min(silence.starts_at_s, now_s), updated_at_s=now_s)
            )
        return True

    def mutes(self, alert: Alert, now_s: float) -> bool:
        """Whether any silence keeps ``alert`` quiet."""
        with self._lock:
            return any(silence.mutes(alert, now_s) for silence in self._all.values())

    def _keep(self, silence: Silence) -> None:
        self._book.save_silence(silence)
        with self._lock:
            self._all[silence.id] = silence

    def _prune(self) -> None:
        now_s = self.now()
        with self._lock:
            old = [one.id for one in self._all.values() if now_s - one.ends_at_s > KEPT_AFTER_END_S]
            for each in old:
                del self._all[each]
        if old:
            self._book.drop_silences(old)


def read_notify_config(text: str, path: str) -> NotifyConfig:
    """Read a notification file: Alertmanager's ``group_by``, its times and ``inhibit_rules``. Raises DocumentError."""
    root = parse_document(text, path)
    if root.value is None:
        return NotifyConfig()
    fields = root.only(("group_by", *_TIMES, "inhibit_rules"), "notification file")
    rules = fields["inhibit_rules"].sequence("inhibit_rules") if "inhibit_rules" in fields else []
    group_by = _strings(fields["group_by"], "group_by") if "group_by" in fields else AT_ONCE.group_by
    wait_s, interval_s, repeat_s = (_seconds(fields.get(name), name) for name in _TIMES)
    pace = Pace(group_by, wait_s or 0.0, interval_s or 0.0, repeat_s)
    return NotifyConfig(pace, tuple(_rule(node, f"inhibit_rules[{i}]") for i, node in enumerate(rules)))


def _rule(node: Node, what: str) -> InhibitRule:
    fields = node.only(("source_matchers", "target_matchers", "equal"), what)
    return InhibitRule(
        _matchers(node.need("source_matchers", what), f"{what}.source_matchers"),
        _matchers(node.need("target_matchers", what), f"{what}.target_matchers"),
        _strings(fields.get("equal"), f"{what}.equal"),
    )


def _matchers(node: Node, what: str) -> tuple[Matcher, ...]:
    found = []
    for item in node.sequence(what):
        parts = _MATCHER.fullmatch(item.string(what))
        if parts is None:
            raise item.error(f'{what}: {item.shown()} is no matcher; one looks like severity="page"')
        name, op, quoted, plain = parts.groups()
        value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        try:
            found.append(Matcher(name, _op(op), value))
        except QueryError as error:
            raise item.error(f"{what}: {error}") from error
    if not found:
        raise node.error(f"{what} is empty; it would match every alert")
    return tuple(found)


def _op(text: str) -> MatchOp:
    ops: Sequence[MatchOp] = ("=", "!=", "=~", "!~")
    return next(op for op in ops if op == text)


def _seconds(node: Node | None, what: str) -> float | None:
    if node is None:
        return None
    length_ms = parse_duration_ms(node.string(what))
    if length_ms is None:
        raise node.error(f"{what} is {node.shown()}; {SHAPE}")
    return length_ms / 1000 or None


def _strings(node: Node | None, what: str) -> tuple[str, ...]:
    return () if node is None else tuple(item.string(f"{what}[{i}]") for i, item in enumerate(node.sequence(what)))
