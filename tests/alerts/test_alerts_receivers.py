"""Slack, PagerDuty and email, against servers of the test's own."""

import socketserver
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path

import httpx
import orjson
import pytest

from alerts.alert import Alert
from alerts.dispatch import Bundle, News
from alerts.errors import DeliveryError
from alerts.mail import Mail
from alerts.message import Links, Message, Receiver, bundle_messages
from alerts.notify import Notifier
from alerts.server import create_service
from alerts.settings import AlertsSettings
from alerts.state import State
from alerts.telemetry import Telemetry
from collector.client import Client
from collector.model.errors import ConfigError

LINKS = Links("http://prom:9090/", "http://loadline:8050")
SLACK = Receiver("slack", "incoming webhook", "https://hooks.slack/T/secret")
PAGER = Receiver("pagerduty", "https://pd/v2/enqueue", "routing-key")
EMAIL = Receiver("email", "mail:25 to a@x, b@x")


def alert(instance: str = "a", severity: str = "page", resolved_at_s: float | None = None) -> Alert:
    return Alert(
        labels=(("alertname", "Down"), ("instance", instance), ("severity", severity)),
        annotations=(("remedy", "restart <it> & wait"), ("summary", f"{instance} is down")),
        value=0.0,
        active_at_s=0.0,
        state="firing" if resolved_at_s is None else "inactive",
        fired_at_s=60.0,
        resolved_at_s=resolved_at_s,
    )


def told(receiver: Receiver, *alerts: Alert, labels: tuple = (("alertname", "Down"),)) -> list[Message]:
    bundle = Bundle(labels, tuple(News(one, "up == 0") for one in alerts))
    return bundle_messages([bundle], [receiver], LINKS, 120.0)


class Taker(httpx.BaseTransport):
    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(202)


def delivered(receiver: Receiver, *alerts: Alert) -> list[tuple[str, dict]]:
    taker, state = Taker(), State(None)
    notifier = Notifier(receiver, state, Telemetry(), httpx.Client(transport=taker))
    notifier.put(told(receiver, *alerts))
    while notifier.deliver(120.0):
        pass
    return [(str(request.url), orjson.loads(request.content)) for request in taker.requests]


def test_slack_gets_one_message_a_group_with_an_attachment_an_alert():
    ((url, body),) = delivered(SLACK, alert("a"), alert("b", resolved_at_s=120.0))
    assert url == "https://hooks.slack/T/secret"
    assert body["text"] == "[FIRING] Down: a is down"
    firing, resolved = body["attachments"]
    assert (firing["title"], firing["title_link"]) == ("a is down", "http://loadline:8050")
    assert "restart &lt;it&gt; &amp; wait" in firing["text"]
    assert firing["color"] != resolved["color"]


def test_pagerduty_gets_one_incident_a_group_and_its_end_under_the_same_key():
    ((url, first),) = delivered(PAGER, alert("a"))
    ((_, both),) = delivered(PAGER, alert("a", "ticket"), alert("b"))
    ((_, end),) = delivered(PAGER, alert("a", resolved_at_s=120.0), alert("b", resolved_at_s=120.0))
    assert url == "https://pd/v2/enqueue"
    assert [one["event_action"] for one in (first, both, end)] == ["trigger", "trigger", "resolve"]
    assert first["dedup_key"] == both["dedup_key"] == end["dedup_key"]
    assert first["routing_key"] == "routing-key"
    assert first["payload"]["summary"] == "Down: a is down"
    assert (first["payload"]["severity"], first["payload"]["source"]) == ("critical", "a")
    assert first["payload"]["custom_details"]["remedy"] == "restart <it> & wait"
    assert (both["payload"]["summary"], both["payload"]["severity"]) == ("Down (2)", "critical")
    details = both["payload"]["custom_details"]
    assert (details["num_firing"], details["num_resolved"]) == ("2", "0")
    assert details["firing"].splitlines() == [
        '{alertname="Down", instance="a", severity="ticket"} a is down',
        '{alertname="Down", instance="b", severity="page"} b is down',
    ]


def test_groups_have_incidents_of_their_own():
    pages = [orjson.loads(told(PAGER, alert(), labels=(("pool", pool),))[0].body) for pool in ("x", "y")]
    assert pages[0]["dedup_key"] != pages[1]["dedup_key"]


def test_no_secret_is_kept_or_shown():
    for receiver in (SLACK, PAGER):
        assert receiver.secret not in repr(receiver)
        assert all(receiver.secret not in repr(message) for message in told(receiver, alert()))


class Post(socketserver.StreamRequestHandler):
    """Enough of SMTP to take a mail; ``refuse`` answers RCPT with that line."""

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, PostOffice)
        self.wfile.write(b"220 test\r\n")
        while line := self.rfile.readline():
            word = line.split()[0].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = []
                while (text := self.rfile.readline()) != b".\r\n":
                    lines.append(text)
                server.mails.append(b"".join(lines))
                self.wfile.write(b"250 taken\r\n")
            elif word == b"RCPT" and server.refuse:
                self.wfile.write(server.refuse)
            elif word == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 ok\r\n")


class PostOffice(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Post)
        self.mails: list[bytes] = []
        self.refuse = b""


@pytest.fixture
def office() -> Iterator[PostOffice]:
    with PostOffice() as office:
        thread = threading.Thread(target=office.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield office
        office.shutdown()
        thread.join(timeout=5)


def mail_to(office: PostOffice) -> Mail:
    return Mail("127.0.0.1", office.server_address[1], "loadline@x", ("a@x", "b@x"))


def test_a_mail_says_what_fires_since_when_and_what_to_do(office: PostOffice):
    notifier = Notifier(EMAIL, State(None), Telemetry(), httpx.Client(), mail_to(office))
    notifier.put(told(EMAIL, alert()))
    assert notifier.deliver(120.0)
    (raw,) = office.mails
    mail = message_from_bytes(raw, policy=policy.default)
    assert (mail["Subject"], mail["From"], mail["To"]) == ("[FIRING] Down: a is down", "loadline@x", "a@x, b@x")
    text = mail.get_content()
    for line in ("firing: Down", "remedy: restart <it> & wait", "since: 1970-01-01T00:01:00Z", "http://loadline:8050"):
        assert line in text


@pytest.mark.parametrize(("refusal", "retry"), [(b"451 later\r\n", True), (b"550 never\r\n", False)])
def test_a_refused_mail_is_tried_again_only_if_that_may_help(office: PostOffice, refusal: bytes, retry: bool):
    office.refuse = refusal
    with pytest.raises(DeliveryError) as caught:
        mail_to(office).send("s", "t")
    assert caught.value.retry is retry


def test_a_mail_server_that_is_away_is_tried_again():
    state = State(None)
    mail = Mail("127.0.0.1", 9, "loadline@x", ("a@x",))
    notifier = Notifier(EMAIL, state, Telemetry(), httpx.Client(), mail)
    notifier.put([Message(EMAIL.name, "k", b'{"subject": "s", "text": "t"}')])
    assert not notifier.deliver(0.0)
    assert notifier.waiting == 1


def test_settings_name_receivers_by_files_that_hold_their_secrets(tmp_path: Path):
    (tmp_path / "slack").write_text("https://hooks.slack/T/secret\n")
    (tmp_path / "key").write_text("routing-key\n")
    (tmp_path / "notify.yml").write_text("group_by: [pool]")
    settings = AlertsSettings(
        slack_url_file=tmp_path / "slack",
        pagerduty_key_file=tmp_path / "key",
        email_to=("a@x",),
        notify_config=tmp_path / "notify.yml",
    )
    with Client("http://127.0.0.1:9") as client, httpx.Client() as http:
        service = create_service(settings, client, State(None), http)
        page = service.manager.metrics_page().decode()
        (tmp_path / "slack").write_text("not an address")
        with pytest.raises(ConfigError, match="holds no address"):
            create_service(settings, client, State(None), http)
        with pytest.raises(ConfigError, match="cannot be read"):
            create_service(AlertsSettings(notify_config=tmp_path / "no"), client, State(None), http)
    assert "secret" not in page
    assert "routing-key" not in page
    for kind in (
        "slack incoming webhook #",
        "pagerduty https://events.pagerduty.com/v2/enqueue #",
        "email 127.0.0.1:25",
    ):
        assert f'receiver="{kind}' in page
