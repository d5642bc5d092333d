"""Scheduling while the step before runs: the same answers as one after the other, in another order of doing."""

from dataclasses import replace

import pytest
from prometheus_client import generate_latest

from probe_engine.model.loading import load_model
from probe_engine.model.sampling import SamplingParams
from probe_engine.runtime.engine import Engine
from probe_engine.runtime.generation import Generation, TokenOutput
from probe_engine.runtime.runner import Runner
from probe_engine.sched import FinishReason, SchedulerConfig
from probe_engine.telemetry.metrics import EngineMetrics

ROOMY = SchedulerConfig(num_blocks=200, block_size=4, max_num_batched_tokens=64, max_num_seqs=16, max_model_len=400)
EOS = 257
PROMPTS = {f"r{index}": f"prompt number {index} " * (1 + index % 3) for index in range(8)}


def generation(name: str, prompt: str, max_tokens: int = 12, **options) -> Generation:
    options.setdefault("sampling", SamplingParams(temperature=0.0))
    return Generation(name, list(prompt.encode()), max_tokens, 0.0, **options)


def serve(engine: Engine, *generations: Generation) -> dict[str, list[TokenOutput]]:
    for one in generations:
        engine.add(one)
    got: dict[str, list[TokenOutput]] = {one.request_id: [] for one in generations}
    while engine.has_work:
        for output in engine.step():
            got.setdefault(output.request_id, []).append(output)
    return got


def answers(got: dict[str, list[TokenOutput]]) -> dict[str, tuple]:
    """What each caller sees of its answer."""
    return {
        name: (
            [output.token_id for output in outputs],
            "".join(output.text for output in outputs),
            outputs[-1].finish_reason,
            outputs[-1].request.output_tokens,
            outputs[-1].request.timeline.tokens,
        )
        for name, outputs in got.items()
    }


def test_a_step_is_launched_before_the_tokens_of_the_one_before_are_there(overlapping_engine_of):
    engine, runner = overlapping_engine_of(ROOMY)
    serve(engine, generation("a", "hello", 4))
    assert runner.order == [
        "launched 0",
        "launched 1",
        "done 0",
        "launched 2",
        "done 1",
        "launched 3",
        "done 2",
        "done 3",
    ]


@pytest.mark.parametrize("config", [ROOMY, replace(ROOMY, num_blocks=20), replace(ROOMY, max_num_batched_tokens=16)])
def test_answers_are_those_of_steps_one_after_the_other(engine_of, overlapping_engine_of, config):
    asked = [generation(name, prompt, 3 + 2 * index) for index, (name, prompt) in enumerate(PROMPTS.items())]
    plain, overlapping = engine_of(config)[0], overlapping_engine_of(config)[0]
    assert answers(serve(overlapping, *asked)) == answers(serve(plain, *asked))
    assert overlapping.scheduler.preemptions == plain.scheduler.preemptions
    assert overlapping.scheduler.prefix_hits_tokens == plain.scheduler.prefix_hits_tokens
    assert overlapping.scheduler.free_blocks == config.num_blocks


def test_the_token_under_way_behind_an_end_is_nobodys(engine_of, overlapping_engine_of):
    script = {tuple(b"x"): [104, 105, EOS, 33, 33], tuple(b"y"): list(b"some END more"), tuple(b"z"): [65, 66, EOS]}
    found = []
    for make in (engine_of, overlapping_engine_of):
        engine, runner = make(ROOMY)
        runner.scripts.update(script)
        asked = (
            generation("x", "x"),
            generation("y", "y", stop=("END",)),
            generation("z", "z", 3),  # its end of text is also its last token
            generation("long", "long", 30),
        )
        found.append(answers(serve(engine, *asked)))
        assert (runner.ids, engine.scheduler.free_blocks) == ({}, 200)
        page = generate_latest(engine.metrics.registry()).decode()
        assert f'loadline_generation_tokens_total{{model_name="tiny"}} {3 + 8 + 3 + 30}.0' in page
    assert found[1] == found[0]
    assert [found[1][name][2] for name in "xyz"] == [FinishReason.STOP] * 3


def test_times_are_those_at_which_tokens_came(overlapping_engine_of, clock):
    engine, runner = overlapping_engine_of(ROOMY, clock=clock, record_tokens=True)

    def a_second_passes() -> None:
        clock.now_s += 1.0

    runner.after_step = a_second_passes
    runner.scripts[tuple(b"x")] = [104, 105, EOS, 33]
    timeline = serve(engine, generation("x", "x"))["x"][-1].request.timeline
    assert (timeline.scheduled_s, timeline.first_token_s, timeline.last_token_s) == (100.0, 101.0, 103.0)
    assert timeline.finished_s == 103.0
    assert timeline.token_times == [101.0, 102.0, 103.0]
    assert [record.wall_s for record in engine.steps.since(0)] == [1.0, 1.0, 1.0]


def test_who_leaves_gets_nothing_more_and_its_name_may_be_used_again(overlapping_engine_of):
    engine, runner = overlapping_engine_of(ROOMY)
    engine.add(generation("a", "first", 9))
    engine.add(generation("b", "beside it", 9))
    got = [*engine.step(), *engine.step()]
    assert [output.request_id for output in got] == ["a", "b"]
    left = engine.abort("a")
    assert left is not None
    assert left.request.output_tokens == 1
    again = serve(engine, generation("a", "second", 3), generation("c", "third", 3))
    alone = serve(overlapping_engine_of(ROOMY)[0], generation("a", "second", 3))
    assert answers({"a": again["a"]}) == answers(alone)
    assert (runner.ids, engine.scheduler.free_blocks) == ({}, 200)


def test_a_step_that_fails_ends_its_requests_and_no_others(overlapping_engine_of):
    engine, runner = overlapping_engine_of(ROOMY)
    engine.add(generation("a", "first", 9))
    engine.step()
    runner.failing.add("a")
    outputs = [*engine.step(), *engine.step()]
    assert [output.error for output in outputs] == ["the engine's step failed: out of memory"]
    runner.failing.clear()
    assert len(serve(engine, generation("b", "second", 5))["b"]) == 5
    assert (runner.ids, engine.scheduler.free_blocks) == ({}, 200)


def test_the_model_finds_its_last_tokens_where_it_left_them():
    config = replace(ROOMY, num_blocks=30, block_size=8, prefix_cache=False)
    loaded = load_model("tiny", device="cpu")
    ways = [
        SamplingParams(temperature=0.0),
        SamplingParams(temperature=0.9, seed=5),
        SamplingParams(temperature=0.9, top_p=0.8, seed=6, logprobs=2),
        SamplingParams(temperature=0.0, frequency_penalty=1.5, repetition_penalty=1.3),
    ]
    asked = [
        generation(name, prompt, 20, sampling=ways[index % 4], ignore_eos=True)
        for index, (name, prompt) in enumerate(PROMPTS.items())
    ]
    found = []
    for overlaps in (False, True):
        runner = Runner(loaded, config)
        launch = runner.launch if overlaps else None
        engine = Engine(runner, loaded.tokenizer, config, EngineMetrics("tiny"), launch=launch)
        found.append(serve(engine, *asked))
        assert engine.scheduler.preemptions
        assert runner.requests == 0
    assert answers(found[1]) == answers(found[0])
    for plain, overlapping in zip(*(got["r2"] for got in found), strict=True):
        assert overlapping.logprobs.token_id == plain.logprobs.token_id
        assert overlapping.logprobs.logprob == pytest.approx(plain.logprobs.logprob, abs=1e-4)
