"""Mooncake's traces: every line accounted for, prefixes shared exactly as their hashes say."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from planner.errors import TraceError
from planner.prompts import token_prompts
from planner.readers import read_trace
from planner.traces.trace import Flag, Quality, Ragged, Trace
from planner.traces.workload import speed, stats, take


def row(**changes: object) -> str:
    given = {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]} | changes
    return json.dumps({key: value for key, value in given.items() if value != "absent"})


def read(tmp_path: Path, *lines: str):
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(lines))
    return read_trace(path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (row(timestamp="absent"), "missing_timestamp"),
        (row(timestamp=-1), "negative_timestamp"),
        (row(timestamp="soon"), "bad_timestamp"),
        (row(timestamp=True), "bad_timestamp"),
        (row(output_length=None), "missing_output_length"),
        (row(input_length="absent"), "missing_input_length"),
        (row(input_length=-5), "negative_input_length"),
        (row(input_length=2**40), "too_large_input_length"),
        (row(input_length=1.5), "bad_input_length"),
        (row(hash_ids=[1, 2, 3]), "too_many_hash_ids"),
        (row(hash_ids=[1, 1]), "repeated_hash_id"),
        (row(hash_ids=[1, -2]), "bad_hash_ids"),
        (row(hash_ids=[1, "x"]), "bad_hash_ids"),
        ("[1, 2]", "not_an_object"),
        (row() + row(), "bad_json"),
        (row()[:-5], "bad_json"),
    ],
)
def test_a_row_that_cannot_be_used_is_set_aside_with_its_line_and_reason(tmp_path, line, reason):
    found = read(tmp_path, row(), line)
    assert [(bad.line, bad.reason) for bad in found.quarantine] == [(2, reason)]
    assert len(found.trace) == 1


def test_doubtful_rows_are_kept_and_flagged(tmp_path):
    lines = [row(timestamp=5), row(timestamp=4), row(timestamp=6, hash_ids=[1]), row(timestamp=7, output_length=0)]
    trace = read(tmp_path, *lines, lines[-1]).trace
    assert [int(flag) for flag in trace.flags] == [
        Flag.OUT_OF_ORDER, Flag.NONE, Flag.HASH_SHORT, Flag.ZERO_OUTPUT, Flag.ZERO_OUTPUT | Flag.DUPLICATE,
    ]  # fmt: skip
    assert trace.arrival_ns.tolist() == [4_000_000, 5_000_000, 6_000_000, 7_000_000, 7_000_000]


def test_a_file_without_a_usable_row_is_refused(tmp_path):
    with pytest.raises(TraceError, match="no row can be used; 1 were set aside"):
        read(tmp_path, row(timestamp=-1))


def test_arrivals_on_common_ticks_are_said_to_be_quantised(tmp_path):
    assert set(read(tmp_path, *[row(hash_ids=[n]) for n in range(4)]).trace.arrival_quality) == {Quality.QUANTISED}
    assert set(read(tmp_path, *[row(timestamp=n) for n in range(4)]).trace.arrival_quality) == {Quality.EXACT}


def faults(shared_data: Path) -> dict[str, object]:
    documents = json.loads((shared_data / "traces" / "dirty" / "EXPECTED_FAULTS.json").read_text())
    return next(document for document in documents if "mooncake" in document["file"])


def test_the_dirty_file_gets_exactly_the_treatment_that_is_wanted(shared_data):
    expected = faults(shared_data)
    found = read_trace(shared_data / "traces" / str(expected["file"]))
    wanted = {"quarantine": set(), "flag": set(), "skip": set(), "accept": set()}
    for fault in expected["faults"]:  # type: ignore[attr-defined]
        wanted[fault["want"]].add(fault["line"])
    assert {bad.line for bad in found.quarantine} == wanted["quarantine"]
    assert set(found.trace.src_line[found.trace.flags != 0].tolist()) == wanted["flag"]
    assert wanted["accept"] <= set(found.trace.src_line.tolist())
    totals = expected["totals"]
    assert (found.counts.lines, found.counts.blank, found.counts.accepted, found.counts.quarantined) == (
        totals["lines"], totals["skip"], totals["accepted"], totals["quarantine"],  # type: ignore[index]
    )  # fmt: skip


@pytest.fixture(scope="module")
def conversation(shared_data) -> Trace:
    return read_trace(shared_data / "traces" / "mooncake" / "conversation_trace.jsonl").trace


def test_the_real_traces_statistics_are_those_computed_elsewhere(conversation, shared_data):
    document = json.loads((shared_data / "traces" / "EXPECTED_STATS.json").read_text())
    expected = document["files"]["mooncake/conversation_trace.jsonl"]["arrivals"]
    found = stats(conversation)
    assert found.rows == expected["rows"]
    assert found.duration_s == pytest.approx(expected["duration_s"], abs=1e-3)
    assert found.gap_cv == pytest.approx(expected["iat_cv"], abs=1e-3)
    assert found.tie_ratio == pytest.approx(expected["tie_frac"], abs=1e-3)
    assert found.input_tokens.sum == expected["in"]["sum"]
    assert found.output_tokens.sum == expected["out"]["sum"]
    assert found.input_tokens.p99 == pytest.approx(expected["in"]["p99"], rel=1e-4)


def hit_tokens(prompts: Iterator[np.ndarray], block: int) -> int:
    """Tokens of leading blocks that an earlier prompt began with, an unbounded cache of ids."""
    seen: set[bytes] = set()
    hits = 0
    for prompt in prompts:
        for end in range(block, len(prompt) + 1, block):
            if prompt[:end].tobytes() not in seen:
                break
            hits += block
        seen.update(prompt[:end].tobytes() for end in range(block, len(prompt) + 1, block))
    return hits


def test_prompts_share_what_the_hashes_say_and_no_speed_changes_that(conversation):
    first = take(conversation, 120)
    hashes = first.column("prefix_hashes")
    assert isinstance(hashes, Ragged)
    seen: set[int] = set()
    expected = 0
    for index in range(len(first)):
        full = hashes.row(index)[: int(first.input_tokens[index]) // 512].tolist()
        for one in full:
            if one not in seen:
                break
            expected += 512
        seen.update(full)
    assert expected > 0
    assert hit_tokens(token_prompts(first, 0, 2**31), 512) == expected
    faster = speed(first, 7.0).column("prefix_hashes")
    assert isinstance(faster, Ragged)
    assert (faster.values == hashes.values).all()
