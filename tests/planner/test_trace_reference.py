"""Every reference file: its lines reconcile, and its statistics are those that were computed elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest

from planner.errors import TraceError
from planner.readers import open_trace, read_trace
from planner.traces.profile import LengthStats, WorkloadStats, stats
from planner.traces.trace import Trace

FILES = (
    "azure/AzureLLMInferenceTrace_code.csv",
    "azure/AzureLLMInferenceTrace_conv.csv",
    "vidur/splitwise_code.csv",
    "vidur/splitwise_conv.csv",
    "lengths/sharegpt_8k_filtered_stats_llama2_tokenizer.csv",
    "mooncake/conversation_trace.jsonl",
    "vllm_otel/jan20-codellama-prefill-1/traces.json",
    "vllm_otel/jan21-llama7b-train-1/traces.json",
    "llmservingsim/workloads/example_trace.jsonl",
    "llmservingsim/workloads/sharegpt-llama-3.1-8b-300-sps10.jsonl",
)
NO_TRACES = {
    "README.md",
    "MANIFEST.json",
    "EXPECTED_STATS.json",
    "EXPECTED_FAULTS.json",
    "meta.json",
    "timeseries.csv",
    "exp-config.yaml",
    "profile.yaml",
    "vllm.log",
    "vllm_logging.json",
}


def lengths(found: LengthStats, expected: dict[str, float]) -> dict[str, float]:
    """Ours under the reference's names, the mean rounded as it is there."""
    names = ("mean", "p50", "p90", "p99", "max", "min", "zero", "sum")
    return {name: round(getattr(found, name), 1) if name == "mean" else getattr(found, name) for name in names}


def arrivals(trace: Trace, found: WorkloadStats) -> dict[str, object]:
    assert found.gaps is not None
    return {
        "rows": found.rows,
        "unsorted_pairs": found.unsorted_pairs,
        "t_first": float(f"{trace.header.origin_ns / 1e9 + found.first_s}"),
        "duration_s": round(found.duration_s, 3),
        "mean_rps": round(found.mean_per_s, 4),
        "tie_frac": round(found.tie_ratio, 4),
        "iat_cv": round(found.gap_cv or 0.0, 3),
        "iat_p50": found.gaps.p50_s,
        "iat_p99": found.gaps.p99_s,
        "iat_max": found.gaps.max_s,
        "peak_rps_1s": found.peak_1s_per_s,
        "peak_rps_60s": round(found.peak_60s_per_s, 3),
        "disp_1s": round(found.dispersion_1s, 2),
        "disp_60s": round(found.dispersion.get("60s", 0.0), 2),
        "dup_rows": found.repeated,
    }


@pytest.mark.parametrize("name", FILES)
def test_statistics_are_those_computed_elsewhere(shared_data: Path, name: str) -> None:
    expected = json.loads((shared_data / "traces" / "EXPECTED_STATS.json").read_text())["files"][name]
    trace = read_trace(shared_data / "traces" / name).trace
    found = stats(trace)
    told = expected.get("arrivals") or expected["lengths"]
    assert lengths(found.input_tokens, told["in"]) == pytest.approx(told["in"], rel=1e-12)
    assert lengths(found.output_tokens, told["out"]) == pytest.approx(told["out"], rel=1e-12)
    if "lengths" in expected:
        assert (found.rows, found.repeated) == (told["rows"], told["dup_rows"])
        return
    wanted = {key: value for key, value in told.items() if key not in ("in", "out")}
    # The reference holds epoch seconds as floats, 240 ns apart; ours are exact.
    assert arrivals(trace, found) == pytest.approx(wanted, rel=1e-6, abs=3e-7)


def test_prefix_statistics_are_those_computed_elsewhere(shared_data: Path) -> None:
    name = "mooncake/conversation_trace.jsonl"
    expected = json.loads((shared_data / "traces" / "EXPECTED_STATS.json").read_text())["files"][name]["prefix"]
    found = stats(read_trace(shared_data / "traces" / name).trace).prefix
    assert found is not None
    assert {
        "block": found.block_tokens,
        "blocks": found.blocks,
        "unique": found.unique,
        "len_mismatch_rows": found.mismatched_rows,
        "blk_prefix_hit": round(found.block_hit_ratio, 4),
        "blk_seen_anywhere": round(found.seen_ratio, 4),
        "tok_prefix_hit": round(found.token_hit_ratio, 4),
        "req_with_hit": round(found.requests_with_hit, 4),
        "ids_with_several_parents": found.several_parents,
        "ids_at_several_positions": found.several_positions,
        "ids_with_several_block_lengths": found.several_lengths,
        "top_ids": [list(one) for one in found.top],
    } == {key: value for key, value in expected.items() if key not in ("max_id", "dup_id_within_row")}


def test_every_reference_file_reconciles_or_is_said_to_be_no_trace(shared_data: Path) -> None:
    clients: dict[str, int] = {}
    refused, requests = set(), 0
    for path in sorted((shared_data / "traces").rglob("*")):
        clients[str(path.parent)] = clients.get(str(path.parent), 0) + path.name.endswith("-trace.csv")
        if not path.is_file() or (path.name.endswith("-trace.csv") and clients[str(path.parent)] > 2):
            continue
        try:
            read = read_trace(path)
        except TraceError as error:
            assert str(path) in str(error)
            refused.add(path.name)
            continue
        counts = read.counts
        raw = path.read_bytes()
        physical = raw.count(b"\n") + (not raw.endswith(b"\n"))
        assert counts.lines == physical == counts.header + counts.blank + counts.accepted + counts.quarantined, path
        assert counts.requests == len(read.trace)
        assert counts.quarantined == (12 if "dirty" in str(path) else 0)
        requests += len(read.trace)
    assert requests > 60_000
    assert {name for name in refused if not name.startswith(("chunk-", "vllm_log_"))} == NO_TRACES


def test_ties_of_the_real_conversation_trace_are_told(shared_data: Path) -> None:
    found = stats(read_trace(shared_data / "traces" / "mooncake" / "conversation_trace.jsonl").trace)
    assert found.qualities == {"quantised": 6000}
    assert found.ticks == 625
    assert found.tick_s == pytest.approx(3.0, abs=0.003)


@pytest.mark.parametrize("name", FILES)
def test_a_file_read_in_pieces_is_the_file_read_whole(shared_data: Path, name: str) -> None:
    path = shared_data / "traces" / name
    whole = read_trace(path).trace
    pieces = list(open_trace(path).pieces(held_rows=1000))
    for column in ("row_id", "src_line", "arrival_ns", "arrival_quality", "input_tokens", "output_tokens", "flags"):
        assert np.array_equal(np.concatenate([getattr(one, column) for one in pieces]), getattr(whole, column)), column
