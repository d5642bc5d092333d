"""Sees to it that each firing that asks for a response gets it once: decided, kept, carried out, taken back.

``note`` is told what fires and only writes down; ``work`` speaks to the gateway and runs on a thread of its own, so
that no evaluation waits for a gateway.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from alerts.alert import Alert
from alerts.errors import NotAllowed, ResponseError, StateError
from alerts.group import GroupStatus
from alerts.responses.catalogue import Catalogue, Entry, careful
from alerts.responses.gateway import GatewayAdmin
from alerts.responses.response import (
    ENDED,
    Response,
    State,
    Wish,
    log_json,
    not_before_s,
    response_id,
    wanted_target,
)
from alerts.responses.steps import plan
from alerts.rule import AlertRule

KEPT = 1000
"""Responses that have ended and are still listed."""
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
TICK_S = 1.0
ONE_WAY = frozenset({"restart"})
"""Changes that must not be asked for twice."""

_log = logging.getLogger(__name__)


class ResponseBook(Protocol):
    """Where responses outlive the process; the alerts' ``State`` is one."""

    def responses(self) -> list[Response]:
        """All that are kept."""
        ...

    def save_responses(self, responses: Iterable[Response], forget: Iterable[str] = ()) -> None:
        """Keep these in place of those with the same ids, and forget others."""
        ...


class Responder:
    """The responses of one alerts process. Safe for many threads; ``work`` is called by one.

    ``journal`` is handed each change of state as a JSON-like value, ``tally`` the response and the state that it came
    to; ``muted`` alerts ask for nothing.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        gateway: GatewayAdmin | None,
        book: ResponseBook,
        journal: Callable[[Mapping[str, Any]], None],
        now: Callable[[], float],
        muted: Callable[[Alert, float], bool] = lambda alert, now_s: False,
        tally: Callable[[Response, State], None] = lambda response, state: None,
    ) -> None:
        self.catalogue = catalogue
        self.gateway = gateway
        self.now = now
        self._book = book
        self._journal = journal
        self._muted = muted
        self._tally = tally
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._all = {response.id: response for response in book.responses()}

    def all(self) -> list[Response]:
        """Every response that is kept, the latest first."""
        with self._lock:
            return sorted(self._all.values(), key=lambda one: (-one.fired_at_s, one.id))

    def get(self, name: str) -> Response | None:
        """The response with this id."""
        with self._lock:
            return self._all.get(name)

    def note(self, key: str, status: GroupStatus, now_s: float) -> None:
        """Take up what fires in the group ``key`` and is not muted, and end what fires no more."""
        firing = {
            response_id(key, rule.rule.name, alert): alert
            for rule in status.rules
            if isinstance(rule.rule, AlertRule) and dict(rule.rule.annotations).get("response")
            for alert in rule.alerts.values()
            if alert.state == "firing"
        }
        with self._lock:
            for name, alert in firing.items():
                if name not in self._all and not self._muted(alert, now_s):
                    self._keep(self._begun(name, key, alert, now_s))
            self._end((one for one in self._of(key) if one.id not in firing), now_s)

    def only(self, keys: Iterable[str], now_s: float) -> None:
        """End what belongs to groups that are no more."""
        present = set(keys)
        with self._lock:
            self._end((one for one in list(self._all.values()) if one.group_key not in present), now_s)

    def wish(self, name: str, wish: Wish, by: str, comment: str = "") -> Response | None:
        """What a person wants of a response; None where there is none with this id. Raises NotAllowed."""
        now_s = self.now()
        said = wish + (f": {comment}" if comment else "")
        with self._lock:
            response = self._all.get(name)
            if response is None:
                return None
            if wish not in response.allowed:
                allowed = ", ".join(response.allowed) or "nothing"
                raise NotAllowed(f"response {name} is {response.state}; {allowed} can be asked of it, not {wish}")
            if wish == "dismiss" and not response.undo:
                return self._keep(response.moved("dismissed", now_s, said, by, by=by, error=None))
            if wish == "confirm":
                again = response.moved("acting", now_s, said, by, by=by, error=None, did=(), undo=(), retry_at_s=0.0)
                return self._keep(replace(again, asked=False, failures=0))
            asked = response.moved("acted", now_s, said, by, by=by, ended=True, retry_at_s=0.0)
            self._keep(asked)
        self._take_back(asked, now_s, by_hand=True)
        return self.get(name)

    def work(self, now_s: float) -> bool:
        """Do what is due; True where anything was."""
        with self._lock:
            due = [one for one in self._all.values() if self._is_due(one) and one.retry_at_s <= now_s]
        for response in sorted(due, key=lambda one: one.fired_at_s):
            if response.state == "acted":
                self._take_back(response, now_s)
            else:
                self._act(response, now_s)
        return bool(due)

    def run(self, stop: threading.Event, now: Callable[[], float]) -> None:
        """Work until ``stop`` is set."""
        while not stop.is_set():
            self._wake.clear()
            self.work(now())
            with self._lock:
                busy = any(self._is_due(one) for one in self._all.values())
            self._wake.wait(TICK_S if busy else None)

    def wake(self) -> None:
        """Let ``run`` look at its stop event."""
        self._wake.set()

    def _is_due(self, one: Response) -> bool:
        if one.state == "acted":
            return one.ended and bool(one.undo) and self._comes_back(one)
        return one.state in ("held", "acting")

    def _comes_back(self, one: Response) -> bool:
        entry = self.catalogue.get(one.name)
        return entry is not None and entry.undo_on_resolve

    def _of(self, key: str) -> list[Response]:
        return [one for one in self._all.values() if one.group_key == key]

    def _begun(self, name: str, key: str, alert: Alert, now_s: float) -> Response:
        annotations = dict(alert.annotations)
        wanted = annotations["response"]
        entry = self.catalogue.get(wanted)
        mode = careful(entry, annotations.get("response_mode")) if entry else "human"
        begun = Response(
            id=name, name=wanted, action=entry.action if entry else "", mode=mode, state="told",
            alertname=dict(alert.labels)["alertname"], group_key=key, fingerprint=alert.fingerprint,
            labels=alert.labels, summary=annotations.get("summary", ""), target=wanted_target(alert),
            fired_at_s=now_s if alert.fired_at_s is None else alert.fired_at_s, changed_at_s=now_s,
        )  # fmt: skip
        if entry is None:
            why = f'no response is called "{wanted}"; there are {", ".join(self.catalogue)}'
            return begun.moved("failed", now_s, why, error=why)
        if mode == "human" or self.gateway is None:
            return begun.moved("told", now_s, "for people to do" + ("" if self.gateway else ": there is no gateway"))
        if mode == "assisted":
            return begun.moved("waiting", now_s, "waits for a person to confirm")
        return begun.moved("held", now_s, "to be done")

    def _end(self, responses: Iterable[Response], now_s: float) -> None:
        for one in list(responses):
            if one.state in ENDED or one.ended:
                continue
            if one.state in ("acting", "acted", "held") and (one.undo or one.state == "acting"):
                self._keep(_to_take_back(replace(one, ended=True, retry_at_s=0.0), now_s))
            else:
                self._keep(one.moved("over", now_s, "the alert is over", ended=True))

    def _act(self, response: Response, now_s: float) -> None:
        """Carry it out, or find out why not yet."""
        entry = self.catalogue.get(response.name)
        if entry is None:
            self._fail(response, now_s, f'no response is called "{response.name}" any more')
            return
        if response.state == "held" and response.by is None:
            free_s = not_before_s(response, self.all(), entry.cool_down_s, entry.most_per_hour)
            if free_s > now_s:
                self._hold(response, now_s, f"cool-down of {entry.cool_down}, or {entry.most_per_hour} an hour", free_s)
                return
        if self.gateway is None:
            self._fail(response, now_s, "no gateway is configured; --gateway names one")
            return
        try:
            if response.asked:
                self._look_after(response, self.gateway.state(), now_s)
                return
            decided = self._decided(response, entry, self.gateway, now_s)
        except ResponseError as error:
            if error.retry:
                self._retry(response, now_s, error)
            else:
                self._fail(response, now_s, str(error))
            return
        if decided is not None:
            self._carry_out(decided, self.gateway, now_s)

    def _decided(self, response: Response, entry: Entry, gateway: GatewayAdmin, now_s: float) -> Response | None:
        """With its steps written down, before any is taken; None where there is nothing left to do."""
        if response.did:
            return self._move(response, "acting", now_s, "tried again", error=None)
        found = plan(entry, gateway.state(), response.target)
        holder = self._holder(response, found.targets)
        if holder is not None:
            what = f"in force already by {holder.id}"
            self._move(response, "acted", now_s, what, joined=holder.id, targets=found.targets, error=None)
            return None
        return self._move(
            response, "acting", now_s, "; ".join(map(str, found.did)), targets=found.targets, did=found.did,
            undo=found.undo, asked=response.action in ONE_WAY, error=None,
        )  # fmt: skip

    def _carry_out(self, response: Response, gateway: GatewayAdmin, now_s: float) -> None:
        after: Mapping[str, Any] = {}
        done = 0
        try:
            for step in response.did:
                after = gateway.change(step)
                done += 1
        except ResponseError as error:
            if done:
                why = f"only {done} of {len(response.did)} steps: {error}"
                self._move(response, "acted", now_s, why, acted_at_s=now_s, error=why)
            elif error.retry:
                self._retry(replace(response, asked=False), now_s, error)
            else:
                self._fail(replace(response, undo=()), now_s, str(error))
            return
        if response.asked:
            self._look_after(response, after, now_s)
        else:
            self._move(response, "acted", now_s, "the gateway has done it", acted_at_s=now_s, error=None)

    def _look_after(self, response: Response, state: Mapping[str, Any], now_s: float) -> None:
        """How the restarts go that were asked for."""
        going = {one["url"]: one["restart"] for one in state["replicas"] if one["url"] in response.targets}
        failed = [f"{url}: {one['why']}" for url, one in going.items() if one and one["state"] == "failed"]
        if failed:
            self._move(response, "failed", now_s, "; ".join(failed), error="; ".join(failed), acted_at_s=now_s)
        elif any(one and one["state"] == "running" for one in going.values()):
            with self._lock:
                self._keep(replace(response, retry_at_s=now_s + TICK_S, acted_at_s=now_s))
        else:
            over: State = "over" if response.ended else "acted"
            self._move(response, over, now_s, "restarted", acted_at_s=now_s, error=None)

    def _holder(self, response: Response, targets: Sequence[str]) -> Response | None:
        """Another response that does the same to any of the same targets and is in force."""
        for one in self.all():
            same = one.id != response.id and one.action == response.action and one.state == "acted" and one.undo
            if same and (set(one.targets) & set(targets) or not targets):
                return one
        return None

    def _take_back(self, response: Response, now_s: float, *, by_hand: bool = False) -> None:
        """Undo it, unless another firing still wants the same: then that one has it from now on.

        What is undone by hand is undone for all of them.
        """
        with self._lock:
            heirs = [one for one in self.all() if one.joined == response.id and one.state == "acted"]
            if not by_hand and heirs:
                first, *others = heirs
                self._keep(replace(first, did=response.did, undo=response.undo, joined=None))
                for one in others:
                    self._keep(replace(one, joined=first.id))
                self._keep(response.moved("undone", now_s, f"stays in force for {first.id}", undo=()))
                return
        try:
            if self.gateway is None:
                raise ResponseError("no gateway is configured any more", retry=True)
            for step in response.undo:
                self.gateway.change(step)
        except ResponseError as error:
            self._retry(response, now_s, error)
            return
        self._move(response, "undone", now_s, "taken back: " + "; ".join(map(str, response.undo)), error=None)
        for one in heirs:
            self._move(one, "undone", now_s, f"taken back with {response.id}")

    def _hold(self, response: Response, now_s: float, why: str, until_s: float) -> None:
        if response.error == why:
            with self._lock:
                self._keep(replace(response, retry_at_s=until_s))
        else:
            self._move(response, "held", now_s, why, error=why, retry_at_s=until_s)

    def _retry(self, response: Response, now_s: float, error: ResponseError) -> None:
        """Leave it for later: an act waits, held; what is to be taken back stays in force until it is."""
        state: State = "acted" if response.state == "acted" else "held"
        again_s = now_s + min(FIRST_RETRY_S * 2**response.failures, LONGEST_RETRY_S)
        failures = min(response.failures + 1, 16)
        if response.error == str(error) and response.state == state:
            with self._lock:
                self._keep(replace(response, retry_at_s=again_s, failures=failures))
        else:
            self._move(response, state, now_s, str(error), error=str(error), retry_at_s=again_s, failures=failures)

    def _fail(self, response: Response, now_s: float, why: str) -> None:
        self._move(response, "failed", now_s, why, error=why)

    def _move(self, response: Response, state: State, now_s: float, what: str, **changes: Any) -> Response | None:
        """The moved response, or None where somebody moved it meanwhile (an alert that ended is taken along)."""
        with self._lock:
            present = self._all.get(response.id)
            if present is None or present.state != response.state:
                return None
            moved = replace(response, ended=present.ended).moved(state, now_s, what, **changes)
            if moved.ended and moved.state in ("held", "failed") and not moved.undo:
                moved = moved.moved("over", now_s, "the alert is over")
            return self._keep(_to_take_back(moved, now_s) if moved.ended else moved)

    def _keep(self, response: Response) -> Response:
        """Write it down, tell of the change, and forget the oldest that have ended."""
        with self._lock:
            before = self._all.get(response.id)
            self._all[response.id] = response
            ended = sorted((one for one in self._all.values() if one.state in ENDED), key=lambda one: one.changed_at_s)
            old = [one.id for one in ended[:-KEPT]]
            for name in old:
                del self._all[name]
            try:
                self._book.save_responses([response], old)
            except StateError as error:
                _log.error("response %s (%s) would be forgotten by a restart: %s", response.id, response.name, error)
            self._tell(response, 0 if before is None else len(before.log))
        self._wake.set()
        return response

    def _tell(self, response: Response, told: int) -> None:
        """Log, count and journal the lines of its log after the first ``told``."""
        what = {
            "id": response.id,
            "response": response.name,
            "alertname": response.alertname,
            "labels": dict(response.labels),
            "targets": list(response.targets),
        }
        for line in response.log[told:]:
            shown = (response.id, response.name, response.alertname, line.state, line.what, line.by)
            _log.warning("response %s: %s for %s is %s: %s (%s)", *shown)
            self._tally(response, line.state)
            self._journal(what | log_json(line))


def _to_take_back(response: Response, now_s: float) -> Response:
    """What may have been done before its alert ended (the gateway's answer was lost) counts as done."""
    if response.state != "held" or not response.undo:
        return response
    return response.moved("acted", now_s, "the alert is over; it may have been done, so it is taken back")
