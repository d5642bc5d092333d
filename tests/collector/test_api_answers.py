"""Answers in Prometheus's JSON."""

import numpy as np
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.api.answers import query_data, success, time_texts
from collector.model.labels import from_mapping
from collector.model.series import Series
from collector.promql import Result


def series(times_ms: list[int], values: list[float], **labels: str) -> Series:
    return Series(from_mapping(labels), np.array(times_ms, dtype=np.int64), np.array(values, dtype=np.float64))


def body(result: Result, limit: int = 0) -> str:
    data, warnings = query_data(result, limit)
    return success(data, warnings, result.infos).body.decode()


def test_a_matrix() -> None:
    result = Result("matrix", (series([1000, 2500], [1.0, np.nan], a='q"'), series([2500], [np.inf]), series([], [])))
    assert body(result) == (
        '{"status":"success","data":{"resultType":"matrix","result":['
        '{"metric":{"a":"q\\""},"values":[[1,"1"],[2.500,"NaN"]]},{"metric":{},"values":[[2.500,"+Inf"]]}]}}'
    )


def test_a_vector_with_remarks() -> None:
    result = Result("vector", (series([1050], [0.5], __name__="x"),), warnings=("odd",), infos=("by the way",))
    assert body(result) == (
        '{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"x"},"value":[1.050,"0.5"]}]},'
        '"warnings":["odd"],"infos":["by the way"]}'
    )


def test_a_scalar_and_a_string() -> None:
    assert '"data":{"resultType":"scalar","result":[1,"2"]}' in body(Result("scalar", (series([1000], [2.0]),)))
    text = Result("string", (series([1000], [0.0]),), text='say "hi"')
    assert '"data":{"resultType":"string","result":[1,"say \\"hi\\""]}' in body(text)


def test_a_limit_cuts_and_says_so() -> None:
    answer = orjson.loads(body(Result("vector", tuple(series([1000], [1.0], n=str(n)) for n in range(3))), limit=2))
    assert len(answer["data"]["result"]) == 2
    assert answer["warnings"] == ["results truncated due to limit"]


def test_nothing_found_is_an_empty_list() -> None:
    assert '"result":[]' in body(Result("matrix", ()))


@settings(deadline=None)
@given(st.integers(-(2**53), 2**53))
def test_a_time_reads_back_the_same(time_ms: int) -> None:
    (text,) = time_texts(np.array([time_ms], dtype=np.int64))
    whole, _, rest = text.decode().removeprefix("-").partition(".")
    assert (int(whole) * 1000 + int(rest or 0)) * (-1 if text.startswith(b"-") else 1) == time_ms
