"""Whatever stands in a file: every line is accounted for, or one error of ours says why not."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import TraceError
from planner.readers import FORMATS, open_trace, read_trace
from planner.readers.digits import seconds_as_ns, wall_clock_ns, whole_numbers
from planner.readers.lines import BadRow
from planner.readers.values import parse_time_ns, parse_tokens, time_ns

NAMES = sorted(
    {need for kind in FORMATS.values() for need in kind.needs}
    | {"hash_ids", "sub_requests", "tool_duration_ns", "benchmarks", "usage", "status", "path", "timestamp", "turn"}
    | {"parent_chat_id", "endTime", "round_id", "spans", "scopeSpans", "attributes", "event_type", "session_id"}
    | {"flags", "quality", "row_id", "src_line", "prefix_hashes", "extra", "format", "version", "Output Length"}
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(),
    st.sampled_from(["", "5", "-1", "2023-11-16 18:17:03.5", "9" * 30, "/v1/completions", "1e400", "nan", "\x00", "é"]),
    st.sampled_from([5, 12, 200, 1_700_000_000, 10**18, 0.1]),
)
VALUES = st.recursive(
    ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)
ROWS = st.lists(ODD.map(str), min_size=1, max_size=8).map(lambda row: ",".join(row).encode("utf-8", "replace"))
SPAN = {
    "spanId": "a",
    "startTimeUnixNano": "1700000000000000000",
    "attributes": [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "5"}}],
}
GOOD: dict[str, dict[str, object]] = {
    "loadline": {"row_id": 0, "src_line": 1, "arrival_ns": 5, "input_tokens": 5, "flags": [], "prefix_hashes": [1]},
    "mooncake": {"timestamp": 5, "input_length": 600, "output_length": 1, "hash_ids": [1, 2]},
    "bailian": {"chat_id": 1, "parent_chat_id": -1, "timestamp": 0.5, "input_length": 5, "output_length": 1, "turn": 1},
    "servingsim": {"input_toks": 1, "output_toks": 1, "arrival_time_ns": 5, "sub_requests": None},
    "servingsim_measured": {"input_toks": 1, "output_toks": 1, "arrival_time": 5.5, "queued_ts": 1, "last_token_ts": 2},
    "tracelab": {
        "session_id": "a", "round_index": 0, "input_tokens_total": 5, "output_tokens": 1,
        "timing_events": [{"event_type": "user_message", "timestamp": "2026-06-01T05:40:20.151Z"}],
    },
    "otlp": {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN]}]}]},
    "litellm": {"startTime": 5.5, "endTime": 6, "prompt_tokens": 5, "completion_tokens": 1, "model": "m"},
    "guidellm": {"benchmarks": [{"requests": {"successful": [{"request_start_time": 5.5, "prompt_tokens": 1}]}}]},
    "aibrix": {"timestamp": 5, "requests": [{"Prompt Length": 5, "Output Length": 1}]},
    "burstgpt_log": {"0": {"record_time": 5.5, "in_len": 5, "sampled_out_len": 1, "total_chunk_time": 0.5}},
    "json_log": {"ts": 5.5, "path": "/v1/completions", "status": 200, "duration_ms": 5, "usage": {"prompt_tokens": 1}},
}  # fmt: skip
PLAIN = {
    "azure": "2023-11-16 18:17:03.9799600,4808,10",
    "burstgpt": "5,ChatGPT,472,18",
    "vidur": "4.314579,396,109",
    "lengths": "74,918",
    "servegen": "600,0.35,1.03,Gamma,0.94,3.01",
    "vllm_log": "INFO 01-20 14:11:09 Received request cmpl-1: prompt_token_ids: [1, 2]",
    "access_log": '1.2.3.4 - - [20/Jan/2026:06:11:09 +0000] "POST /v1/completions HTTP/1.1" 200 12 rt=0.5',
}
BENT = st.tuples(st.integers(0, 60), st.integers(0, 3), st.text(',-.0"x\x00\xe9 ', max_size=3))


def bent(found: object, draw: st.DrawFn) -> object:
    """The same value with one part of it made odd or left out."""
    if isinstance(found, dict) and found and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(found)))
        rest = {name: value for name, value in found.items() if name != key}
        return rest if draw(st.integers(0, 5)) == 0 else {**rest, key: bent(found[key], draw)}
    if isinstance(found, list) and found and draw(st.integers(0, 3)):
        return [bent(found[0], draw), *found[1:]]
    return draw(VALUES)


@st.composite
def lines_of(draw: st.DrawFn, kind: str) -> list[bytes]:
    """Good lines of a format, bent ones, and anything."""
    found: list[bytes] = []
    for choice in draw(st.lists(st.integers(0, 5), max_size=6)):
        if choice == 0:
            found.append(draw(st.one_of(ROWS, st.binary(max_size=40))))
        elif kind in PLAIN:
            at, cut, put = draw(BENT) if choice > 1 else (0, 0, "")
            found.append((PLAIN[kind][:at] + put + PLAIN[kind][at + cut :]).encode())
        else:
            good = GOOD[kind]
            found.append(json.dumps(bent(good, draw) if choice > 1 else good).encode())
    return found


def reconciles(path: Path, kind: str | None) -> None:
    try:
        read = read_trace(path, kind=kind)
    except TraceError as error:
        assert "\n" not in str(error)
        assert str(path) in str(error)
        return
    counts = read.counts
    assert counts.lines == counts.header + counts.blank + counts.accepted + counts.quarantined
    assert counts.requests == len(read.trace)
    assert (np.diff(read.trace.arrival_ns) >= 0).all()
    stream = open_trace(path, kind=kind)
    pieces = list(stream.pieces())
    assert sum(map(len, pieces)) == len(read.trace)
    assert stream.account().counts == counts


def begun(kind: str) -> bytes:
    """A first line that lets a format with a header go on."""
    columns = FORMATS[kind].needs
    return ",".join(columns).encode() + b"\n" if kind in ("azure", "burstgpt", "vidur", "lengths") else b""


@pytest.mark.parametrize("kind", [*GOOD, *PLAIN])
@settings(max_examples=25)
@given(data=st.data())
def test_any_lines_reconcile(tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / f"any-{kind}"
    end = data.draw(st.sampled_from([b"\n", b"\r\n"]))
    path.write_bytes(begun(kind) + end.join(data.draw(lines_of(kind))))
    reconciles(path, kind)


@pytest.mark.parametrize("kind", [*GOOD, *PLAIN])
def test_the_lines_that_are_bent_were_good(tmp_path: Path, kind: str) -> None:
    line = json.dumps(GOOD[kind]).encode() if kind in GOOD else PLAIN[kind].encode()
    (tmp_path / "t").write_bytes(begun(kind) + b"\n".join([line] * 3))
    assert read_trace(tmp_path / "t", kind=kind).counts.accepted == 3
    assert set(FORMATS) == {*GOOD, *PLAIN, "sharegpt"}


@given(
    text=st.binary(max_size=300),
    pack=st.sampled_from([bytes, gzip.compress, zstandard.compress]),
    cut=st.integers(0, 9),
)
def test_any_bytes_reconcile_packed_or_cut_short(
    tmp_path_factory: pytest.TempPathFactory, text: bytes, pack: object, cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-bytes"
    whole = pack(begun("azure") + b"2023-11-16 18:17:03,1,1\n" + text)  # type: ignore[operator]
    path.write_bytes(whole[: len(whole) - cut])
    reconciles(path, None)


@given(st.lists(VALUES, max_size=3), st.booleans(), st.integers(0, 5))
def test_any_document_reconciles(
    tmp_path_factory: pytest.TempPathFactory, values: list[object], array: bool, cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-bytes"
    text = json.dumps(values if array else {"resourceSpans": values}, indent=1)
    path.write_text(text[: len(text) - cut])
    reconciles(path, "litellm" if array else "otlp")


NUMBER = st.from_regex(r"-?[0-9]{1,12}(\.[0-9]{0,11})?", fullmatch=True) | st.text("0123456789.-e ", max_size=12)
CLOCK = st.from_regex(r"2[0-9]{3}-[01][0-9]-[0-3][0-9][ T][0-2][0-9]:[0-6][0-9]:[0-6][0-9]\.[0-9]{7}", fullmatch=True)


def singly(parse: object, text: str) -> int | None:
    try:
        return parse(text)  # type: ignore[operator, no-any-return]
    except BadRow:
        return None


@given(st.lists(NUMBER, min_size=1, max_size=5), st.lists(CLOCK, min_size=1, max_size=5))
def test_numbers_and_times_parsed_together_are_those_parsed_singly(numbers: list[str], clocks: list[str]) -> None:
    for texts, together, parse in (
        (numbers, whole_numbers, parse_tokens),
        (numbers, seconds_as_ns, lambda text: time_ns(text, 10**9)),
        (clocks, lambda *bounds: wall_clock_ns(*bounds)[:2], lambda text: parse_time_ns(text)[0]),
    ):
        line = np.frombuffer(",".join(texts).encode(), dtype=np.uint8)
        widths = np.array([len(text) for text in texts])
        start = np.concatenate([[0], np.cumsum(widths[:-1] + 1)])
        values, understood = together(line, start, start + widths)  # type: ignore[operator]
        for text, value, sure in zip(texts, values.tolist(), understood.tolist(), strict=True):
            if sure:
                assert singly(parse, text) == value, text


def test_a_time_of_1970_to_2100_is_understood_together() -> None:
    days = [
        f"{year}-{month:02d}-28 23:59:59.1234567" for year in (1970, 2000, 2023, 2024, 2100) for month in range(1, 13)
    ]
    line = np.frombuffer(",".join(days).encode(), dtype=np.uint8)
    start = np.arange(len(days)) * 28
    values, understood, digits = wall_clock_ns(line, start, start + 27)
    assert understood.all() and digits == 7
    assert values.tolist() == [parse_time_ns(day)[0] for day in days]
