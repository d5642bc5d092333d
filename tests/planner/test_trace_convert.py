"""Traces written and read again, and the commands that do it."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from planner.readers import open_trace, read_trace
from planner.replay_cli import app
from planner.traces.export import Export
from planner.traces.trace import OPTIONAL_COLUMNS, Ragged, Trace

SAMPLE = Path(__file__).parents[2] / "samples" / "traces" / "azure_conv_10min.csv"

NUMBERS = st.integers(min_value=0, max_value=2**32 - 1)
VALUES = {
    "int64": NUMBERS,
    "float64": st.floats(min_value=0, max_value=1e12),
    "object": st.text(max_size=8).filter(lambda text: not any(0xD800 <= ord(c) <= 0xDFFF for c in text)),
    "ragged": st.lists(st.integers(min_value=0, max_value=2**64 - 1), max_size=4),
}


def replay(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def told(trace: Trace) -> list[dict[str, object]]:
    """Every request as what is known of it."""
    rows = []
    for row in range(len(trace)):
        found = {name: getattr(trace, name)[row] for name in ("row_id", "src_line", "arrival_quality", "flags")}
        for name in ("arrival_ns", "input_tokens", "output_tokens"):
            if name not in trace.missing or not trace.missing[name][row]:
                found[name] = getattr(trace, name)[row]
        for name, column in trace.columns.items():
            value = tuple(column.row(row).tolist()) if isinstance(column, Ragged) else column[row]
            if value is not None and (name not in trace.missing or not trace.missing[name][row]):
                found[name] = value
        rows.append(found)
    return rows


def again(trace: Trace, path: Path, target: str = "loadline") -> Trace:
    export = Export(path, target)
    export.write([trace])
    export.finish(trace.header)
    return read_trace(path).trace


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz", "t.jsonl.zst"])
@pytest.mark.parametrize(
    "file",
    [
        "mooncake/conversation_trace.jsonl",
        "dirty/mooncake_dirty.jsonl",
        "vllm_otel/jan20-codellama-prefill-1/traces.json",
        "tracelab/sanitized/round_trace.jsonl",
        "litellm/0e1f2eca/agent/trace.jsonl",
    ],
)
def test_a_trace_written_and_read_is_the_same(shared_data: Path, tmp_path: Path, file: str, name: str) -> None:
    trace = read_trace(shared_data / "traces" / file).trace
    back = again(trace, tmp_path / name)
    assert back.sha256() == trace.sha256()
    assert told(back) == told(trace)
    assert (back.header.source, back.header.origin_ns, back.header.zone) == (
        trace.header.source,
        trace.header.origin_ns,
        trace.header.zone,
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]


@given(st.data())
def test_any_columns_survive_being_written_and_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(OPTIONAL_COLUMNS)), unique=True, max_size=4))
    lines = data.draw(
        st.lists(
            st.fixed_dictionaries(
                {"arrival_ns": st.integers(min_value=-(2**61), max_value=2**61), "input_tokens": NUMBERS},
                optional={name: VALUES[OPTIONAL_COLUMNS[name]] for name in names} | {"output_tokens": NUMBERS},
            ),
            min_size=1,
            max_size=5,
        )
    )
    folder = tmp_path_factory.mktemp("any")
    (folder / "own.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    read = read_trace(folder / "own.jsonl")
    assert read.counts.accepted == len(lines)
    assert told(again(read.trace, folder / "t.jsonl")) == told(read.trace)


def test_mooncake_written_and_read_is_the_same(shared_data: Path, tmp_path: Path) -> None:
    trace = read_trace(shared_data / "traces" / "mooncake" / "conversation_trace.jsonl").trace
    assert again(trace, tmp_path / "m.jsonl", "mooncake").sha256() == trace.sha256()


def test_azure_becomes_mooncake_to_the_nanosecond(tmp_path: Path) -> None:
    trace = read_trace(SAMPLE).trace
    assert again(trace, tmp_path / "m.jsonl", "mooncake").arrival_ns.tolist() == trace.arrival_ns.tolist()


def test_small_blocks_are_put_together_for_mooncake(tmp_path: Path) -> None:
    ids = list(range(100, 140))
    row = {
        "chat_id": 1,
        "parent_chat_id": -1,
        "timestamp": 0.5,
        "input_length": 640,
        "output_length": 1,
        "hash_ids": ids,
    }
    (tmp_path / "b.jsonl").write_text(json.dumps(row))
    done = replay("convert", tmp_path / "b.jsonl", "--to", "mooncake", "-o", tmp_path / "m.jsonl")
    assert done.exit_code == 0
    assert json.loads((tmp_path / "m.jsonl").read_text()) == {
        "timestamp": 500, "input_length": 640, "output_length": 1, "hash_ids": [131, 139],
    }  # fmt: skip
    assert "blocks of 16 tokens were put together to 512" in done.stderr
    assert "session_id of 1 requests has no place in this format" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--window", "60:120", "--speed", "2"],
        ["--max-requests", "700", "--token-scale", "0.5"],
        ["--rate", "1.5", "--seed", "3"],
        ["--arrivals", "gamma", "--requests", "500"],
    ],
)
def test_a_converted_trace_is_the_shaped_trace(tmp_path: Path, options: list[str]) -> None:
    from planner.traces.workload import Shaping

    given_as = {
        "--window": {"window_start_s": 60, "window_end_s": 120},
        "--speed": {"speed": 2},
        "--max-requests": {"max_requests": 700},
        "--token-scale": {"token_scale": 0.5},
        "--rate": {"rate": 1.5},
        "--seed": {"seed": 3},
        "--arrivals": {"arrivals": "gamma"},
        "--requests": {"requests": 500},
    }
    fields = {key: value for option in options[::2] for key, value in given_as[option].items()}
    expected = Shaping(**fields).apply(read_trace(SAMPLE).trace)  # type: ignore[arg-type]
    done = replay("convert", SAMPLE, *options, "-o", tmp_path / "t.jsonl")
    assert done.exit_code == 0, done.output
    found = read_trace(tmp_path / "t.jsonl").trace
    assert found.sha256() == expected.sha256()
    assert [step["name"] for step in found.header.transforms] == [step["name"] for step in expected.header.transforms]
    assert found.header.origin_ns == expected.header.origin_ns


def test_a_file_far_out_of_order_is_still_converted(tmp_path: Path) -> None:
    lines = SAMPLE.read_bytes().split(b"\r\n")
    shuffled = tmp_path / "far.csv"
    shuffled.write_bytes(b"\r\n".join([lines[0], *lines[2:], lines[1]]))
    pieces = list(open_trace(shuffled).pieces(held_rows=10_000))
    assert len(pieces) == 1
    with pytest.raises(Exception, match=r"far\.csv:2869: is more than 100 rows out of order"):
        list(open_trace(shuffled).pieces(held_rows=100))


def test_rows_set_aside_go_to_the_file_that_is_named_and_nowhere_else(tmp_path: Path, shared_data: Path) -> None:
    dirty = tmp_path / "dirty.csv"
    dirty.write_bytes((shared_data / "traces" / "dirty" / "azure_dirty.csv").read_bytes())
    aside = tmp_path / "aside.jsonl"
    done = replay("inspect", dirty, "--json", "--quarantine", aside)
    assert done.exit_code == 0
    assert len(aside.read_text().splitlines()) == 12
    assert f"{aside}: the 12 rows of {dirty} that were set aside" in done.stderr
    assert json.loads(done.stdout)["files"][0]["quarantined"] == 12
    aside.unlink()
    replay("inspect", dirty, "--json")
    assert [path.name for path in tmp_path.iterdir()] == ["dirty.csv"]
    done = replay("inspect", dirty, "--max-bad", "0.01")
    assert done.exit_code == 2
    assert "12 of 301 lines are set aside, more than 1.00%" in done.stderr


def test_several_traces_are_inspected_as_one(tmp_path: Path) -> None:
    packed = tmp_path / "again.csv.gz"
    packed.write_bytes(gzip.compress(SAMPLE.read_bytes()))
    done = replay("inspect", SAMPLE, packed, "--json", "--align", "clock")
    found = json.loads(done.stdout)
    assert found["rows"] == 2 * 2867
    assert found["tenants"] == {"azure_conv_10min.csv": 2867, "again.csv.gz": 2867}
    assert [one["lines"] for one in found["files"]] == [2868, 2868]


def test_an_inspection_is_drawn_as_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    done = replay("inspect", SAMPLE, "--html", tmp_path / "t.html")
    assert done.exit_code == 0
    page = (tmp_path / "t.html").read_text()
    assert "Requests per second, bins of 5 s" in page
    assert "https://" not in page.split("<script>")[0]
    assert "2,867 requests, read as Azure" in done.stdout
    assert any(bar in done.stdout for bar in "▃▄▅")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", SAMPLE, "-o", SAMPLE], "is one of the traces that are read"),
        (["convert", SAMPLE, "-o", "/dev/null/x", "--to", "mooncake"], "cannot be written"),
        (["convert", SAMPLE, "-o", "x.jsonl", "--to", "parquet"], "is not one of loadline, mooncake"),
        (["inspect", SAMPLE, "--format", "csv"], "format 'csv' is not one of loadline, azure"),
        (["inspect", SAMPLE, "--window", "9000:9001"], "no request is left of window_start_s 9000"),
        (["inspect", SAMPLE, "--only-model", "gpt"], "no request is left of models"),
        (["inspect", SAMPLE, "--align", "end"], "must be start or clock"),
        (["inspect", SAMPLE, "--share", "2"], "share"),
        (["inspect", "/nowhere.csv"], "/nowhere.csv: cannot be opened"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments: list[object], message: str) -> None:
    done = replay(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_lengths_of_an_access_log_come_from_another_trace(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text(
        '2026-01-20 06:11:09,625 INFO uvicorn.access: 10.0.0.1:40000 - "POST /v1/completions HTTP/1.1" 200\n'
        '2026-01-20 06:11:09,700 INFO uvicorn.access: 10.0.0.1:40000 - "GET /metrics HTTP/1.1" 200\n'
    )
    done = replay("convert", log, "--lengths-from", SAMPLE, "-o", tmp_path / "t.jsonl")
    assert done.exit_code == 0
    found = read_trace(tmp_path / "t.jsonl").trace
    assert not found.absent
    lengths = read_trace(SAMPLE).trace
    pairs = set(zip(lengths.input_tokens.tolist(), lengths.output_tokens.tolist(), strict=True))
    assert (int(found.input_tokens[0]), int(found.output_tokens[0])) in pairs
    assert np.array_equal(found.arrival_ns, [0])
