import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import TraceError
from planner.readers import problems, quarantine_file, read_trace
from planner.readers.values import parse_time_ns
from planner.traces.trace import Flag
from planner.traces.workload import stats

SAMPLE = Path(__file__).parents[2] / "samples" / "traces" / "azure_conv_10min.csv"
HEADER = b"TIMESTAMP,ContextTokens,GeneratedTokens"
WANTED = {"quarantine", "flag", "accept", "skip"}


def written(tmp_path: Path, *lines: bytes, end: bytes = b"\r\n") -> Path:
    path = tmp_path / "trace.csv"
    path.write_bytes(end.join([HEADER, *lines]))
    return path


def test_the_dirty_azure_file_gets_exactly_the_expected_treatment(shared_data: Path) -> None:
    folder = shared_data / "traces" / "dirty"
    expected = next(e for e in json.loads((folder / "EXPECTED_FAULTS.json").read_text()) if "azure" in e["file"])
    read = read_trace(folder / "azure_dirty.csv")
    totals = expected["totals"]
    assert (read.counts.lines, read.counts.header, read.counts.blank) == (
        totals["lines"],
        totals["header"],
        totals["skip"],
    )
    assert (read.counts.quarantined, read.counts.accepted) == (totals["quarantine"], totals["accepted"])
    aside = {row.line for row in read.quarantine}
    flagged = set(read.trace.src_line[read.trace.flags != 0].tolist())
    by_want = {want: {f["line"] for f in expected["faults"] if f["want"] == want} for want in WANTED}
    assert aside == by_want["quarantine"]
    assert flagged == by_want["flag"]
    assert by_want["accept"] <= set(read.trace.src_line.tolist())


@pytest.mark.parametrize("name", ["code", "conv"])
def test_statistics_of_the_real_traces_are_the_published_ones(shared_data: Path, name: str) -> None:
    file = f"azure/AzureLLMInferenceTrace_{name}.csv"
    expected = json.loads((shared_data / "traces" / "EXPECTED_STATS.json").read_text())["files"][file]["arrivals"]
    trace = read_trace(shared_data / "traces" / file).trace
    found = stats(trace)
    assert found.rows == expected["rows"]
    assert trace.header.origin_ns / 1e9 == pytest.approx(expected["t_first"], abs=1e-5)
    assert round(found.duration_s, 3) == expected["duration_s"]
    assert round(found.mean_per_s, 4) == expected["mean_rps"]
    assert round(found.gap_cv or 0, 3) == expected["iat_cv"]
    assert (found.peak_1s_per_s, round(found.peak_60s_per_s, 3)) == (expected["peak_rps_1s"], expected["peak_rps_60s"])
    assert round(found.dispersion_1s, 2) == expected["disp_1s"]
    for side, key in ((found.input_tokens, "in"), (found.output_tokens, "out")):
        for statistic in ("p50", "p90", "p99", "min", "max", "zero", "sum"):
            assert getattr(side, statistic) == pytest.approx(expected[key][statistic]), (key, statistic)
    assert not trace.flags.any()
    assert read_trace(shared_data / "traces" / file).counts.quarantined == 0


def test_the_sample_is_the_first_ten_minutes_of_the_real_trace() -> None:
    read = read_trace(SAMPLE)
    assert len(read.trace) == 2867
    assert read.trace.duration_s < 600
    assert read.counts.quarantined == 0
    assert read.trace.header.resolution_ns == 100


def test_times_keep_their_hundred_nanoseconds(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, b"2023-11-16 18:17:03.9799600,1,1", b"2023-11-16 18:17:03.9799601,1,1")).trace
    assert trace.arrival_ns.tolist() == [0, 100]
    assert trace.header.origin_ns == 1_700_158_623_979_960_000


@given(st.integers(min_value=0, max_value=4_102_444_799_999_999_999))
def test_every_nanosecond_survives_being_written_and_read(time_ns: int) -> None:
    text = str(np.datetime64(time_ns, "ns")).replace("T", " ")
    assert parse_time_ns(text)[0] == time_ns


def test_a_zone_is_taken_into_account() -> None:
    assert parse_time_ns("2024-05-10 02:00:00.009930+02:00")[0] == parse_time_ns("2024-05-10 00:00:00.00993Z")[0]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_reconcile_or_give_one_clear_error(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "t.csv"
    path.write_bytes(HEADER + b"\n2023-11-16 18:17:03,1,1\n" + body)
    counts = read_trace(path).counts
    assert counts.lines == counts.header + counts.blank + counts.accepted + counts.quarantined


def test_a_gzipped_file_with_a_byte_order_mark_reads_the_same(tmp_path: Path) -> None:
    plain = written(tmp_path, b"2023-11-16 18:17:03.1,10,20", b"2023-11-16 18:17:04.1,30,40")
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + plain.read_bytes()))
    assert read_trace(packed).trace.sha256() == read_trace(plain).trace.sha256()


def test_a_zstd_file_reads_the_same(tmp_path: Path) -> None:
    packed = tmp_path / "packed.csv.zst"
    packed.write_bytes(zstandard.compress(SAMPLE.read_bytes()))
    assert read_trace(packed).trace.sha256() == read_trace(SAMPLE).trace.sha256()


def test_a_gzip_cut_short_is_one_clear_error(tmp_path: Path) -> None:
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(SAMPLE.read_bytes())[:9000])
    with pytest.raises(TraceError, match=r"packed\.csv\.gz: cannot be read after line \d+"):
        read_trace(packed)


def test_columns_are_found_by_name_and_unknown_ones_kept(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("NumImages,GeneratedTokens,TIMESTAMP,ContextTokens,Zone\n2,7,2025-01-01 00:00:00.5,9,b\n")
    trace = read_trace(path).trace
    assert (trace.input_tokens[0], trace.output_tokens[0], trace.column("images")[0]) == (9, 7, 2)  # type: ignore[index]
    assert trace.column("extra")[0] == '{"Zone": "b"}'  # type: ignore[index]


def test_rows_are_sorted_by_arrival_and_remember_their_line(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, b"2023-11-16 18:17:05,5,1", b"2023-11-16 18:17:03,3,1")).trace
    assert trace.input_tokens.tolist() == [3, 5]
    assert trace.src_line.tolist() == [3, 2]
    assert Flag(int(trace.flags[0])) == Flag.OUT_OF_ORDER


def test_strict_stops_at_the_first_bad_row_and_names_it(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"trace\.csv:3: negative_tokens"):
        read_trace(written(tmp_path, b"2023-11-16 18:17:03,1,1", b"2023-11-16 18:17:04,-5,9"), strict=True)


def test_an_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(TraceError, match="known: loadline, azure, burstgpt, mooncake"):
        read_trace(path)


def test_the_quarantine_file_gives_the_bytes_back(tmp_path: Path) -> None:
    with quarantine_file(tmp_path / "q.jsonl") as sink:
        read_trace(written(tmp_path, b"2023-11-16 18:17:03,1,1", b"\xff,1,1"), sink=sink)
    entry = json.loads((tmp_path / "q.jsonl").read_text())
    assert entry == {"line": 3, "byte_offset": 66, "reason": "invalid_utf8", "raw": "/ywxLDE="}
    assert written(tmp_path, b"2023-11-16 18:17:03,1,1", b"\xff,1,1").read_bytes()[66:67] == b"\xff"


def test_problems_are_told_with_their_lines(tmp_path: Path) -> None:
    path = written(tmp_path, b"2023-11-16 18:17:03,1,1", b"x,1,1", b"2023-11-16 18:17:04,0,1")
    told = problems(path, read_trace(path).account)
    assert told[0].endswith("4 lines = 1 header + 0 blank + 2 accepted + 1 set aside")
    assert told[1].endswith("trace.csv:3: set aside: bad_timestamp: b'x,1,1'")
    assert told[2].endswith("trace.csv:4: kept, flagged: zero_input")
