"""The runner's own rules, the burst benchmark and the step profile, on the tiny model."""

import json
from collections.abc import Iterator

import pytest
import torch

from probe_engine.errors import ModelError
from probe_engine.model.loading import LoadedModel, load_model
from probe_engine.model.sampling import SamplingParams
from probe_engine.profile.bench import quantile, run_bench
from probe_engine.profile.steps import StepShape, grid, profile_steps
from probe_engine.profile.threads import torch_threads
from probe_engine.runtime.runner import Runner, fit_num_blocks
from probe_engine.sched import Chunk, Request, Scheduler, SchedulerConfig, SchedulerOutput, StepStats

GREEDY = SamplingParams(temperature=0.0)
CONFIG = SchedulerConfig(num_blocks=16, block_size=8, max_num_seqs=4, max_model_len=64)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[int]:
    with torch_threads(1) as threads:  # several spin against each other where the machine is busy
        yield threads


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    return load_model("tiny", device="cpu")


def test_a_request_is_refused_for_what_the_model_cannot_compute(tiny: LoadedModel) -> None:
    runner = Runner(tiny, CONFIG)
    runner.add("one", [1, 2], GREEDY)
    with pytest.raises(ModelError, match="request one: the id is in use"):
        runner.add("one", [1], GREEDY)
    with pytest.raises(ModelError, match="request two: the prompt is empty"):
        runner.add("two", [], GREEDY)
    with pytest.raises(ModelError, match="token 258 is not in the vocabulary of 258"):
        runner.add("two", [1, 258, 259], GREEDY)
    with pytest.raises(ModelError, match="token -1"):
        runner.add("two", [-1], GREEDY)
    assert runner.requests == 1


def test_removing_an_unknown_request_is_an_error(tiny: LoadedModel) -> None:
    with pytest.raises(ModelError, match="request gone"):
        Runner(tiny, CONFIG).remove("gone")


def test_a_context_longer_than_the_model_allows_is_refused(tiny: LoadedModel) -> None:
    with pytest.raises(ModelError, match="max_model_len is 8193; the model allows at most 8192"):
        Runner(tiny, SchedulerConfig(num_blocks=4, max_model_len=8193))


def test_only_chunks_that_end_a_prompt_yield_a_token(tiny: LoadedModel) -> None:
    config = SchedulerConfig(
        num_blocks=16, block_size=8, max_num_batched_tokens=8, max_num_seqs=2, max_model_len=64, prefix_cache=False
    )
    runner, scheduler = Runner(tiny, config), Scheduler(config)
    scheduler.add(Request("long", 20, 2, 0.0))
    runner.add("long", list(range(20)), GREEDY)
    yielded = []
    while (output := scheduler.schedule(0.0)) is not None:
        yielded.append(list(runner.execute(output)))
        scheduler.update(output, {}, 0.0)
    assert yielded == [[], [], ["long"], ["long"]]


def test_rows_are_reused_over_many_short_lives(tiny: LoadedModel) -> None:
    runner, scheduler = Runner(tiny, CONFIG), Scheduler(CONFIG)
    for index in range(40):
        scheduler.add(Request(f"r{index}", 10, 3, 0.0))
        runner.add(f"r{index}", [index] * 10, GREEDY)
    while (output := scheduler.schedule(0.0)) is not None:
        runner.execute(output)
        for request in scheduler.update(output, {}, 0.0):
            runner.remove(request.request_id)
    assert runner.requests == 0


def test_memory_decides_the_number_of_blocks(tiny: LoadedModel) -> None:
    block = 2 * 2 * 2 * 32 * 4 * 8  # keys and values, layers, kv heads, head_dim, bytes, tokens
    assert fit_num_blocks(tiny, 8, 10 * block + 5) == 10
    with pytest.raises(ModelError, match=f"a block of 8 tokens takes {block}"):
        fit_num_blocks(tiny, 8, block - 1)


def test_a_burst_makes_all_of_its_tokens_and_says_how_fast() -> None:
    threads = torch.get_num_threads()
    result = run_bench("tiny", 6, 20, 5, threads=1, device="cpu")
    assert (result.requests, result.steps, result.threads) == (6, 5, 1)
    assert result.output_tokens_per_s == pytest.approx(30 / result.wall_s)
    assert result.step_p50_s <= result.step_p95_s <= result.step_p99_s <= result.wall_s
    assert json.loads(json.dumps(result.to_json()))["model"] == "tiny"
    assert torch.get_num_threads() == threads


def test_quantiles_are_values_that_were_seen() -> None:
    values = [4.0, 1.0, 3.0, 2.0]
    assert [quantile(values, share) for share in (0.0, 0.25, 0.5, 0.51, 0.99, 1.0)] == [1.0, 1.0, 2.0, 3.0, 4.0, 4.0]


def test_a_step_profile_observes_each_shape_as_often_as_asked() -> None:
    shapes = [StepShape(3, 20, 0, 0), StepShape(0, 0, 16, 5), StepShape(2, 9, 0, 4), StepShape(1, 9000, 0, 0)]
    profile = profile_steps("tiny", repeats=2, shapes=shapes, device="cpu")
    seen = sorted(
        (seen.prefill_tokens, seen.prefill_attention, seen.decode_seqs, seen.decode_kv_tokens)
        for seen in profile.observations
    )
    assert seen == sorted([(0, 0, 3, 60), (5, 95, 0, 0), (4, 10, 2, 18)] * 2)
    assert all(step.wall_s > 0 for step in profile.observations)
    assert profile.left_out == 1
    assert set(json.loads(json.dumps(profile.to_json()))) >= {"observations", "model", "dtype", "threads"}


def test_the_grid_tells_each_term_of_a_linear_step_time_from_the_others() -> None:
    rows = [
        [1, s.prefill_tokens, s.prefill_attention, s.decode_seqs, s.decode_kv_tokens] for s in (g.stats for g in grid())
    ]
    assert torch.linalg.matrix_rank(torch.tensor(rows, dtype=torch.float64)) == 5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_dtype_serves(dtype: str) -> None:
    assert run_bench("tiny", 3, 20, 4, dtype=dtype, threads=1, device="cpu").dtype == dtype


def test_a_request_that_was_given_other_blocks_is_read_from_those(tiny: LoadedModel) -> None:
    runner = Runner(tiny, CONFIG)
    moved, other = Request("moved", 9, 2, 0.0), Request("other", 9, 2, 0.0)
    runner.add("moved", list(range(50, 59)), GREEDY)
    runner.add("other", list(range(9)), GREEDY)

    def token_of(request: Request, start: int, tokens: int) -> int | None:
        chunk = Chunk(request, start, tokens, samples=start + tokens == 9)
        stats = StepStats(prefill_tokens=tokens, prefill_attention=0, decode_seqs=0, decode_kv_tokens=0)
        output = SchedulerOutput(step=0, decode_step=0, decodes=(), prefills=(chunk,), preempted=(), stats=stats)
        return runner.execute(output).get(request.request_id)

    moved.block_table = [3, 4]
    assert token_of(moved, 0, 8) is None
    undisturbed = token_of(moved, 8, 1)
    moved.block_table, other.block_table = [7, 1], [3, 4]
    token_of(moved, 0, 8)
    token_of(other, 0, 9)
    assert token_of(moved, 8, 1) == undisturbed
