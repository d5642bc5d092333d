"""Reading traces for experiments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe_engine.errors import ExperimentError
from probe_engine.experiments.trace import TraceRequest, fitting, paced, read_trace, spread_ticks

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n"


def written(tmp_path, text):
    path = tmp_path / "trace"
    path.write_text(text)
    return path


def test_azures_rows_are_read_to_the_hundred_nanoseconds(tmp_path):
    path = written(tmp_path, AZURE + "2023-11-16 18:15:47.6805901,396,109\r\n2023-11-16 18:15:47.7,396,0")
    first, second = read_trace(path)
    assert first == TraceRequest(0.0, 374, 44)
    assert second.arrival_s == pytest.approx(1.0000001, abs=1e-6)


def test_mooncakes_rows_keep_their_prefixes(tmp_path):
    path = written(
        tmp_path,
        '{"timestamp": 3000, "input_length": 900, "output_length": 5, "hash_ids": [0, 7]}\n\n'
        '{"timestamp": 0, "input_length": 512, "output_length": 5, "hash_ids": [0]}\n',
    )
    assert read_trace(path) == (TraceRequest(0.0, 512, 5, (0,)), TraceRequest(3.0, 900, 5, (0, 7)))


def test_plain_rows_are_read(tmp_path):
    path = written(tmp_path, '{"arrival_s": 1.5, "prompt_tokens": 3, "output_tokens": 4}\n')
    assert read_trace(path) == (TraceRequest(0.0, 3, 4),)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "neither JSON lines nor a CSV"),
        (AZURE + "yesterday,1,1", ":3: "),
        (AZURE + "2023-11-16 18:15:46.6,-1,1", ":3: -1 is less than 0"),
        ('{"timestamp": 0, "input_length": 5}', ":1: has no 'output_length'"),
        ('{"arrival_s": 0}\n{', ":1: has no 'prompt_tokens'"),
        ('{"arrival_s": 0, "prompt_tokens": 0, "output_tokens": 0}', "no request"),
    ],
)
def test_a_trace_that_cannot_be_read_says_where(tmp_path, text, told):
    with pytest.raises(ExperimentError, match="trace") as raised:
        read_trace(written(tmp_path, text))
    assert told in str(raised.value)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.integers(0, 5))
def test_spreading_ticks_keeps_order_lengths_and_each_between_its_tick_and_the_next(ticks, seed):
    rows = [TraceRequest(3.0 * tick, at + 1, 1) for at, tick in enumerate(sorted(ticks))]
    spread = spread_ticks(rows, seed)
    assert [row.prompt_tokens for row in spread] == [row.prompt_tokens for row in rows]
    assert [row.arrival_s for row in spread] == sorted(row.arrival_s for row in spread)
    following = dict(zip(sorted(set(ticks)), [*sorted(set(ticks))[1:], None], strict=True))
    for before, after in zip(rows, spread, strict=True):
        later = following[round(before.arrival_s / 3)]
        assert before.arrival_s <= after.arrival_s <= (before.arrival_s if later is None else 3.0 * later)


def test_too_long_ones_are_left_out_and_pace_divides_the_arrivals():
    rows = (TraceRequest(0.0, 10, 10), TraceRequest(2.0, 100, 10), TraceRequest(4.0, 5, 5))
    assert fitting(rows, 20, 5) == (rows[0], rows[2])
    assert [row.arrival_s for row in paced(rows, 2.0)] == [0.0, 1.0, 2.0]
    assert [row.arrival_s for row in paced(rows, 0)] == [0.0, 0.0, 0.0]
