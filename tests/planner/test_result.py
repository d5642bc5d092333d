from pathlib import Path

import numpy as np
import pytest

from planner.compare import compare
from planner.errors import RunError, SloError
from planner.result import Observation, Requests, Run, RunHeader, read_run, run_schema
from planner.slo import Slo, load_slo

NAN = float("nan")


def run_of(first: list[float], last: list[float], tokens: list[int], rows: list[int] | None = None) -> Run:
    count = len(first)
    ended = np.array([value == value for value in last])
    return Run(
        RunHeader(kind="replay", target="http://127.0.0.1:1", model="tiny", trace="t.csv", trace_sha256="ab"),
        Requests(
            row_id=np.array(rows or range(count), dtype=np.int64),
            due_s=np.zeros(count),
            sent_s=np.full(count, 0.1),
            first_token_s=np.array(first),
            last_token_s=np.array(last),
            end_s=np.array(last),
            input_tokens=np.full(count, 5),
            output_tokens=np.array(tokens),
            cached_tokens=np.full(count, NAN),
            status=np.where(ended, "ok", "error"),
            error=tuple(None if good else "connection reset" for good in ended),
            token_times_s=tuple(
                np.linspace(a, b, n) if b == b else np.zeros(0) for a, b, n in zip(first, last, tokens, strict=True)
            ),
        ),
        (Observation(wall_s=0.1, prefill_tokens=5, prefill_attention=15, decode_seqs=0, decode_kv_tokens=0),),
    )


RUN = run_of([0.5, 1.0, NAN], [1.5, 1.0, NAN], [5, 1, 0])


def test_latencies_are_those_of_the_definitions() -> None:
    found = RUN.latencies()
    assert found["ttft_due_s"][:2].tolist() == [0.5, 1.0]
    assert found["ttft_sent_s"][:2] == pytest.approx([0.4, 0.9])
    assert found["tpot_s"][0] == pytest.approx(0.25)
    assert np.isnan(found["tpot_s"][1])
    assert found["itl_s"] == pytest.approx([0.25] * 4)
    assert found["e2e_sent_s"][0] == pytest.approx(1.4)
    assert all(np.isnan(values[2]) for name, values in found.items() if name not in ("itl_s", "lag_s"))


def test_a_failed_request_counts_against_success_and_goodput() -> None:
    summary = RUN.summary(Slo(ttft_p95_s=2, itl_p95_s=1))
    assert summary.by_status == {"error": 1, "ok": 2}
    assert summary.success_ratio == pytest.approx(2 / 3)
    assert summary.goodput_ratio == pytest.approx(2 / 3)
    assert summary.latency["ttft_due_s"].n == 2


def test_a_request_is_good_only_within_every_latency() -> None:
    assert RUN.good(Slo(ttft_p95_s=0.8, itl_p95_s=0.3)).tolist() == [True, False, False]
    assert RUN.good(Slo(ttft_p95_s=2, itl_p95_s=0.2)).tolist() == [False, True, False]
    assert RUN.good(Slo(ttft_p95_s=2, itl_p95_s=1, e2e_p95_s=1.2)).tolist() == [False, True, False]


def test_a_written_run_reads_back_the_same(tmp_path: Path) -> None:
    RUN.write(tmp_path / "run.json")
    back = read_run(tmp_path / "run.json")
    assert back.header == RUN.header
    assert back.observations == RUN.observations
    for name in ("row_id", "first_token_s", "output_tokens", "cached_tokens"):
        np.testing.assert_array_equal(getattr(back.requests, name), getattr(RUN.requests, name))
    assert back.requests.error == RUN.requests.error
    assert back.requests.token_times_s is not None
    assert back.requests.token_times_s[0] == pytest.approx([0.5, 0.75, 1.0, 1.25, 1.5])


def test_a_file_that_is_no_run_names_the_field(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    RUN.write(path)
    path.write_text(path.read_text().replace('"kind":"replay"', '"kind":"dream"'))
    with pytest.raises(RunError, match=r"run\.json: is not a run: header\.kind"):
        read_run(path)


def test_columns_of_unequal_length_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    RUN.write(path)
    path.write_text(path.read_text().replace('"due_s":[0.0,0.0,0.0]', '"due_s":[0.0]'))
    with pytest.raises(RunError, match=r"requests\.due_s has 1 rows, row_id has 3"):
        read_run(path)


def test_the_run_schema_names_every_column() -> None:
    assert {"row_id", "due_s", "token_times_s"} <= set(run_schema()["$defs"]["_Columns"]["properties"])


def test_runs_are_joined_by_row_and_not_by_position() -> None:
    a = run_of([1.0, 2.0], [2.0, 4.0], [3, 3], rows=[7, 9])
    b = run_of([2.0, 1.1], [4.0, 2.2], [3, 3], rows=[9, 7])
    found = compare(a, b)
    assert found.joined == 2
    ttft = found.metrics["ttft_due_s"]
    assert ttft.row_error_median == pytest.approx(0.05)
    assert ttft.error["p50"] == pytest.approx(1.55 / 1.5 - 1)


def test_rows_of_one_side_are_counted_and_left_out() -> None:
    found = compare(run_of([1.0, 2.0], [2.0, 3.0], [2, 2], rows=[1, 2]), run_of([1.0], [2.0], [2], rows=[2]))
    assert (found.joined, found.only_a, found.only_b) == (1, 1, 0)


def test_runs_without_a_common_request_cannot_be_compared() -> None:
    with pytest.raises(RunError, match="no request in common"):
        compare(run_of([1.0], [2.0], [2], rows=[1]), run_of([1.0], [2.0], [2], rows=[2]))


def test_a_promise_is_read_from_its_table(tmp_path: Path) -> None:
    path = tmp_path / "slo.toml"
    path.write_text("[slo]\nttft_p95_s = 0.3\n")
    assert load_slo(path) == Slo(ttft_p95_s=0.3)


@pytest.mark.parametrize("text", ["[slo]\nttft_p95_s = -1\n", "[slo]\nttft_p99_s = 1\n", "[slo\n"])
def test_a_bad_promise_names_file_and_field(tmp_path: Path, text: str) -> None:
    path = tmp_path / "slo.toml"
    path.write_text(text)
    with pytest.raises(SloError, match=r"slo\.toml: (ttft_p9|is not TOML)"):
        load_slo(path)
