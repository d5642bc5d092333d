"""What browsers are sent: the same as Dash would, in their language, made once for all who look at the same."""

import gzip
import pickle
from threading import Event, Thread

import numpy as np
import orjson
import pytest
from dash import html
from werkzeug.datastructures import LanguageAccept

from dashboard.access import Access
from dashboard.answers import Body, Shared, written
from dashboard.app import create_app
from dashboard.words import Catalogue, chosen, say
from planner.slo import Slo

CHINESE = Catalogue(
    "zh", {"{pool} waits.": "{pool} 在等待。", "Waiting": "等待", "{n} m": "{n} 分", "for {span}": "已 {span}"}
)


def body_of(text: str) -> Body:
    return Body(text.encode(), b"")


def test_an_answer_is_what_dash_would_have_sent():
    node = html.Div([html.B("a", id="x"), "b", None, 3], **{"data-x": "1", "aria-label": "c"})
    from plotly.io._json import to_json_plotly

    assert orjson.loads(written(node)) == orjson.loads(to_json_plotly(node))


def test_numbers_and_arrays_are_written_as_they_are():
    value = {"y": np.array([1.5, np.nan]), "n": [0.1, None, float("nan")]}
    assert orjson.loads(written(value)) == {"y": [1.5, None], "n": [0.1, None, None]}


def test_what_has_no_place_in_an_answer_is_named():
    with pytest.raises(TypeError, match="set"):
        written({"a": {1, 2}})


def test_composed_and_fixed_texts_are_said_in_the_language_asked():
    node = html.P([say("{pool} waits.", pool="llama"), html.B("Waiting", title="Waiting"), "llama"])
    children = orjson.loads(written(node, CHINESE))["props"]["children"]
    assert children[0] == "llama 在等待。"
    assert children[1]["props"] == {"children": "等待", "title": "等待"}
    assert children[2] == "llama"
    assert orjson.loads(written(node))["props"]["children"][0] == "llama waits."


def test_texts_within_texts_are_said_too():
    text = say("{pool} waits.", pool="a") + " " + say("for {span}", span=say("{n} m", n=3))
    assert text == "a waits. for 3 m"
    assert CHINESE.of(text) == "a 在等待。 已 3 分"
    assert CHINESE.of(" " + say("Waiting")) == " 等待"
    assert CHINESE.of(pickle.loads(pickle.dumps(text))) == CHINESE.of(text)


@pytest.mark.parametrize(
    ("search", "cookie", "accepted", "language"),
    [
        ("?lang=zh", "en", [("en", 1)], "zh"), ("?pool=a", "zh", [("en", 1)], "zh"), ("?lang=xx", "", [], "en"),
        ("", "", [("fr", 1), ("zh-CN", 0.8), ("en", 0.5)], "zh"), ("", "", [("en-GB", 1), ("zh", 0.9)], "en"),
    ],
)  # fmt: skip
def test_the_language_is_the_addresses_then_the_one_chosen_then_the_browsers(search, cookie, accepted, language):
    assert chosen(search, cookie, LanguageAccept(accepted)) == language


def test_a_body_is_made_once_while_it_is_fresh(fake_clock):
    shared, made = Shared(fake_clock, 1.0), []

    def make() -> Body:
        made.append(1)
        return body_of(str(len(made)))

    assert [shared.get(b"a", make).plain for _ in range(3)] == [b"1", b"1", b"1"]
    fake_clock.now_s += 1.0
    assert shared.get(b"a", make).plain == b"2"
    shared.clear()
    assert shared.get(b"a", make).plain == b"3"


def test_a_body_that_could_not_be_made_is_made_anew(fake_clock):
    shared = Shared(fake_clock, 60.0)

    def fail() -> Body:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        shared.get(b"a", fail)
    assert shared.get(b"a", lambda: body_of("yes")).plain == b"yes"


def test_those_who_ask_meanwhile_share_what_is_being_made(fake_clock):
    shared, began, go_on, got = Shared(fake_clock, 60.0), Event(), Event(), []

    def make() -> Body:
        began.set()
        assert go_on.wait(10)
        return body_of("once")

    def ask_late() -> None:
        got.append(shared.get(b"a", lambda: body_of("twice")))

    first = Thread(target=lambda: got.append(shared.get(b"a", make)))
    first.start()
    assert began.wait(10)
    second = Thread(target=ask_late)
    second.start()
    second.join(0.1)
    go_on.set()
    first.join(10)
    second.join(10)
    assert [one.plain for one in got] == [b"once", b"once"]


def test_an_answer_is_shared_by_viewers_but_not_across_addresses_or_languages(source, page_of, prometheus):
    page = page_of(source, "ov-stamp", share_s=60.0)
    first = page.ask()
    prometheus.dead = True
    assert page.ask() == first
    assert page.client.get("/_dash-layout", headers={"Accept-Language": "zh"}).status_code == 200


def test_any_other_post_ends_what_is_shared(source, page_of):
    page = page_of(source, "ov-stamp", share_s=60.0)
    first = page.ask(offset_s=0)["ov-stamp"]["data"]
    source.clock = lambda: 1.0 + first["now_s"]
    assert page.ask()["ov-stamp"]["data"] == first
    page.client.post("/do/nothing", json={}, headers={"X-CSRFToken": page.client.get_cookie("_csrf_token").value})
    assert page.ask()["ov-stamp"]["data"]["now_s"] == first["now_s"] + 1


def test_answers_are_compressed_for_browsers_that_ask(source):
    client = create_app(source, Slo()).server.test_client()
    plain = client.get("/_dash-layout").data
    answer = client.get("/_dash-layout", headers={"Accept-Encoding": "gzip, br"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.data) == plain


def test_a_stranger_is_sent_nothing_that_others_were(source):
    client = create_app(source, Slo(), access=Access("s3cret"), share_s=60.0).server.test_client()
    assert client.get("/_dash-layout", headers={"Authorization": "Bearer s3cret"}).status_code == 200
    assert client.get("/_dash-layout").status_code == 401
