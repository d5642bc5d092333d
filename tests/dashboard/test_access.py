import logging
from base64 import b64encode
from ipaddress import ip_network

import pytest
from flask import Flask

from dashboard.access import Access, Person, Role
from dashboard.actions import add_action
from dashboard.errors import ActionRefused
from dashboard.security import CSRF_COOKIE, CSRF_HEADER, protect

PROXIES = (ip_network("10.0.0.0/8"),)


def basic(user, token):
    return {"Authorization": "Basic " + b64encode(f"{user}:{token}".encode()).decode()}


def test_where_nobody_is_asked_whoever_comes_is_the_operator():
    assert Access().who("127.0.0.1", {}) == Person("local", Role.OPERATOR)


@pytest.mark.parametrize(
    ("headers", "person"),
    [
        ({"Authorization": "Bearer read"}, Person("viewer", Role.VIEWER)),
        ({"Authorization": "Bearer change"}, Person("operator", Role.OPERATOR)),
        (basic("ada", "change"), Person("ada", Role.OPERATOR)),
        (basic("ada", "wrong"), None),
        ({}, None),
    ],
)
def test_tokens_tell_viewers_from_operators(headers, person):
    assert Access("read", "change").who("127.0.0.1", headers) == person


def test_one_token_is_everybodys():
    assert Access("s3cret").who("127.0.0.1", {"Authorization": "Bearer s3cret"}).role is Role.OPERATOR


@pytest.mark.parametrize(
    ("remote", "user", "person"),
    [
        ("10.1.2.3", "ada", Person("ada", Role.OPERATOR)),
        ("10.1.2.3", "bob", Person("bob", Role.VIEWER)),
        ("192.168.0.1", "ada", None),
        ("10.1.2.3", "", None),
        ("not an address", "ada", None),
    ],
)
def test_a_users_header_is_believed_from_a_proxy_only(remote, user, person):
    access = Access(proxies=PROXIES, operators=frozenset({"ada"}))
    assert access.who(remote, {"X-Forwarded-User": user} if user else {}) == person


def test_all_users_of_a_proxy_may_be_operators():
    access = Access(proxies=PROXIES, operators=frozenset({"*"}))
    assert access.who("10.0.0.1", {"X-Forwarded-User": "eve"}) == Person("eve", Role.OPERATOR)


def acting(access, run=lambda fields, person: {"said": f"{person.name} did {fields['what']}"}):
    server = Flask(__name__)
    server.add_url_rule("/x/", "index", lambda: "<p>page</p>")
    add_action(server, "/x/", "thing", Role.OPERATOR, run)
    protect(server, access=access, open_path="/x/healthz", script_hashes=[])
    return server.test_client()


def post(client, headers=None, **body):
    client.get("/x/", headers=headers)
    csrf = {CSRF_HEADER: client.get_cookie(CSRF_COOKIE).value}
    return client.post("/x/do/thing", json=body, headers=(headers or {}) | csrf)


def test_an_operators_deed_is_done_and_put_down(caplog):
    with caplog.at_level(logging.INFO, "dashboard.audit"):
        answer = post(acting(Access("read", "change")), basic("ada", "change"), what="it", long="x" * 999)
    assert answer.get_json() == {"said": "ada did it"}
    assert '"by":"ada","role":"operator"' in caplog.text
    assert '"did":"do/thing","status":200,"with":{"what":"it"}' in caplog.text


def test_a_viewer_is_refused_and_that_is_put_down(caplog):
    with caplog.at_level(logging.INFO, "dashboard.audit"):
        answer = post(acting(Access("read", "change")), {"Authorization": "Bearer read"}, what="it")
    assert answer.status_code == 403
    assert answer.get_json() == {"error": "this needs the role operator; viewer is viewer"}
    assert '"role":"viewer"' in caplog.text and '"status":403' in caplog.text


def test_a_deed_without_the_pages_cookie_is_refused():
    client = acting(Access())
    client.get("/x/")
    assert client.post("/x/do/thing", json={"what": "it"}).status_code == 403


def test_a_refusal_carries_its_reason_and_status():
    def refuse(fields, person):
        raise ActionRefused("it is too late", 409)

    answer = post(acting(Access(), refuse), what="it")
    assert (answer.status_code, answer.get_json()) == (409, {"error": "it is too late"})


def test_a_body_that_is_no_object_is_refused():
    client = acting(Access())
    client.get("/x/")
    csrf = {CSRF_HEADER: client.get_cookie(CSRF_COOKIE).value}
    assert (
        client.post("/x/do/thing", data="[1]", headers=csrf | {"Content-Type": "application/json"}).status_code == 400
    )
