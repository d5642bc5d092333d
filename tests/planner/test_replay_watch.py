"""The server's own step counters: read in any dialect, as growth between two readings."""

import asyncio

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from collector.signals import load_dialects
from planner.replay.watch import MAX_STEPS, STRETCH, Reading, Watch, observations, read_page, with_steps
from planner.result import Observation

PAGE = b"""# TYPE loadline_num_requests_running gauge
loadline_num_requests_running{model_name="tiny"} 1
# TYPE loadline_step_time_seconds histogram
loadline_step_time_seconds_bucket{model_name="tiny",le="+Inf"} 4
loadline_step_time_seconds_sum{model_name="tiny"} 0.5
loadline_step_time_seconds_count{model_name="tiny"} 4
# TYPE loadline_step_prefill_tokens_total counter
loadline_step_prefill_tokens_total{model_name="tiny"} 100
loadline_step_prefill_attention_total{model_name="tiny"} 5000
loadline_step_decode_sequences_total{model_name="tiny"} 7
loadline_step_decode_kv_tokens_total{model_name="tiny"} 900
loadline_time_to_first_token_seconds_sum{model_name="tiny"} 0.25
loadline_time_to_first_token_seconds_count{model_name="tiny"} 2
"""


def test_a_page_of_the_engine_gives_its_step_totals():
    reading = read_page(PAGE, "text/plain", load_dialects(), at_s=3.0)
    assert reading is not None
    assert reading.totals == {
        "steps": 4, "wall_s": 0.5, "prefill_tokens": 100, "prefill_attention": 5000, "decode_seqs": 7,
        "decode_kv_tokens": 900, "ttft_sum_s": 0.25, "ttft_count": 2,
    }  # fmt: skip


def test_a_page_of_an_engine_without_step_counters_gives_nothing():
    assert read_page(b"vllm:num_requests_running 1\n", "text/plain", load_dialects(), at_s=0.0) is None


def totals(steps: float) -> dict[str, float]:
    return {"steps": steps, "wall_s": steps / 10, "prefill_tokens": 0, "prefill_attention": 0, "decode_seqs": steps,
            "decode_kv_tokens": 5 * steps, "ttft_sum_s": 0.0, "ttft_count": 0}  # fmt: skip


def test_growth_between_readings_is_an_observation():
    (only,) = observations([Reading(0.0, totals(10)), Reading(1.0, totals(14)), Reading(2.0, totals(14))])
    assert (only.start_s, only.end_s, only.steps, only.decode_kv_tokens) == (0.0, 1.0, 4, 20)


def test_a_restart_of_the_server_is_no_observation():
    assert observations([Reading(0.0, totals(10)), Reading(1.0, totals(3))]) == ()


def step(tokens: float) -> Observation:
    return Observation(wall_s=0.01, prefill_tokens=tokens, prefill_attention=0, decode_seqs=0, decode_kv_tokens=0)


def test_single_steps_stand_for_sums_where_the_server_lists_them():
    summed = observations([Reading(0.0, totals(0) | {"ttft_count": 0}), Reading(1.0, totals(4) | {"ttft_count": 2})])
    assert with_steps(summed, []) == summed
    kept = with_steps(summed, [step(1), step(2)])
    assert [one.prefill_tokens for one in kept] == [1, 2]
    assert [one.ttft_count for one in kept] == [None, 2]


def test_of_very_many_steps_every_kth_stretch_is_kept_whole():
    kept = with_steps((), [step(number) for number in range(MAX_STEPS + STRETCH)])
    tokens = [one.prefill_tokens for one in kept]
    assert tokens[: STRETCH + 1] == [*range(STRETCH), 2 * STRETCH]
    assert len(kept) <= MAX_STEPS


def test_listed_steps_are_put_on_the_runs_clock_by_the_look_that_came_soonest_after_one():
    engine = [
        {"step": 0, "start_s": 900.0, "wall_s": 0.5},
        {"step": 1, "start_s": 901.0, "wall_s": 0.25},
        {"step": 2, "start_s": 903.0, "wall_s": 0.5},
    ]
    work = {"prefill_tokens": 1, "prefill_attention": 1, "decode_seqs": 0, "decode_kv_tokens": 0}
    looks = [(0, 1, 1.0), (1, 2, 1.75), (2, 3, 4.0)]  # steps listed from, to, and when on the run's clock

    async def answer(request: web.Request) -> web.Response:
        first = int(request.query["since"])
        last = next(until for since, until, _ in looks if since == first)
        return web.json_response({"steps": [step | work for step in engine[first:last]], "next": last})

    async def look() -> tuple[Observation, ...]:
        app = web.Application()
        app.router.add_get("/steps", answer)
        async with TestServer(app) as server, ClientSession() as session:
            times = iter([at for _, _, at in looks])
            watch = Watch(session, str(server.make_url("")), (), lambda: next(times))
            for _ in looks:
                await watch._read_steps()
            return watch.observations()

    found = asyncio.run(look())
    assert [(one.start_s, one.end_s) for one in found] == [(1.5, 1.75), (3.5, 4.0)]
