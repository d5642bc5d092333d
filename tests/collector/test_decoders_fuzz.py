"""Whatever comes from outside is read or refused with the package's own errors: files, discovery, answers of others.

What is scraped and pushed, queries, settings, tiles and damaged stores have laws of their own beside their tests.
"""

import contextlib
import gzip
import json
import tempfile
from pathlib import Path

import httpx
import orjson
import pytest
import yaml
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.client import Client
from collector.compressed import reading
from collector.forward.otlp import OtlpOut
from collector.forward.queue import Batch
from collector.ingest import otlp
from collector.model.errors import ConfigError, IngestError, SourceError
from collector.model.moments import parse_moment_s
from collector.scrape.discovery import TargetGroup, parse_groups, read_target_file

PACKED = {"x.gz": gzip.compress(b"a 1 1\n" * 9), "x.zst": zstandard.ZstdCompressor().compress(b"a 1 1\n" * 9)}
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=4)


def documents(*keys: str) -> st.SearchStrategy[object]:
    """JSON values whose mappings have these keys among others."""
    names = st.sampled_from(keys) | st.text(max_size=2)
    return st.recursive(
        SCALARS | st.sampled_from(["1", "NaN", "vector", "matrix", "scalar", "a:1"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
        max_leaves=15,
    )


@settings(deadline=None)
@given(
    st.sampled_from(sorted(PACKED)),
    st.binary(max_size=40),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_any_packed_file_is_read_or_refused(name: str, junk: bytes, begin: int, length: int) -> None:
    whole = PACKED[name]
    damaged = whole[:begin] + junk + whole[begin + length :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        for body in (junk, damaged):
            path.write_bytes(body)
            with contextlib.suppress(ConfigError), reading(path) as stream:
                while stream.read(1000):
                    pass


GROUPS = documents("targets", "labels", "a")


def known(groups: tuple[TargetGroup, ...]) -> bool:
    return all(isinstance(text, str) for group in groups for text in group.targets)


@settings(deadline=None)
@given(GROUPS | st.lists(GROUPS, max_size=2), st.text(max_size=40), st.binary(max_size=30))
def test_any_file_of_targets_is_read_or_refused(document: object, text: str, raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, body in (
            ("t.json", json.dumps(document).encode()),
            ("t.yml", yaml.safe_dump(document).encode()),
            ("t.yml", text.encode("utf-8", "surrogatepass")),
            ("t.json", raw),
            ("t.yml", raw),
        ):
            path = Path(folder) / name
            path.write_bytes(body)
            with contextlib.suppress(ConfigError):
                assert known(read_target_file(path))


@given(st.lists(GROUPS, max_size=2).map(lambda document: json.dumps(document).encode()) | st.binary(max_size=30))
def test_any_answer_of_http_discovery_is_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(ConfigError):
        assert known(parse_groups(body, "http://found", {"__meta_url": "http://found"}))


ANSWERS = documents("status", "data", "resultType", "result", "metric", "value", "values", "warnings", "infos")


@settings(deadline=None, max_examples=150)
@given(
    ANSWERS
    | st.fixed_dictionaries({"status": st.just("success"), "data": ANSWERS}, optional={"warnings": SCALARS})
    | st.builds(lambda kind, rows: {"data": {"resultType": kind, "result": rows}}, st.text(max_size=3), ANSWERS),
    st.sampled_from([200, 400, 500]),
)
def test_any_answer_of_a_server_is_read_or_refused(document: object, status: int) -> None:
    try:
        body = orjson.dumps(document)
    except (TypeError, ValueError):
        return
    transport = httpx.MockTransport(lambda request: httpx.Response(status, content=body))
    with Client("http://source", transport=transport) as client:
        for ask in (
            lambda: client.query("a"),
            lambda: client.query_range("a", 1.0, 2.0, 1.0),
            lambda: client.samples("a", 1.0, 2.0),
            lambda: client.series(["a"], 1.0, 2.0),
            client.metric_names,
            client.metadata,
            client.targets,
            client.rules,
            client.alerts,
            client.spans,
        ):
            with contextlib.suppress(SourceError):
                ask()


@given(st.sampled_from(["traces", "metrics", "logs"]), st.sampled_from([200, 400, 503]), st.binary(max_size=40))
def test_any_answer_of_a_backend_is_heard(signal: str, status: int, body: bytes) -> None:
    answer = httpx.Response(status, content=body, headers={"content-type": "application/x-protobuf"})
    heard = OtlpOut("http://backend").heard(Batch(1, signal, 3, ()), answer)
    assert heard.left_out >= 0
    assert isinstance(heard.said, str)


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=3))
def test_a_body_of_several_gzip_members_is_read_whole(parts: list[bytes]) -> None:
    assert otlp.unfold(b"".join(map(gzip.compress, parts)), "gzip") == b"".join(parts)


@pytest.mark.parametrize("members", [1, 3])
def test_a_small_body_that_unfolds_to_very_much_is_refused(members: int) -> None:
    body = gzip.compress(bytes(2000)) * members
    with pytest.raises(IngestError, match="1999 bytes"):
        otlp.unfold(body, "gzip", 1999)


@given(st.text(max_size=30) | st.from_regex(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d(:\d\d(\.\d*)?)?([+-]\d\d:\d\d|Z)?"))
def test_any_text_is_a_moment_or_none(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert abs(parse_moment_s(text)) >= 0.0
