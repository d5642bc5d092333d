"""What happens when a native histogram arrives, whichever way: DECISIONS.md says why none are kept."""

import cramjam
import httpx
import pytest

from collector.api.parts import Parts
from collector.client import Client
from collector.model.errors import QueryError, SourceError
from collector.model.exposition import ACCEPT
from collector.model.protobuf_wire import delimited, varint
from collector.model.remote_write import CONTENT_HEADERS, encode_labels
from collector.promql import parse

NOW_MS = 1_700_000_000_000


def test_a_target_is_not_asked_for_the_format_that_holds_them() -> None:
    assert "protobuf" not in ACCEPT
    assert {part.split(";")[0] for part in ACCEPT.split(",")} <= {"application/openmetrics-text", "text/plain", "*/*"}


def test_one_in_a_remote_write_is_named_and_counted_and_the_rest_is_stored(api: httpx.Client, parts: Parts) -> None:
    def series(name: str, what: bytes) -> bytes:
        return delimited(0x0A, encode_labels((("__name__", name),)) + what)

    moment = varint(NOW_MS)
    sample = delimited(0x12, b"\x09" + bytes(8) + b"\x10" + moment)
    body = series("kept", sample) + series("native", delimited(0x22, b"\x78" + moment)) + series("after", sample)
    packed = bytes(cramjam.snappy.compress_raw(body))
    for times in (1, 2):
        answer = api.post("/api/v1/write", content=packed, headers=CONTENT_HEADERS)
        assert answer.status_code == 400
        assert "1 native histograms are not kept; send classic ones; the rest was stored" in answer.text
        assert parts.receiver.native_histograms == times
    assert api.get("/api/v1/label/__name__/values").json()["data"] == ["after", "kept"]


def test_one_in_a_servers_answer_is_told() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        kind = "matrix" if request.url.path.endswith("_range") else "vector"
        entry = {"metric": {"__name__": "h"}, "histogram": [1, {}], "histograms": [[1, {}]]}
        return httpx.Response(200, json={"status": "success", "data": {"resultType": kind, "result": [entry]}})

    with Client("http://prometheus.test", transport=httpx.MockTransport(answer)) as client:
        for ask in (lambda: client.query("h", 1.0), lambda: client.query_range("h", 1.0, 2.0, 1.0)):
            with pytest.raises(SourceError, match="holds native histograms; only float samples are read"):
                ask()


def test_their_functions_give_nothing_and_their_operators_are_refused(api: httpx.Client) -> None:
    answer = api.get("/api/v1/query", params={"query": "histogram_count(vector(1))"}).json()
    assert answer["data"]["result"] == []
    with pytest.raises(QueryError, match="is for native histograms, which are not kept"):
        parse("a </ 1")
