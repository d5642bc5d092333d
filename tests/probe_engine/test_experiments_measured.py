"""Experiments that start servers and load models: what is counted, never how long it took."""

import json
import subprocess
import sys
from contextlib import contextmanager

import pytest

from probe_engine.errors import ExperimentError
from probe_engine.experiments import isolation, memory, quantization, sandbox, stability, tensor_parallel
from probe_engine.experiments.options import Options
from probe_engine.experiments.registry import EXPERIMENTS, sample
from probe_engine.experiments.server_process import running, serve_command
from probe_engine.experiments.streams import jobs_of
from probe_engine.experiments.trace import TraceRequest, read_trace

PROBE = [sys.executable, "-c", "from probe_engine.experiments.isolation import probe_calls; probe_calls()"]
BOX = [sys.executable, "-m", "probe_engine.experiments.sandbox"]


@pytest.fixture(scope="module")
def options():
    path = sample(EXPERIMENTS["stability"])
    return Options(read_trace(path)[:100], path.name, quick=True)


@pytest.fixture(scope="module")
def serving():
    """One plain server for all who ask for one: a start is most of what these tests cost."""
    with running(serve_command("--num-blocks", str(memory.BLOCKS), "--max-queue", str(stability.QUEUE))) as server:

        @contextmanager
        def lend(command):
            if command[1] == "-c":
                yield server
            else:
                with running(command) as wrapped:
                    yield wrapped

        yield lend


def test_every_stream_that_stays_is_whole_and_every_block_comes_back(options, serving):
    report = stability.run(options, serving)
    assert report.holds
    for row in report.rows:
        assert row["complete"] + row["hung up"] == row["streams"]
        assert (row["failed"], row["refused"], row["running after"], row["KV in use after %"]) == (0, 0, 0, 0)
    assert sum(row["hung up"] for row in report.rows) > 0


def test_a_soak_counts_its_requests_and_loses_no_block(options, serving):
    (row,) = memory.run(Options(options.trace, options.trace_name, requests=20, quick=True), serving).rows
    assert row["requests"] == 20 * memory.QUICK_ROUNDS
    assert (row["broken"], row["most KV in use between rounds %"], row["alive"]) == (0, 0, True)


def test_a_slope_is_found_and_one_outlier_does_not_move_it():
    xs = [float(at) for at in range(20)]
    ys = [5.0 * x + 100 for x in xs]
    ys[7] += 1e6
    slope = memory.fit_slope(xs, ys)
    assert slope.median == pytest.approx(5.0)
    assert slope.low <= 5.0 <= slope.high


def test_isolation_runs_the_plain_process_and_the_sandbox_and_says_what_it_could_not_run(options, serving):
    report = isolation.run(Options(options.trace, options.trace_name, requests=None, quick=True), serving)
    rows = {row["where"]: row for row in report.rows}
    assert report.holds
    assert rows["sandbox"]["dangerous calls refused"] == "6 of 6"
    told = {note.split(" was not run")[0] for note in report.notes if " was not run" in note}
    assert set(rows) | told == {"plain process", "sandbox", "bubblewrap", "docker", "podman"}


def test_the_sandbox_refuses_dangerous_calls_and_too_much_memory():
    free = json.loads(subprocess.run(PROBE, capture_output=True, check=True).stdout)
    boxed = json.loads(subprocess.run([*BOX, str(4 << 30), *PROBE], capture_output=True, check=True).stdout)
    assert set(free) == set(boxed) == set(isolation.PROBED)
    assert all(boxed.values())
    greedy = subprocess.run(
        [*BOX, str(200 << 20), sys.executable, "-c", "bytearray(1 << 30)"], capture_output=True, check=False
    )
    assert b"MemoryError" in greedy.stderr


def test_the_filter_refuses_the_other_numbering_and_kills_other_architectures():
    text = sandbox.program([101], 0xC000003E)
    assert len(text) == 8 * 9
    assert sandbox.REFUSE_EPERM & 0xFFFF == 1
    assert len(sandbox.refused_numbers("aarch64")) == len(sandbox.refused_numbers("x86_64")) - 2
    with pytest.raises(ExperimentError, match="no seccomp filter for sparc"):
        sandbox.refused_numbers("sparc")


def test_rounded_weights_take_less_and_the_model_stays_nearly_itself(options):
    report = quantization.run(options)
    plain, eight, four = report.rows
    assert report.holds
    assert plain["above %"] == 0
    assert abs(eight["above %"]) < abs(four["above %"]) < 50
    assert (plain["weights"], eight["weights"], four["weights"]) == ("none", "int8", "int4")


def test_two_processes_give_the_tokens_of_one(options):
    report = tensor_parallel.run(options)
    assert report.holds
    assert report.rows[1]["outputs as with one"] == report.rows[1]["of"]
    assert report.rows[1]["weights of a process MB"] < report.rows[0]["weights of a process MB"]


def test_a_server_that_ends_is_an_error_with_its_last_words():
    words = [sys.executable, "-c", "import sys; sys.exit('no such luck')"]
    with pytest.raises(ExperimentError, match="ended with 1: no such luck"), running(words):
        pass


def test_jobs_have_the_traces_lengths_up_to_the_longest_and_some_leave():
    trace = [TraceRequest(0, 10, 5), TraceRequest(1, 1000, 500)]
    jobs = jobs_of(trace, 200, longest=(64, 32), leaving=0.5, seed=1)
    assert [(len(job.prompt), job.output_tokens) for job in jobs[:3]] == [(10, 5), (64, 32), (10, 5)]
    leaving = [job for job in jobs if job.hang_up_after is not None]
    assert 60 < len(leaving) < 140
    assert all(job.hang_up_after < job.output_tokens for job in leaving)
    assert jobs == jobs_of(trace, 200, longest=(64, 32), leaving=0.5, seed=1)
