import json

import httpx
import pytest

from collector.client import Client
from collector.model.matchers import Matcher
from dashboard import alarms
from dashboard.access import Access
from dashboard.alerting import Alerting
from dashboard.app import create_app
from dashboard.errors import ActionRefused, AlertingError
from dashboard.security import CSRF_COOKIE, CSRF_HEADER
from dashboard.services import Services
from dashboard.source import Source
from planner.slo import Slo

NOW_S = 1_795_210_200
LABELS = {"alertname": "HighTTFT", "severity": "page", "pool": "llama-70b"}
RULES = [
    {
        "name": "service", "file": "service.yml", "rules": [
            {
                "name": "HighTTFT", "type": "alerting", "query": "up > 0", "duration": 300, "state": "firing",
                "health": "ok", "labels": {"severity": "page"},
                "annotations": {"summary": "first tokens are late", "causes": "long prompts", "query": "sum(up)",
                                "remedy": "add a replica"},
                "alerts": [{"labels": LABELS, "state": "firing", "value": "1.2e+00", "activeAt": "2026-11-20T21:20:00Z",
                            "annotations": {"summary": "llama-70b: first tokens are late"}}],
            },
            {
                "name": "HighITL", "type": "alerting", "query": "up > 1", "duration": 300, "state": "pending",
                "health": "ok", "labels": {}, "annotations": {},
                "alerts": [{"labels": {"alertname": "HighITL", "pool": "qwen-32b"}, "state": "pending", "value": "0.06",
                            "activeAt": "2026-11-20T21:28:00Z", "annotations": {}}],
            },
            {"name": "Broken", "type": "alerting", "query": "nope(", "duration": 0, "state": "inactive",
             "health": "err", "lastError": "unknown function", "alerts": []},
            {"name": "recorded", "type": "recording", "query": "up"},
        ],
    },
    {
        "name": "batch", "file": "batch.yml", "rules": [
            {"name": "HighITL", "type": "alerting", "query": "up > 2", "duration": 0, "state": "inactive",
             "health": "ok", "labels": {}, "annotations": {}, "alerts": []},
            {"name": "HighITL", "type": "alerting", "query": "up > 3", "duration": 0, "state": "inactive",
             "health": "ok", "labels": {}, "annotations": {}, "alerts": []},
        ],
    },
]  # fmt: skip
RESPONSE = {
    "id": "6f1d0c2ab3e49d57", "response": "tighten_limits", "action": "limits", "mode": "assisted", "state": "waiting",
    "alertname": "HighTTFT", "group": "service", "fingerprint": "0f", "labels": LABELS, "summary": "", "error": None,
    "targets": ["http://10.0.0.7:8000"], "firedAt": "2026-11-20T21:25:00Z", "changedAt": "2026-11-20T21:25:00Z",
    "by": None, "did": [], "undo": [], "allowed": ["confirm", "dismiss"],
    "log": [{"at": "2026-11-20T21:25:00Z", "state": "waiting", "by": "loadline", "what": "limits"}],
}  # fmt: skip
MOVES = {"confirm": ("acted", ["undo"]), "dismiss": ("dismissed", []), "undo": ("undone", [])}


class FakeAlerts(httpx.BaseTransport):
    """The alerts process: keeps silences and one response as its contract says; ``old`` has no history or responses."""

    def __init__(self, *, old: bool = False) -> None:
        self.old, self.dead = old, False
        self.silences: list[dict] = []
        self.response = dict(RESPONSE)
        self.tokens: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.dead:
            raise httpx.ConnectError("connection refused", request=request)
        self.tokens.append(request.headers.get("authorization", ""))
        path, body = request.url.path, request.content
        if path == "/api/v2/silences":
            return self._silences(body)
        if path.startswith("/api/v2/silence/"):
            for one in self.silences:
                one["status"] = {"state": "expired"}
            return httpx.Response(200, json={})
        data = self._data(path, body)
        if data is None:
            return httpx.Response(404, json={"status": "error", "errorType": "not_found", "error": "no such thing"})
        return httpx.Response(200, json={"status": "success", "data": data})

    def _silences(self, body: bytes) -> httpx.Response:
        if body:
            told = json.loads(body)
            self.silences.append({**told, "id": f"s{len(self.silences)}", "status": {"state": "active"}})
            return httpx.Response(200, json={"silenceID": self.silences[-1]["id"]})
        return httpx.Response(200, json=self.silences)

    def _data(self, path: str, body: bytes) -> object:
        if path == "/api/v1/rules":
            return {"groups": RULES}
        if path == "/api/v1/history" and not self.old:
            return {"changes": [{"at": "2026-11-20T21:25:00Z", "state": "firing", "alertname": "HighTTFT",
                                 "labels": LABELS, "summary": "first tokens are late", "value": "1.2"}]}  # fmt: skip
        if path == "/api/v1/rules/check":
            return self._check(body.decode())
        if path == "/api/v1/responses" and not self.old:
            return {"responses": [self.response], "catalogue": [], "gateway": "http://gateway.test"}
        wish = path.rpartition("/")[2]
        if wish in self.response["allowed"]:
            state, allowed = MOVES[wish]
            self.response |= {"state": state, "allowed": allowed, "by": json.loads(body)["by"]}
            return self.response
        return None

    @staticmethod
    def _check(text: str) -> dict:
        found = {"valid": True, "verdict": "", "rules": 1, "problems": [], "warnings": [], "findings": [],
                 "preview": [{"rule": "Mine", "line": 1, "fired": 3, "pendingOnly": 2, "firingSeconds": 540.0,
                              "episodes": [], "error": None}], "previewError": None}  # fmt: skip
        if "for: 5 mins" in text:
            problem = {"line": 6, "column": 14, "message": "a duration looks like 5m"}
            return found | {"valid": False, "problems": [problem], "preview": None}
        return found


@pytest.fixture
def alerts_process():
    return FakeAlerts()


@pytest.fixture
def alerting(alerts_process):
    made = Alerting("http://alerts.test", "t0ken", transport=alerts_process)
    yield made
    made.close()


@pytest.fixture
def boxes_of(source, page_of, alerting):
    return lambda search="": page_of(source, "al-stamp", services=Services(alerting)).ask(search)


def test_what_is_active_stands_with_its_clock_summary_and_value(boxes_of, read, alerts_process):
    boxes = boxes_of()
    told = read(boxes["al-active"]["children"])
    assert "Firing HighTTFT pool=llama-70b severity=page llama-70b: first tokens are late 10 m 1.20 Silence" in told
    assert "Pending HighITL pool=qwen-32b 2 m of 5 m 0.060 Silence" in told
    assert read(boxes["al-active-sub"]["children"]) == "1 firing, 1 pending"
    assert set(alerts_process.tokens) == {"Bearer t0ken"}


def test_every_rule_stands_with_its_health(boxes_of, read):
    boxes = boxes_of()
    assert "Inactive Broken service at once – unknown function" in read(boxes["al-rules"]["children"])
    assert read(boxes["al-rules-sub"]["children"]) == "5 rules, 1 failing"


def test_an_alert_is_explained_with_its_first_query_and_its_runbook(boxes_of, read):
    told = read(boxes_of("?rule=HighTTFT")["al-rule"]["children"])
    assert "Causes long prompts" in told
    assert "First query sum(up) Open in Explore" in told
    assert "Compare the mean queue time" in told


def test_rules_of_one_name_are_told_apart_by_their_group(boxes_of, read):
    boxes = boxes_of("?rule=batch/HighITL")
    told = read(boxes["al-rule"]["children"])
    assert ("up > 1" in told, "up > 2" in told, "up > 3" in told) == (False, True, True)
    assert read(boxes["al-rule-sub"]["children"]) == "HighITL, group batch"
    links = json.dumps([boxes["al-rules"]["children"], boxes["al-active"]["children"]])
    assert "rule=batch%2FHighITL" in links and "rule=service%2FHighITL" in links


def test_history_and_the_strip_come_from_the_process_and_from_the_source(boxes_of, read):
    boxes = boxes_of()
    assert "21:25 Firing HighTTFT first tokens are late" in read(boxes["al-changes"]["children"])
    assert "TTFTBudgetBurnFast" in read(boxes["al-line"]["children"])


def test_a_process_that_knows_no_responses_is_no_failure(source, page_of, read):
    with_old = Services(Alerting("http://alerts.test", transport=FakeAlerts(old=True)))
    boxes = page_of(source, "al-stamp", services=with_old).ask()
    assert "No responses: the alerts process answers 404" in read(boxes["al-responses"]["children"])
    assert "HighTTFT" in read(boxes["al-active"]["children"])
    with_old.close()


def test_without_an_alerts_process_the_page_says_what_waits(source, page_of, read):
    boxes = page_of(source, "al-stamp").ask()
    assert "served without an alerts process" in read(boxes["al-note"]["children"])
    assert "No silences" in read(boxes["al-silences"]["children"])


def test_a_process_that_does_not_answer_is_named(alerts_process, boxes_of, read):
    alerts_process.dead = True
    assert "http://alerts.test does not answer" in read(boxes_of()["al-note"]["children"])


def test_answers_that_are_none_of_an_alerts_process_are_refused():
    plain = httpx.MockTransport(lambda request: httpx.Response(200, json=["not", "ours"]))
    with pytest.raises(AlertingError, match="no alerts process"):
        Alerting("http://alerts.test", transport=plain).rules()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('alertname="HighTTFT"', [Matcher("alertname", "=", "HighTTFT")]),
        (' a != "x, y" ,b=~"p|q",', [Matcher("a", "!=", "x, y"), Matcher("b", "=~", "p|q")]),
        (r'a="say \"x\""', [Matcher("a", "=", 'say "x"')]),
    ],
)
def test_matchers_are_read_as_they_are_typed(text, found):
    assert alarms.read_matchers(text) == found
    assert alarms.read_matchers(alarms.written(found)) == found


@pytest.mark.parametrize("text", ["", "pool", "pool=chat", 'pool="chat', 'a="x" b="y"', 'a=~"("'])
def test_matchers_that_are_none_are_refused(text):
    with pytest.raises(ActionRefused, match="matcher"):
        alarms.read_matchers(text)


@pytest.mark.parametrize(
    ("hours", "author", "comment", "why"),
    [("0", "ada", "x", "hours"), ("soon", "ada", "x", "hours"), ("nan", "ada", "x", "hours"), ("1", " ", "x", "author"),
     ("1", "ada", "", "comment"), ("9999", "ada", "x", "hours")],
)  # fmt: skip
def test_a_silence_needs_an_end_an_author_and_a_comment(hours, author, comment, why):
    with pytest.raises(ActionRefused, match=why):
        alarms.silence_body('a="b"', hours, author, comment, NOW_S)


def test_an_alert_is_pending_until_it_fires():
    waits, fires = [None, 1, 1, None, None, 1], [None, None, None, 1, 1, None]
    found = [(one.start, one.end, one.state) for one in alarms.stretches(waits, fires)]
    assert found == [(1, 3, "pending"), (3, 5, "firing"), (5, 6, "pending")]


@pytest.mark.parametrize("name", ["../errors", "HighTTFT.md", "", "a/b", "NoSuchAlert"])
def test_no_file_but_a_runbook_is_read(name):
    assert alarms.runbook(name) is None


def acting(source, alerting, access, headers, name, **fields):
    client = create_app(source, Slo(), access=access, services=Services(alerting)).server.test_client()
    client.get("/", headers=headers)
    csrf = {CSRF_HEADER: client.get_cookie(CSRF_COOKIE).value}
    return client.post(f"/do/{name}", json=fields, headers=headers | csrf)


OPERATOR = {"Authorization": "Bearer change"}
VIEWER = {"Authorization": "Bearer read"}


def test_operators_silence_and_viewers_do_not(source, alerting, alerts_process):
    told = {"matchers": 'pool="chat"', "hours": "1", "comment": "maintenance"}
    access = Access("read", "change")
    assert acting(source, alerting, access, VIEWER, "silence", **told).status_code == 403
    assert alerts_process.silences == []
    assert acting(source, alerting, access, OPERATOR, "silence", **told).get_json() == {"said": "Silenced"}
    assert alerts_process.silences[0]["createdBy"] == "operator"


def test_a_response_is_confirmed_once(source, alerting, alerts_process):
    wish = {"id": RESPONSE["id"], "wish": "confirm"}
    assert acting(source, alerting, Access("", "change"), OPERATOR, "respond", **wish).get_json() == {
        "said": "tighten_limits: In force"
    }
    assert alerts_process.response["by"] == "operator"
    again = acting(source, alerting, Access("", "change"), OPERATOR, "respond", **wish)
    assert (again.status_code, "404" in again.get_json()["error"]) == (404, True)


@pytest.mark.parametrize("fields", [{"id": "../../x", "wish": "confirm"}, {"id": "a", "wish": "destroy"}, {}])
def test_a_wish_that_is_none_asks_nothing(source, alerting, alerts_process, fields):
    assert acting(source, alerting, Access(), {}, "respond", **fields).status_code == 400
    assert alerts_process.tokens == []


@pytest.mark.browser
def test_an_alert_is_silenced_a_response_confirmed_and_a_rule_tried(page, troubled_server, serve, check_sound):
    from playwright.sync_api import expect

    process = FakeAlerts()
    alerting = Alerting("http://alerts.test", transport=process)
    source = Source(Client("http://prometheus.test", transport=troubled_server), lambda slo, at_s: (),
                    clock=lambda: float(NOW_S))  # fmt: skip
    page.goto(serve(create_app(source, Slo(), services=Services(alerting), path_prefix="/load/")) + "/load/alerts")
    row = page.locator("#al-active tbody tr", has_text="HighTTFT")
    row.get_by_role("button", name="Silence").click()
    expect(page.locator("#al-matchers")).to_have_value('alertname="HighTTFT", pool="llama-70b", severity="page"')
    page.locator("#al-author").fill("ada")
    page.locator("#al-comment").fill("known")
    page.locator("#al-comment").press("Enter")
    expect(page.locator("#said")).to_have_text("Silenced")
    assert process.silences[0]["createdBy"] == "ada"

    page.locator("[data-post=respond]", has_text="Confirm").click()
    expect(page.locator("#said")).to_have_text("tighten_limits: In force")

    row.get_by_role("link", name="HighTTFT").click()
    expect(page.locator("#al-rule .rb h1")).to_have_text("HighTTFT")
    page.get_by_role("button", name="Edit and try").click()
    expect(page.locator("#al-yaml")).to_have_value(alarms.rules_of(RULES)[0].as_yaml())
    page.locator("#al-check").click()
    expect(page.locator("#al-checked tbody td").nth(1)).to_have_text("3")
    page.locator("#al-yaml").fill("for: 5 mins")
    page.locator("#al-check").click()
    expect(page.locator("#al-checked .pr")).to_have_text("6:14: a duration looks like 5m")
    check_sound()
    source.close()
    alerting.close()
