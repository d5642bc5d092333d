"""The engine's loop on a runner that recalls every token it stored: who gets which tokens, text and times."""

from dataclasses import replace

import pytest

from probe_engine.model.sampling import SamplingParams
from probe_engine.runtime.engine import Engine
from probe_engine.runtime.generation import Generation, TokenOutput
from probe_engine.sched import FinishReason, RequestRefused, SchedulerConfig

ROOMY = SchedulerConfig(num_blocks=200, block_size=4, max_num_batched_tokens=64, max_num_seqs=16, max_model_len=400)
EOS = 257


def generation(name: str, prompt: str | list[int], max_tokens: int = 12, **options) -> Generation:
    ids = list(prompt.encode()) if isinstance(prompt, str) else prompt
    return Generation(name, ids, max_tokens, 0.0, SamplingParams(temperature=0.0), **options)


def serve(engine: Engine, *generations: Generation) -> dict[str, list[TokenOutput]]:
    """Everything each request got."""
    for one in generations:
        engine.add(one)
    got: dict[str, list[TokenOutput]] = {one.request_id: [] for one in generations}
    while engine.has_work:
        for output in engine.step():
            got[output.request_id].append(output)
    return got


def tokens(outputs: list[TokenOutput]) -> list[int | None]:
    return [output.token_id for output in outputs]


def text(outputs: list[TokenOutput]) -> str:
    return "".join(output.text for output in outputs)


PROMPTS = {f"r{index}": f"prompt number {index} " * (1 + index % 3) for index in range(8)}


def alone(engine_of, config: SchedulerConfig = ROOMY) -> dict[str, list[int | None]]:
    return {
        name: tokens(serve(engine_of(config)[0], generation(name, prompt))[name]) for name, prompt in PROMPTS.items()
    }


def test_a_batch_gives_each_request_the_tokens_that_it_gets_alone(engine_of):
    engine, _ = engine_of(ROOMY)
    together = serve(engine, *(generation(name, prompt) for name, prompt in PROMPTS.items()))
    assert {name: tokens(outputs) for name, outputs in together.items()} == alone(engine_of)


def test_preemption_changes_no_token(engine_of):
    engine, runner = engine_of(replace(ROOMY, num_blocks=20))
    together = serve(engine, *(generation(name, prompt, 12) for name, prompt in PROMPTS.items()))
    assert engine.scheduler.preemptions > 0
    assert {name: tokens(outputs) for name, outputs in together.items()} == alone(engine_of)
    assert engine.scheduler.free_blocks == 20
    assert runner.ids == {}


def test_a_cached_prefix_gives_the_tokens_of_a_cold_one(engine_of):
    cold = serve(engine_of(ROOMY)[0], generation("a", "the same prompt twice"))["a"]
    engine, runner = engine_of(ROOMY)
    serve(engine, generation("first", "the same prompt, then another"))
    before = len(runner.computed)
    warm = serve(engine, generation("a", "the same prompt twice"))["a"]
    assert tokens(warm) == tokens(cold)
    assert warm[-1].request.cached_tokens == 12
    assert len(runner.computed) - before == 21 - 12 + 11


def test_the_next_turn_finds_the_blocks_of_the_last_answer(engine_of):
    engine, _ = engine_of(ROOMY)
    first = serve(engine, generation("a", "hello", 12))["a"]
    history = [*b"hello", *tokens(first), *b" and on"]
    second = serve(engine, generation("b", history, 4))["b"]
    assert second[-1].request.cached_tokens == 16  # 5 + 12 tokens, of which 16 were computed: 4 blocks
    assert tokens(second) == tokens(serve(engine_of(ROOMY)[0], generation("b", history, 4))["b"])


def test_the_output_ends_with_length_at_max_tokens(engine_of):
    outputs = serve(engine_of(ROOMY)[0], generation("a", "x", 5))["a"]
    assert [output.finish_reason for output in outputs] == [None] * 4 + [FinishReason.LENGTH]
    assert text(outputs).encode() == bytes(tokens(outputs))


def test_end_of_text_stops_and_is_counted_but_not_shown(engine_of):
    engine, runner = engine_of(ROOMY)
    runner.scripts[tuple(b"x")] = [104, 105, EOS, 33]
    outputs = serve(engine, generation("a", "x"))["a"]
    assert (text(outputs), outputs[-1].finish_reason) == ("hi", FinishReason.STOP)
    assert outputs[-1].request.output_tokens == 3


def test_end_of_text_is_passed_over_when_asked(engine_of):
    engine, runner = engine_of(ROOMY)
    runner.scripts[tuple(b"x")] = [104, EOS, 105, EOS]
    outputs = serve(engine, generation("a", "x", 4, ignore_eos=True))["a"]
    assert (text(outputs), outputs[-1].finish_reason) == ("hi", FinishReason.LENGTH)


def test_a_stop_text_across_tokens_ends_the_output_before_it(engine_of):
    engine, runner = engine_of(ROOMY)
    runner.scripts[tuple(b"x")] = b"some ENough END more"
    outputs = serve(engine, generation("a", "x", 20, stop=("END", "zzz")))["a"]
    assert text(outputs) == "some ENough "
    assert (outputs[-1].finish_reason, outputs[-1].stop_reason) == (FinishReason.STOP, "END")
    assert outputs[-1].request.output_tokens == 15


def test_text_held_back_for_a_stop_comes_with_the_last_token(engine_of):
    engine, runner = engine_of(ROOMY)
    runner.scripts[tuple(b"x")] = b"abEN"
    outputs = serve(engine, generation("a", "x", 4, stop=("END",)))["a"]
    assert [output.text for output in outputs] == ["a", "b", "", "EN"]


def test_a_character_of_several_tokens_comes_whole(engine_of):
    engine, runner = engine_of(ROOMY)
    runner.scripts[tuple(b"x")] = "aé€!".encode()
    outputs = serve(engine, generation("a", "x", 7))["a"]
    assert [output.text for output in outputs] == ["a", "", "é", "", "", "€", "!"]


def test_an_aborted_request_leaves_nothing_behind(engine_of):
    engine, runner = engine_of(ROOMY)
    engine.add(generation("a", "something", 50))
    engine.step()
    gone = engine.abort("a")
    assert (gone.finish_reason, gone.request.output_tokens) == (FinishReason.ABORT, 1)
    assert (engine.has_work, engine.scheduler.free_blocks, runner.ids) == (False, 200, {})
    assert engine.abort("a") is None


def test_a_step_that_raises_fails_the_requests_in_it_and_no_others(engine_of, caplog):
    engine, runner = engine_of(replace(ROOMY, max_num_seqs=2))
    for name in "abc":
        engine.add(generation(name, f"prompt {name}", 3))
    runner.failing = {"b"}
    failed = engine.step()
    assert {output.request_id: output.error for output in failed} == dict.fromkeys(
        "ab", "the engine's step failed: out of memory"
    )
    rest = []
    while engine.has_work:
        rest += engine.step()
    assert rest[-1].finish_reason is FinishReason.LENGTH
    assert {output.request_id for output in rest} == {"c"}
    assert engine.scheduler.free_blocks == 200
    assert "step 0 failed" in caplog.text


def test_a_refused_request_leaves_nothing_behind(engine_of):
    engine, runner = engine_of(ROOMY)
    with pytest.raises(RequestRefused):
        engine.add(generation("a", "x", 1000))
    assert (engine.has_work, runner.ids) == (False, {})


def test_a_steps_wall_time_runs_from_the_end_of_the_step_before(engine_of, clock):
    engine, runner = engine_of(ROOMY, clock=clock)

    def half_a_second():
        clock.now_s += 0.5

    runner.before_step = half_a_second
    engine.add(generation("a", "abc", 2))
    engine.step()
    clock.now_s += 0.25  # handing over, say
    engine.step()
    engine.idle()
    clock.now_s += 10
    engine.add(generation("b", "abc", 1))
    engine.step()
    records = engine.steps.since(0)
    assert [record.wall_s for record in records] == [0.5, 0.75, 0.5]
    assert [record.start_s for record in records] == [100.0, 100.5, 111.25]
    assert [(r.prefill_tokens, r.prefill_attention, r.decode_seqs, r.decode_kv_tokens) for r in records] == [
        (3, 6, 0, 0),
        (0, 0, 1, 4),
        (3, 6, 0, 0),
    ]
    assert engine.steps.since(2) == records[2:]
