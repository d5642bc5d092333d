"""The engine's thread and its streams."""

import asyncio
import threading

import pytest

from probe_engine.errors import QueueFull, Stopping
from probe_engine.model.sampling import SamplingParams
from probe_engine.runtime.async_engine import AsyncEngine, OutputStream
from probe_engine.runtime.generation import Generation, TokenOutput
from probe_engine.sched import FinishReason, RequestRefused, SchedulerConfig

CONFIG = SchedulerConfig(num_blocks=200, block_size=4, max_num_batched_tokens=64, max_num_seqs=16, max_model_len=400)


def generation(name: str, prompt: bytes = b"hello", max_tokens: int = 6) -> Generation:
    return Generation(name, list(prompt), max_tokens, 0.0, SamplingParams(temperature=0.0))


async def read(stream: OutputStream) -> list[TokenOutput]:
    return [output async for batch in stream for output in batch]


class Held:
    """Stops the runner before a step until let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.go.wait(20)


def scenario(engine_of, body, *, max_queue: int = 64, config: SchedulerConfig = CONFIG):
    """Run ``body(async_engine, runner, ended)`` with a started engine and stop it."""

    async def main():
        engine, runner = engine_of(config)
        ended: list[tuple[str, FinishReason | None]] = []
        serving = AsyncEngine(
            engine,
            max_queue=max_queue,
            on_finished=lambda generation, output: ended.append((generation.request_id, output.finish_reason)),
        )
        serving.start()
        try:
            await body(serving, runner, ended)
        finally:
            await serving.stop()
        assert engine.scheduler.free_blocks == config.num_blocks
        assert runner.ids == {}
        assert serving.serving == 0

    asyncio.run(asyncio.wait_for(main(), 60))


def test_many_readers_each_get_their_own_tokens(engine_of):
    async def body(serving, runner, ended):
        streams = [serving.submit([generation(f"r{index}", b"prompt %d" % index)]) for index in range(20)]
        for index, outputs in enumerate(await asyncio.gather(*map(read, streams))):
            assert {output.request_id for output in outputs} == {f"r{index}"}
            assert len(outputs) == 6
        assert sorted(ended) == sorted((f"r{index}", FinishReason.LENGTH) for index in range(20))

    scenario(engine_of, body)


def test_one_stream_may_carry_several_generations(engine_of):
    async def body(serving, runner, ended):
        stream = serving.submit([generation("a", max_tokens=2), generation("b", b"other", 5)])
        outputs = await read(stream)
        assert [sum(output.request_id == name for output in outputs) for name in "ab"] == [2, 5]
        assert stream.index == {"a": 0, "b": 1}

    scenario(engine_of, body)


def test_closing_a_stream_frees_what_it_held_and_others_go_on(engine_of):
    async def body(serving, runner, ended):
        go = threading.Event()
        runner.before_step = lambda: None if not runner.computed else go.wait(20)
        first, other = serving.submit([generation("a", max_tokens=300)]), serving.submit([generation("b", b"x", 40)])
        async for _ in first:
            break
        first.close()
        go.set()
        assert await read(first) == []
        assert len(await read(other)) == 40
        assert ("a", FinishReason.ABORT) in ended

    scenario(engine_of, body)


def test_a_stream_closed_in_the_inbox_never_starts(engine_of):
    async def body(serving, runner, ended):
        runner.before_step = held = Held()
        running = serving.submit([generation("a")])
        await asyncio.to_thread(held.reached.wait, 20)
        serving.submit([generation("b")]).close()
        held.go.set()
        await read(running)
        while serving.serving:
            await asyncio.sleep(0)
        assert ended[-1][1] in {FinishReason.ABORT, FinishReason.LENGTH}
        assert ("b", FinishReason.ABORT) in ended

    scenario(engine_of, body)


def test_a_full_queue_refuses_and_takes_none_of_several(engine_of):
    async def body(serving, runner, ended):
        runner.before_step = held = Held()
        running = serving.submit([generation("a")])
        await asyncio.to_thread(held.reached.wait, 20)
        waiting = serving.submit([generation("b"), generation("c")])
        with pytest.raises(QueueFull, match="2 requests wait already; max_queue is 3"):
            serving.submit([generation("d"), generation("e")])
        held.go.set()
        await asyncio.gather(read(running), read(waiting))
        assert {name for name, _ in ended} == {"a", "b", "c"}

    scenario(engine_of, body, max_queue=3)


def test_what_can_never_run_is_refused_to_the_caller(engine_of):
    async def body(serving, runner, ended):
        with pytest.raises(RequestRefused, match="max_model_len is 400"):
            serving.submit([generation("a"), generation("b", max_tokens=1000)])
        assert serving.serving == 0

    scenario(engine_of, body)


def test_a_failing_step_reaches_its_readers_and_the_loop_lives_on(engine_of):
    async def body(serving, runner, ended):
        runner.failing = {"bad"}
        outputs = await read(serving.submit([generation("bad")]))
        assert [output.error for output in outputs] == ["the engine's step failed: out of memory"]
        assert len(await read(serving.submit([generation("good")]))) == 6

    scenario(engine_of, body)


def test_a_failure_of_the_engines_own_bookkeeping_fails_everybody_and_the_loop_lives_on(engine_of):
    async def body(serving, runner, ended):
        runner.scripts[tuple(b"odd")] = ["not a token"]
        outputs = await read(serving.submit([generation("odd", b"odd")]))
        assert outputs[-1].error.startswith("the engine failed")
        assert len(await read(serving.submit([generation("good")]))) == 6

    scenario(engine_of, body)


def test_stopping_ends_every_stream_with_an_error_and_takes_nothing_new(engine_of):
    async def body(serving, runner, ended):
        go = threading.Event()
        runner.before_step = lambda: None if not runner.computed else go.wait(20)
        stream = serving.submit([generation("a", max_tokens=300)])
        async for _ in stream:
            break
        stopping = asyncio.create_task(serving.stop())
        asyncio.get_running_loop().call_soon(go.set)
        outputs = await read(stream)
        await stopping
        assert outputs[-1].error == "the engine is shutting down"
        with pytest.raises(Stopping):
            serving.submit([generation("b")])

    scenario(engine_of, body)


def test_the_gauges_count_what_is_still_in_the_inbox(engine_of):
    async def body(serving, runner, ended):
        runner.before_step = held = Held()
        streams = [serving.submit([generation("a")])]
        await asyncio.to_thread(held.reached.wait, 20)
        streams += [serving.submit([generation(name)]) for name in "bc"]
        assert (serving.gauges().running, serving.gauges().waiting) == (1, 2)
        held.go.set()
        await asyncio.gather(*map(read, streams))

    scenario(engine_of, body)
