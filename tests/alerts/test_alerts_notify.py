from collections import Counter

import httpx
import orjson
import pytest

from alerts.alert import Alert
from alerts.dispatch import Bundle, News
from alerts.group import Notice
from alerts.message import Links, Message, Receiver, alertmanager_messages, bundle_messages
from alerts.notify import BATCH_ALERTS, MAX_WAITING, Notifier
from alerts.rule import AlertRule
from alerts.state import State

WEBHOOK = Receiver("webhook", "http://hook/notify")
MANAGER = Receiver("alertmanager", "http://am/prefix/")
LINKS = Links("http://prom:9090/", "http://loadline:8050")
RULE = AlertRule("Down", "up == 0")


def alert(instance: str = "a", *, resolved_at_s: float | None = None) -> Alert:
    return Alert(
        labels=(("alertname", "Down"), ("instance", instance), ("severity", "page")),
        annotations=(("summary", "down"),),
        value=0.0,
        active_at_s=0.0,
        state="firing" if resolved_at_s is None else "inactive",
        fired_at_s=60.5,
        resolved_at_s=resolved_at_s,
    )


class Taker(httpx.BaseTransport):
    """A receiver in memory: answers with the next of ``answers`` (the last for good), keeps what it took."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        self.requests.append(request)
        return httpx.Response(answer, text="thanks" if answer < 300 else "no")

    @property
    def bodies(self) -> list:
        return [orjson.loads(request.content) for request in self.requests]


class Counted(Counter):
    """Counts of sent, failed and dropped."""

    def sent(self, receiver: str, count: int) -> None:
        self["sent"] += count

    def failed(self, receiver: str, count: int) -> None:
        self["failed"] += count

    def dropped(self, receiver: str, count: int) -> None:
        self["dropped"] += count


def notifier(receiver: Receiver, taker: Taker, state: State | None = None) -> tuple[Notifier, Counted]:
    tally = Counted()
    return Notifier(receiver, state or State(None), tally, httpx.Client(transport=taker)), tally


def test_a_webhook_gets_alertmanagers_payload_version_4():
    news = (News(alert("a"), RULE.expr), News(alert("b", resolved_at_s=120.0), RULE.expr))
    (message,) = bundle_messages([Bundle((("alertname", "Down"),), news)], [WEBHOOK, MANAGER], LINKS, 120.0)
    payload = orjson.loads(message.body)
    assert set(payload) == {
        "alerts", "commonAnnotations", "commonLabels", "externalURL", "groupKey", "groupLabels", "receiver", "status",
        "truncatedAlerts", "version",
    }  # fmt: skip
    assert (payload["version"], payload["status"], payload["groupLabels"]) == ("4", "firing", {"alertname": "Down"})
    assert payload["groupKey"] == '{}:{alertname="Down"}'
    assert payload["commonLabels"] == {"alertname": "Down", "severity": "page"}
    firing, resolved = payload["alerts"]
    assert (firing["status"], firing["startsAt"], firing["endsAt"]) == (
        "firing", "1970-01-01T00:01:00.5Z", "0001-01-01T00:00:00Z",
    )  # fmt: skip
    assert (resolved["status"], resolved["endsAt"]) == ("resolved", "1970-01-01T00:02:00Z")
    assert firing["generatorURL"] == "http://prom:9090/api/v1/query?query=up+%3D%3D+0"
    assert len(firing["fingerprint"]) == 16
    assert firing["fingerprint"] != resolved["fingerprint"]


def test_an_alertmanager_hears_all_that_is_due():
    (message,) = alertmanager_messages([Notice(RULE, (alert(),), 300.0)], [WEBHOOK, MANAGER], LINKS)
    assert message.receiver == MANAGER.name
    assert orjson.loads(message.body) == {
        "labels": {"alertname": "Down", "instance": "a", "severity": "page"},
        "annotations": {"summary": "down"},
        "startsAt": "1970-01-01T00:01:00.5Z",
        "endsAt": "1970-01-01T00:05:00Z",
        "generatorURL": "http://prom:9090/api/v1/query?query=up+%3D%3D+0",
    }


def test_messages_are_delivered_in_order_and_forgotten():
    taker, state = Taker(200), State(None)
    queue, tally = notifier(WEBHOOK, taker, state)
    posts = [Message(WEBHOOK.name, str(number), b'{"n":%d}' % number) for number in range(3)]
    state.save("g", 0, [], posts)
    queue.put([*posts, Message("another", "x", b"{}")])
    while queue.deliver(0):
        pass
    assert [body["n"] for body in taker.bodies] == [0, 1, 2]
    assert (queue.waiting, state.outbox(WEBHOOK.name), tally) == (0, [], {"sent": 3})
    assert taker.requests[0].headers["content-type"] == "application/json"


def test_an_alertmanager_gets_arrays_and_only_the_latest_of_each_alert():
    taker = Taker(200)
    queue, _ = notifier(MANAGER, taker)
    queue.put([Message(MANAGER.name, "a", b'"old"'), Message(MANAGER.name, "b", b'"b"')])
    queue.put([Message(MANAGER.name, "a", b'"new"')])
    assert queue.deliver(0)
    assert taker.bodies == [["b", "new"]]
    assert str(taker.requests[0].url) == "http://am/prefix/api/v2/alerts"
    queue.put([Message(MANAGER.name, str(number), b"1") for number in range(BATCH_ALERTS + 1)])
    queue.deliver(0)
    assert (len(taker.bodies[1]), queue.waiting) == (BATCH_ALERTS, 1)


def test_a_webhook_can_tell_a_message_that_is_sent_again_because_its_answer_was_lost():
    taker = Taker(200)
    taker.answers = [503, 200]
    queue, _ = notifier(WEBHOOK, taker)
    queue.put([Message(WEBHOOK.name, "k1", b"{}"), Message(WEBHOOK.name, "k2", b"{}")])
    queue.deliver(0)
    while queue.deliver(1.0):
        pass
    assert [request.headers["idempotency-key"] for request in taker.requests] == ["k1", "k1", "k2"]


@pytest.mark.parametrize("trouble", [503, 429, httpx.ConnectError("refused"), httpx.ReadTimeout("slow")])
def test_what_is_not_taken_waits_longer_each_time(trouble: int | Exception):
    taker = Taker(trouble, trouble, 200)
    queue, tally = notifier(WEBHOOK, taker)
    queue.put([Message(WEBHOOK.name, "k", b"{}")])
    assert not queue.deliver(0)
    assert not queue.deliver(0.9)
    assert tally["failed"] == 1
    assert not queue.deliver(1.0)
    assert not queue.deliver(2.9)
    assert queue.deliver(3.0)
    assert tally == {"failed": 2, "sent": 1}


def test_the_wait_grows_to_a_minute_and_no_further():
    queue, tally = notifier(WEBHOOK, Taker(500))
    queue.put([Message(WEBHOOK.name, "k", b"{}")])
    now_s, waits = 0.0, []
    for _ in range(9):
        queue.deliver(now_s)
        begun = now_s
        while tally["failed"] == len(waits) + 1:
            now_s += 1.0
            queue.deliver(now_s)
        waits.append(now_s - begun)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_what_a_receiver_refuses_for_good_is_given_up_and_the_rest_goes_on():
    state = State(None)
    queue, tally = notifier(WEBHOOK, Taker(400, 200), state)
    posts = [Message(WEBHOOK.name, "bad", b"1"), Message(WEBHOOK.name, "good", b"2")]
    state.save("g", 0, [], posts)
    queue.put(posts)
    assert queue.deliver(0)
    assert queue.deliver(0)
    assert tally == {"failed": 1, "dropped": 1, "sent": 1}
    assert state.outbox(WEBHOOK.name) == []


def test_a_queue_that_grows_too_long_drops_its_oldest():
    queue, tally = notifier(WEBHOOK, Taker(200))
    queue.put([Message(WEBHOOK.name, str(number), b"1") for number in range(MAX_WAITING + 5)])
    assert (queue.waiting, tally["dropped"]) == (MAX_WAITING, 5)


def test_undelivered_messages_are_taken_up_by_the_next_process(tmp_path):
    first = State(tmp_path / "alerts.db")
    first.save("g", 0, [], [Message(WEBHOOK.name, "k", b'{"n":1}')])
    first.close()
    taker, second = Taker(200), State(tmp_path / "alerts.db")
    queue, _ = notifier(WEBHOOK, taker, second)
    assert queue.deliver(0)
    assert taker.bodies == [{"n": 1}]
    second.close()


def test_a_message_that_came_while_its_elder_was_under_way_stays_in_the_outbox():
    state = State(None)
    old, new = Message(MANAGER.name, "a", b'"old"'), Message(MANAGER.name, "a", b'"new"')
    state.save("g", 0, [], [old])
    state.save("g", 1, [], [new])
    state.delivered([old])
    assert state.outbox(MANAGER.name) == [new]
