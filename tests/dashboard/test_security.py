from base64 import b64encode

import pytest
from flask import Flask

from dashboard.access import Access
from dashboard.security import CSRF_COOKIE, CSRF_HEADER, protect, script_hash


def guarded(token=None):
    server = Flask(__name__)
    server.add_url_rule("/", "index", lambda: "<p>page</p>")
    server.add_url_rule("/healthz", "health", lambda: "ok")
    server.add_url_rule("/do", "do", lambda: "done", methods=["POST"])
    protect(server, access=Access(token), open_path="/healthz", script_hashes=[script_hash("x")])
    return server.test_client()


@pytest.mark.parametrize("value", ["Bearer s3cret", "bearer s3cret", "Basic " + b64encode(b"anyone:s3cret").decode()])
def test_the_token_opens_every_path(value):
    assert guarded("s3cret").get("/", headers={"Authorization": value}).status_code == 200


@pytest.mark.parametrize(
    "value", ["", "Bearer wrong", "Bearer", "Basic !!!", "Basic " + b64encode(b"s3cret").decode(), "Digest s3cret"]
)
def test_without_the_token_a_path_is_shut(value):
    answer = guarded("s3cret").get("/", headers={"Authorization": value})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert "s3cret" not in answer.text


def test_health_is_open():
    assert guarded("s3cret").get("/healthz").status_code == 200


def test_a_post_without_the_pages_cookie_in_its_header_is_refused():
    client = guarded()
    assert client.post("/do").status_code == 403
    client.get("/")
    assert client.post("/do").status_code == 403
    assert client.post("/do", headers={CSRF_HEADER: "guess"}).status_code == 403


def test_a_post_with_the_pages_cookie_in_its_header_passes():
    client = guarded()
    client.get("/")
    cookie = client.get_cookie(CSRF_COOKIE)
    assert client.post("/do", headers={CSRF_HEADER: cookie.value}).status_code == 200
    assert cookie.same_site == "Strict"


def test_the_policy_allows_no_eval_and_nothing_from_outside():
    policy = guarded().get("/").headers["Content-Security-Policy"]
    assert "unsafe-eval" not in policy
    assert "http" not in policy.replace("https", "")
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    assert script_hash("x") in policy


def test_a_body_beyond_the_limit_is_refused():
    client = guarded()
    client.get("/")
    headers = {CSRF_HEADER: client.get_cookie(CSRF_COOKIE).value}
    assert client.application.config["MAX_CONTENT_LENGTH"] == 1_000_000
    assert client.post("/do", headers=headers, data=b"small").status_code == 200
