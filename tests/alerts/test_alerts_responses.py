"""Responses over a gateway's admin API that is the real one, in process; clocks are the test's."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import orjson
import pytest

from alerts.api import create_app
from alerts.errors import NotAllowed, ResponseError
from alerts.group import Group
from alerts.manager import Manager
from alerts.message import Links
from alerts.responses.catalogue import STANDING, Entry, careful, read_catalogue
from alerts.responses.gateway import GatewayAdmin
from alerts.responses.journal import open_journal
from alerts.responses.responder import Responder
from alerts.responses.steps import plan
from alerts.rule import AlertRule, RuleGroup
from alerts.state import State
from alerts.telemetry import Telemetry
from alerts.writeback import Writeback
from collector.model.errors import ConfigError
from probe_engine.gateway.app import Gateway
from probe_engine.gateway.settings import GatewaySettings

A, B = "http://10.0.0.1:8000", "http://10.0.0.2:8000"
HASTE = {"cool_down": "0s", "most_per_hour": 100}


class GatewayInProcess(httpx.BaseTransport):
    """The gateway's own application; ``up`` false refuses connections, ``loses_answer`` acts and does not say so."""

    def __init__(self, **settings: object) -> None:
        self.up = True
        self.loses_answer = False
        self.changes: list[tuple[str, dict]] = []
        self._settings = GatewaySettings(upstream=(A, B), **settings)
        self.gateway = Gateway(self._settings, tokens={"admin": "secret"})

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if not self.up:
            raise httpx.ConnectError("refused")
        if request.method == "POST":
            self.changes.append((request.url.path.removeprefix("/admin/"), orjson.loads(request.content)))
        answer = asyncio.run(self._ask(request))
        if self.loses_answer:
            raise httpx.ReadTimeout("no answer")
        return answer

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        transport = httpx.ASGITransport(self.gateway)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
            given = await http.request(
                request.method, request.url.path, content=request.content, headers=dict(request.headers)
            )
            return httpx.Response(given.status_code, content=given.content, headers=dict(given.headers))

    @property
    def replicas(self) -> dict:
        return {one.name: one for one in self.gateway.fleet.replicas}


class House:
    """One life of the alerts process: one rule on ``source``, a responder, and what it tells of."""

    def __init__(
        self, source, transport: GatewayInProcess | None, catalogue: dict[str, Entry], path: Path | None = None, **words
    ) -> None:
        self.now_s = 0.0
        self.journal: list[dict] = []
        self.state = State(path)
        annotations = {"response": "tighten_limits", "summary": "it is {{ $labels.instance }}"} | words
        rule = AlertRule("Down", "up == 0", annotations=tuple(sorted(annotations.items())))
        gateway = None
        if transport is not None:
            gateway = GatewayAdmin(httpx.Client(transport=transport), "http://gateway", "secret")
        telemetry = Telemetry()
        self.responder = Responder(
            catalogue, gateway, self.state, self.journal.append, lambda: self.now_s, lambda alert, now_s: self.muted,
            telemetry.responded,
        )  # fmt: skip
        writeback = Writeback(source.write)
        self.muted = False
        self.group = Group(RuleGroup("g", "rules.yml", (rule,)), source, writeback, interval_s=30, timer=lambda: 0.0)
        self.manager = Manager(
            [self.group], state=self.state, notifiers=[], telemetry=telemetry, writeback=writeback,
            links=Links("s", "e"), responder=self.responder, now=lambda: self.now_s,
        )  # fmt: skip
        self.manager.restore()

    def at(self, now_s: float) -> "House":
        self.now_s = now_s
        self.manager.evaluate(self.group, now_s)
        while self.responder.work(now_s):
            pass
        return self

    def states(self) -> list[str]:
        return [one.state for one in self.responder.all()]

    def the(self):
        (found,) = self.responder.all()
        return found


def entry(action: str, mode: str = "automatic", **more: object) -> Entry:
    return Entry(action=action, mode=mode, **(HASTE | more))


@pytest.fixture
def firing(source) -> Callable[..., None]:
    """Which instances fire from now on."""

    def fire(*instances: str) -> None:
        source.answer("up == 0", lambda _: dict.fromkeys(instances, 0.0))

    fire("10.0.0.1:8000")
    return fire


def test_an_automatic_response_acts_once_for_a_firing_and_is_taken_back_when_it_ends(source, firing):
    transport = GatewayInProcess(model_concurrency=8)
    house = House(source, transport, {"tighten_limits": entry("limits")})
    house.at(0).at(30).at(60)
    assert transport.changes == [("limits", {"model_concurrency": 4})]
    assert transport.gateway.limiter.limits.model_concurrency == 4
    assert house.states() == ["acted"]
    firing()
    house.at(90).at(120)
    assert transport.gateway.limiter.limits.model_concurrency == 8
    assert house.states() == ["undone"]
    assert [line["state"] for line in house.journal] == ["held", "acting", "acted", "undone"]


def test_responses_are_counted_by_alert_mode_and_what_came_of_them(source, firing):
    house = House(source, GatewayInProcess(), {"tighten_limits": entry("limits", set={"model_concurrency": 2})})
    house.at(0).at(30)
    firing()
    house.at(60)
    page = house.manager.metrics_page().decode().splitlines()
    name = "loadline_alerts_responses_total"
    labels = 'alertname="Down",mode="automatic",outcome="{}",response="tighten_limits"'
    for outcome in ("held", "acting", "acted", "undone"):
        assert f"{name}{{{labels.format(outcome)}}} 1.0" in page
    assert sum(line.startswith(f"{name}{{") for line in page) == 4


def test_an_assisted_response_waits_for_a_click_and_can_be_undone_by_hand(source, firing):
    transport = GatewayInProcess()
    house = House(source, transport, {"drain_replica": entry("drain", "assisted")}, response="drain_replica").at(0)
    assert house.states() == ["waiting"]
    assert transport.changes == []
    name = house.the().id
    house.responder.wish(name, "confirm", "ada")
    house.at(30)
    assert transport.replicas[A].draining
    assert not transport.replicas[B].draining
    house.responder.wish(name, "undo", "ada", "it was the network")
    assert not transport.replicas[A].draining
    house.at(60)
    assert house.states() == ["undone"]
    assert [(line.by, line.what) for line in house.the().log if line.by == "ada"] == [
        ("ada", "confirm"),
        ("ada", "undo: it was the network"),
    ]


def test_a_response_that_was_dismissed_is_not_asked_for_again_while_the_alert_fires(source, firing):
    transport = GatewayInProcess()
    house = House(source, transport, {"tighten_limits": entry("limits", "assisted")}).at(0)
    house.responder.wish(house.the().id, "dismiss", "ada")
    house.at(30).at(60)
    assert house.states() == ["dismissed"]
    with pytest.raises(NotAllowed, match="is dismissed; nothing can be asked of it, not confirm"):
        house.responder.wish(house.the().id, "confirm", "ada")
    firing()
    house.at(90)
    firing("10.0.0.1:8000")
    house.at(120)
    assert house.states() == ["waiting", "dismissed"]
    assert transport.changes == []


def test_a_human_response_only_tells_and_is_over_with_its_alert(source, firing):
    house = House(source, None, {"tighten_limits": entry("limits")}, response_mode="human").at(0)
    assert house.states() == ["told"]
    firing()
    assert house.at(30).states() == ["over"]


def test_what_waits_is_over_when_its_alert_ends(source, firing):
    house = House(source, GatewayInProcess(), {"tighten_limits": entry("limits", "assisted")}).at(0)
    firing()
    assert house.at(30).states() == ["over"]


@pytest.mark.parametrize(
    ("allowed", "wished", "counts"),
    [
        ("automatic", None, "automatic"),
        ("automatic", "assisted", "assisted"),
        ("assisted", "automatic", "assisted"),
        ("human", "automatic", "human"),
        ("automatic", "sometimes", "human"),
    ],
)
def test_the_more_careful_of_what_is_allowed_and_what_is_wished_counts(allowed, wished, counts):
    assert careful(entry("limits", allowed), wished) == counts


def test_a_silenced_alert_asks_for_nothing(source, firing):
    house = House(source, GatewayInProcess(), {"tighten_limits": entry("limits")})
    house.muted = True
    assert house.at(0).states() == []
    house.muted = False
    assert house.at(30).states() == ["acted"]


def test_a_restart_neither_forgets_nor_repeats(source, firing, tmp_path: Path):
    transport = GatewayInProcess(model_concurrency=8)
    catalogue = {"tighten_limits": entry("limits")}
    first = House(source, transport, catalogue, tmp_path / "alerts.db").at(0)
    first.state.close()
    second = House(source, transport, catalogue, tmp_path / "alerts.db").at(30)
    assert len(transport.changes) == 1
    assert second.states() == ["acted"]
    firing()
    second.at(60)
    assert transport.gateway.limiter.limits.model_concurrency == 8


def test_what_was_decided_when_the_process_died_is_carried_out_with_its_way_back(source, firing, tmp_path: Path):
    transport = GatewayInProcess(model_concurrency=8)
    catalogue = {"tighten_limits": entry("limits")}
    first = House(source, transport, catalogue, tmp_path / "alerts.db").at(0)
    acted = first.the()
    first.state.save_responses([replace(acted, state="acting", acted_at_s=None)])
    first.state.close()
    second = House(source, transport, catalogue, tmp_path / "alerts.db").at(30)
    assert transport.gateway.limiter.limits.model_concurrency == 4
    firing()
    second.at(60)
    assert transport.gateway.limiter.limits.model_concurrency == 8


def test_a_rule_that_is_gone_takes_its_response_with_it(source, firing, tmp_path: Path):
    transport = GatewayInProcess(model_concurrency=8)
    first = House(source, transport, {"tighten_limits": entry("limits")}, tmp_path / "alerts.db").at(0)
    first.responder.only((), 30)
    first.responder.work(30)
    assert transport.gateway.limiter.limits.model_concurrency == 8
    assert first.states() == ["undone"]


def test_a_cool_down_holds_the_next_act_on_the_same_target_until_it_is_over(source, firing):
    transport = GatewayInProcess(model_concurrency=8)
    house = House(source, transport, {"tighten_limits": entry("limits", cool_down="5m")}).at(0)
    firing()
    house.at(30)
    firing("10.0.0.1:8000")
    house.at(60)
    assert house.states() == ["held", "undone"]
    assert house.responder.all()[0].error == "cool-down of 5m, or 100 an hour"
    house.at(290)
    assert house.states() == ["held", "undone"]
    house.at(330)
    assert house.states() == ["acted", "undone"]


def test_no_more_acts_in_an_hour_than_the_catalogue_allows(source, firing):
    house = House(source, GatewayInProcess(model_concurrency=80), {"tighten_limits": entry("limits", most_per_hour=2)})
    for number in range(3):
        firing("10.0.0.1:8000")
        house.at(number * 60)
        firing()
        if number < 2:
            house.at(number * 60 + 30)
    assert house.states() == ["held", "undone", "undone"]
    firing("10.0.0.1:8000")
    assert house.at(3630).states() == ["acted", "undone", "undone"]


def test_a_gateway_that_is_away_is_asked_again(source, firing):
    transport = GatewayInProcess(model_concurrency=8)
    house = House(source, transport, {"tighten_limits": entry("limits")})
    transport.up = False
    house.at(0)
    assert house.states() == ["held"]
    assert house.the().error == "http://gateway/admin/state: refused"
    transport.up = True
    house.at(30)
    assert house.states() == ["acted"]
    assert house.the().error is None


def test_what_may_have_been_done_when_the_answer_was_lost_is_taken_back(source, firing):
    transport = GatewayInProcess(model_concurrency=8)
    house = House(source, transport, {"tighten_limits": entry("limits")})
    real = transport.handle_request

    def only_changes_are_lost(request: httpx.Request) -> httpx.Response:
        transport.loses_answer = request.method == "POST"
        return real(request)

    house.responder.gateway = GatewayAdmin(
        httpx.Client(transport=httpx.MockTransport(only_changes_are_lost)), "http://gateway", "secret"
    )
    house.at(0)
    assert house.states() == ["held"]
    assert transport.gateway.limiter.limits.model_concurrency == 4
    firing()
    house.at(30)
    assert transport.gateway.limiter.limits.model_concurrency == 8


def test_two_firings_that_want_the_same_share_one_act_and_the_last_takes_it_back(source, firing):
    firing("10.0.0.1:8000", "10.0.0.2:8000")
    transport = GatewayInProcess(model_concurrency=8)
    house = House(source, transport, {"tighten_limits": entry("limits")}).at(0)
    assert transport.changes == [("limits", {"model_concurrency": 4})]
    assert house.states() == ["acted", "acted"]
    first = next(one for one in house.responder.all() if one.joined is None)
    firing(*({"10.0.0.1:8000", "10.0.0.2:8000"} - {first.target}))
    house.at(30)
    assert transport.gateway.limiter.limits.model_concurrency == 4
    firing()
    house.at(60)
    assert transport.gateway.limiter.limits.model_concurrency == 8
    assert house.states() == ["undone", "undone"]


def test_the_last_replica_that_serves_is_not_taken_away(source, firing):
    transport = GatewayInProcess()
    transport.replicas[B].draining = True
    house = House(source, transport, {"open_breaker": entry("breaker")}, response="open_breaker").at(0)
    assert house.states() == ["failed"]
    assert house.the().error == f"without {A} 0 replicas would serve, and least_left is 1"
    assert house.the().allowed == ("confirm", "dismiss")


def test_a_response_that_no_catalogue_has_fails_and_says_what_there_is(source, firing):
    house = House(source, GatewayInProcess(), {"tighten_limits": entry("limits")}, response="pray").at(0)
    assert house.the().error == 'no response is called "pray"; there are tighten_limits'


def test_a_restart_is_asked_for_once_and_its_outcome_told(source, firing, tmp_path: Path):
    transport = GatewayInProcess()
    house = House(source, transport, {"restart_replica": entry("restart")}, response="restart_replica").at(0)
    assert house.states() == ["failed"]
    assert "the gateway has no --restart-command" in house.the().error
    going = {"state": "running"}
    transport.gateway._operations.restart = lambda replica: transport.gateway._operations.restarts.update(
        {replica.name: going}
    )
    house.responder.wish(house.the().id, "confirm", "ada")
    house.responder.work(1)
    assert house.states() == ["acting"]
    going.update(state="failed", why="exit code 1: no such unit")
    house.responder.work(3)
    assert house.the().error == f"{A}: exit code 1: no such unit"
    assert [change for change, _ in transport.changes].count("restart") == 2


@pytest.mark.parametrize(
    ("action", "more", "did", "undo"),
    [
        ("limits", {}, {"model_concurrency": 5}, {"model_concurrency": None}),
        ("limits", {"set": {"tokens_per_s": 100}}, {"tokens_per_s": 100}, {"tokens_per_s": None}),
        ("breaker", {}, {"replica": A, "state": "open"}, {"replica": A, "state": "closed"}),
        ("drain", {}, {"replica": A, "draining": True}, {"replica": A, "draining": False}),
        ("batch", {}, {"replica": A, "max_num_seqs": 6}, {"replica": A, "max_num_seqs": None}),
        ("batch", {"max_num_seqs": 3}, {"replica": A, "max_num_seqs": 3}, {"replica": A, "max_num_seqs": None}),
        ("traffic", {}, {A: 0.0}, {A: 2.0}),
        ("traffic", {"weights": {A: 1, B: 9}}, {A: 1, B: 9}, {A: 2.0, B: 1.0}),
    ],
)
def test_what_each_action_tells_the_gateway_and_how_it_is_taken_back(action, more, did, undo):
    replica = {"weight": 1.0, "draining": False, "healthy": True, "breaker": "closed", "batch_limit": None}
    limits = {"model_concurrency": None, "tokens_per_s": None, "burst_s": 5.0}
    state = {
        "limits": limits,
        "running_by_model": {"m": 10},
        "replicas": [replica | {"url": A, "weight": 2.0, "in_flight": 12}, replica | {"url": B, "in_flight": 0}],
    }
    found = plan(entry(action, **more), state, "10.0.0.1:8000")
    assert [step.body for step in found.did] == [did]
    assert [step.body for step in found.undo] == [undo]


def test_a_target_that_is_no_replica_is_named_with_those_there_are():
    state = {"replicas": [{"url": A}, {"url": B}]}
    with pytest.raises(
        ResponseError, match=f'the target is "c:1", which is no replica of the gateway; it has {A}, {B}'
    ):
        plan(entry("restart"), state, "c:1")


def test_the_catalogue_is_read_with_the_standing_names_actions(tmp_path: Path):
    path = tmp_path / "responses.toml"
    path.write_text(
        '[tighten_limits]\nmode = "automatic"\n\n[shed]\naction = "limits"\nset = {model_concurrency = 2}\n'
    )
    found = read_catalogue(path)
    assert (found["tighten_limits"].action, found["tighten_limits"].mode) == ("limits", "automatic")
    assert found["shed"].set == {"model_concurrency": 2}
    assert set(found) == {*STANDING, "shed"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[tighten_limits]\nmode = "always"\n', ":2: tighten_limits.mode is \"always\"; input should be 'automatic'"),
        ('[open_breaker]\ncool_down = "ten minutes"\n', ":2: open_breaker.cool_down"),
        ("[shed]\nshare = 0.5\n", ":1: shed.action is"),
        ("[shed\n", "cannot be read"),
    ],
)
def test_a_bad_catalogue_is_told_with_its_line(tmp_path: Path, text: str, reason: str):
    path = tmp_path / "responses.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_catalogue(path)
    assert reason in str(caught.value)


def test_the_journal_has_a_line_of_json_for_each_change(tmp_path: Path, source, firing):
    with open_journal(tmp_path / "responses.jsonl") as journal:
        house = House(source, GatewayInProcess(model_concurrency=8), {"tighten_limits": entry("limits")})
        house.responder._journal = journal.write
        house.at(0)
    lines = [orjson.loads(line) for line in (tmp_path / "responses.jsonl").read_bytes().splitlines()]
    assert [line["state"] for line in lines] == ["held", "acting", "acted"]
    assert lines[1]["what"] == "limits {'model_concurrency': 4}"
    assert lines[0]["alertname"] == "Down"


def ask(app, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
    async def go() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://alerts") as client:
            return await client.request(method, path, json=body, headers=headers)

    return asyncio.run(go())


def test_the_api_lists_responses_and_takes_what_an_operator_wants(source, firing):
    house = House(source, GatewayInProcess(model_concurrency=8), {"tighten_limits": entry("limits", "assisted")}).at(0)
    app = create_app(house.manager, "reader", responder=house.responder, operator_token="operator")
    assert ask(app, "GET", "/api/v1/responses").status_code == 401
    listed = ask(app, "GET", "/api/v1/responses?state=waiting", Authorization="Bearer reader").json()["data"]
    (found,) = listed["responses"]
    assert listed["gateway"] == "http://gateway"
    assert listed["catalogue"][0] == {
        "name": "tighten_limits", "action": "limits", "mode": "assisted", "coolDown": "0s", "mostPerHour": 100,
        "undoOnResolve": True,
    }  # fmt: skip
    assert found["allowed"] == ["confirm", "dismiss"]
    assert found["summary"] == "it is 10.0.0.1:8000"
    path = f"/api/v1/responses/{found['id']}/confirm"
    assert ask(app, "POST", path, {"by": "ada"}, Authorization="Bearer reader").status_code == 401
    operator = {"Authorization": "Bearer operator"}
    assert "by must say who asks" in ask(app, "POST", path, {"by": " "}, **operator).json()["error"]
    confirmed = ask(app, "POST", path, {"by": "ada", "comment": "yes"}, **operator).json()["data"]
    assert (confirmed["state"], confirmed["by"]) == ("acting", "ada")
    assert ask(app, "POST", path, {"by": "ada"}, **operator).status_code == 409
    house.responder.work(1)
    one = ask(app, "GET", f"/api/v1/responses/{found['id']}", **operator).json()["data"]
    assert one["did"] == [{"change": "limits", "body": {"model_concurrency": 4}}]
    assert one["undo"] == [{"change": "limits", "body": {"model_concurrency": 8}}]
    assert [line["state"] for line in one["log"]] == ["waiting", "acting", "acting", "acted"]


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/api/v1/responses?state=done", 400, 'state is "done"; allowed are told'),
        ("GET", "/api/v1/responses?limit=0", 400, 'limit is "0"'),
        ("GET", "/api/v1/responses/none", 404, "no response has the id none"),
        ("POST", "/api/v1/responses/none/confirm", 404, "no response has the id none"),
    ],
)
def test_what_cannot_be_asked_of_responses_is_said(source, firing, method, path, status, reason):
    house = House(source, GatewayInProcess(), {})
    answer = ask(create_app(house.manager, responder=house.responder), method, path, {"by": "ada"})
    assert answer.status_code == status
    assert reason in answer.json()["error"]


def test_a_form_of_a_foreign_page_cannot_confirm(source, firing):
    house = House(source, GatewayInProcess(), {"tighten_limits": entry("limits", "assisted")}).at(0)
    app = create_app(house.manager, responder=house.responder)

    async def post() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://alerts") as client:
            headers = {"Content-Type": "text/plain"}
            path = f"/api/v1/responses/{house.the().id}/confirm"
            return await client.post(path, content=b'{"by": "mallory"}', headers=headers)

    assert asyncio.run(post()).status_code == 400
    assert house.states() == ["waiting"]


def test_history_tells_what_changed_and_outlives_the_process(source, firing, tmp_path: Path):
    House(source, None, {}, tmp_path / "alerts.db").at(0).state.close()
    firing()
    house = House(source, None, {}, tmp_path / "alerts.db").at(30)
    app = create_app(house.manager, now=lambda: 60.0)
    found = ask(app, "GET", "/api/v1/history?start=0").json()["data"]["changes"]
    assert [(one["state"], one["at"]) for one in found] == [
        ("resolved", "1970-01-01T00:00:30Z"),
        ("firing", "1970-01-01T00:00:00Z"),
    ]
    assert found[0]["firedAt"] == "1970-01-01T00:00:00Z"
    assert found[0]["labels"] == {"alertname": "Down", "instance": "10.0.0.1:8000"}
    none = ask(app, "GET", "/api/v1/history?start=1970-01-01T00:00:10Z&end=20").json()["data"]["changes"]
    assert none == []
    assert ask(app, "GET", "/api/v1/history?alertname=Up").json()["data"]["changes"] == []
    assert 'start is "noon"' in ask(app, "GET", "/api/v1/history?start=noon").json()["error"]
    assert ask(app, "GET", "/api/v1/history?limit=0").status_code == 400


def check(app, text: str, query: str = "") -> dict:
    async def go() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://alerts") as client:
            return await client.post(f"/api/v1/rules/check{query}", content=text.encode())

    return asyncio.run(go()).json()


def test_a_rule_files_text_is_checked_with_remarks_and_a_preview(source, firing):
    house = House(source, None, {})
    asked: list[str] = []

    def query_range(expr: str, start_s: float, end_s: float, step_s: float) -> list:
        asked.append(expr)
        return []

    app = create_app(house.manager, query_range=query_range, now=lambda: 86_400.0)
    text = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: histogram_quantile(0.9, m_bucket) > 1\n"
    found = check(app, text, "?since=1h")["data"]
    assert found["valid"]
    assert "SUCCESS: 1 rule found" in found["verdict"]
    assert {one["code"] for one in found["findings"]} >= {"quantile-without-rate"}
    assert found["findings"][0]["line"] == 5
    assert found["preview"] == [
        {"rule": "A", "line": 4, "fired": 0, "pendingOnly": 0, "firingSeconds": 0, "episodes": [], "error": None}
    ]
    assert check(app, text, "?preview=false")["data"]["preview"] is None
    assert len(asked) == 1


def test_a_bad_rule_files_text_is_told_with_line_and_column(source, firing):
    app = create_app(House(source, None, {}).manager)
    found = check(app, "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up ==\n    for: 5mins\n")["data"]
    assert not found["valid"]
    assert [(one["line"], one["column"]) for one in found["problems"]] == [(5, 11), (6, 10)]
    assert "FAILED" in found["verdict"]
    assert 'since is "often"' in check(app, "", "?since=often")["error"]
