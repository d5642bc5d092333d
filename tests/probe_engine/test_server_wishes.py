"""Class, tenant and deadline from headers, over HTTP to the scheduler and into the metrics."""

import asyncio

import httpx
import pytest
from prometheus_client import generate_latest

from probe_engine.errors import ApiError
from probe_engine.model.sampling import SamplingParams
from probe_engine.model.tokenizer import byte_tokenizer
from probe_engine.runtime.generation import Generation
from probe_engine.runtime.stop import StopText
from probe_engine.sched import FinishReason, Request, SchedulerConfig
from probe_engine.server.app import create_app
from probe_engine.server.deployment import Deployment, Loaded
from probe_engine.server.wishes import Wishes, read_wishes
from probe_engine.telemetry.metrics import MOST_TENANTS, EngineMetrics

LIMITS = {"num_blocks": 200, "block_size": 4, "max_num_batched_tokens": 64, "max_num_seqs": 8, "max_model_len": 200}


def config(**options) -> SchedulerConfig:
    return SchedulerConfig(**{**LIMITS, **options})


def generation(name: str, prompt: str = "x", tokens: int = 4, **options) -> Generation:
    return Generation(name, list(prompt.encode()), tokens, 100.0, SamplingParams(temperature=0.0), **options)


def exposed(metrics: EngineMetrics) -> str:
    return generate_latest(metrics.registry()).decode()


def posted(engine, body: dict[str, object], **headers: str) -> httpx.Response:
    async def main():
        deployment = Deployment("tiny", engine.metrics, version="1")
        deployment.serve(Loaded(engine, byte_tokenizer(), "float32", "cpu"))
        try:
            transport = httpx.ASGITransport(create_app(deployment))
            async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
                asked = {"model": "tiny", "prompt": "x", **body}
                return await client.post("/v1/completions", json=asked, headers=headers)
        finally:
            await deployment.stop()

    return asyncio.run(asyncio.wait_for(main(), 30))


def test_headers_become_wishes_on_the_engines_clock():
    headers = {"x-loadline-priority": "0", "x-loadline-tenant": "team-a", "x-loadline-deadline-ms": "250"}
    assert read_wishes(headers, 10.0) == Wishes(0, "team-a", 10.25)
    assert read_wishes({}, 10.0) == Wishes(5, None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-loadline-priority", "10"),
        ("x-loadline-priority", "-1"),
        ("x-loadline-priority", "high"),
        ("x-loadline-priority", "٣"),
        ("x-loadline-tenant", ""),
        ("x-loadline-tenant", "a b"),
        ("x-loadline-tenant", "x" * 65),
        ("x-loadline-deadline-ms", "0"),
        ("x-loadline-deadline-ms", "1e3"),
        ("x-loadline-deadline-ms", "999999999999"),
    ],
)
def test_a_header_that_makes_no_sense_is_named(name, value):
    with pytest.raises(ApiError, match=f"{name} is ") as caught:
        read_wishes({name: value}, 0.0)
    assert (caught.value.status, caught.value.param) == (400, name)


def test_a_wrong_header_is_a_400_in_openais_shape(engine_of):
    engine, _ = engine_of(config())
    answer = posted(engine, {}, **{"x-loadline-priority": "urgent"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "x-loadline-priority"


def test_tenant_and_class_are_counted(engine_of):
    engine, _ = engine_of(config())
    answer = posted(engine, {"max_tokens": 3}, **{"x-loadline-priority": "2", "x-loadline-tenant": "team-a"})
    assert answer.status_code == 200
    text = exposed(engine.metrics)
    assert 'loadline_tenant_requests_total{model_name="tiny",tenant="team-a"} 1.0' in text
    assert 'loadline_tenant_generation_tokens_total{model_name="tiny",tenant="team-a"} 3.0' in text
    assert 'loadline_priority_requests_total{model_name="tiny",priority="2"} 1.0' in text


def test_many_tenants_share_one_label():
    metrics = EngineMetrics("tiny")
    for at in range(MOST_TENANTS + 30):
        metrics.ended(Request(f"r{at}", 1, 1, 0.0, tenant=f"t{at}"))
    text = exposed(metrics)
    assert text.count("loadline_tenant_requests_total{") == MOST_TENANTS + 1
    assert 'tenant="other"} 30.0' in text


def test_a_request_past_its_deadline_ends_with_an_error_and_is_counted_as_one(engine_of, clock):
    engine, runner = engine_of(config(max_num_seqs=1), clock=clock)

    def a_second():
        clock.now_s += 1.0

    runner.before_step = a_second
    engine.add(generation("served", tokens=6))
    engine.add(generation("late", deadline_s=103.0))
    outputs = [output for _ in range(6) for output in engine.step() if output.request_id == "late"]
    assert [output.finish_reason for output in outputs] == [FinishReason.DEADLINE]
    assert outputs[0].error == "the request's deadline passed after it had waited 3000 ms"
    assert runner.ids == {}
    text = exposed(engine.metrics)
    assert 'loadline_request_errors_total{model_name="tiny",reason="deadline"} 1.0' in text
    assert 'loadline_request_success_total{finished_reason="length",model_name="tiny"} 1.0' in text


def test_a_missed_deadline_is_a_504_over_http(engine_of):
    engine, _ = engine_of(config(policy="dynamic", preferred_batch_sizes=(4,), max_queue_delay_s=20.0))
    answer = posted(engine, {}, **{"x-loadline-deadline-ms": "20"})
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline_exceeded"


def test_a_missed_deadline_is_an_error_event_in_a_stream(engine_of):
    engine, _ = engine_of(config(policy="dynamic", preferred_batch_sizes=(4,), max_queue_delay_s=20.0))
    answer = posted(engine, {"stream": True}, **{"x-loadline-deadline-ms": "20"})
    assert '"code":"deadline_exceeded"' in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")


def test_a_lone_request_leaves_a_dynamic_queue_when_its_delay_is_over(engine_of):
    engine, _ = engine_of(config(policy="dynamic", preferred_batch_sizes=(4,), max_queue_delay_s=0.02))
    answer = posted(engine, {"max_tokens": 2})
    assert answer.json()["choices"][0]["finish_reason"] == "length"


def test_the_end_of_text_does_not_end_an_output_before_min_tokens(engine_of, clock):
    engine, runner = engine_of(config(), clock=clock)
    end = byte_tokenizer().eos_ids
    (eos,) = end
    runner.scripts = {(120,): [97, eos, 98, eos, 99]}
    engine.add(generation("a", tokens=5, min_tokens=3))
    outputs = []
    while engine.has_work:
        outputs += engine.step()
    assert [output.token_id for output in outputs] == [97, eos, 98, eos]
    assert outputs[-1].finish_reason is FinishReason.STOP


def test_a_stop_text_does_not_end_an_output_before_min_tokens(engine_of, clock):
    engine, runner = engine_of(config(), clock=clock)
    runner.scripts = {(120,): b"a.b.c"}
    engine.add(generation("a", tokens=5, min_tokens=3, stop=(".",)))
    outputs = []
    while engine.has_work:
        outputs += engine.step()
    assert "".join(output.text for output in outputs) == "a.b"
    assert outputs[-1].stop_reason == "."


def test_text_passed_over_is_never_held_back():
    stop = StopText(("end",))
    assert stop.push("xe") == "x"
    assert stop.pass_over("nd") == "end"
    assert stop.matched is None


def test_more_tokens_at_least_than_at_most_are_refused(engine_of):
    engine, _ = engine_of(config())
    answer = posted(engine, {"max_tokens": 3, "min_tokens": 4})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "min_tokens")
