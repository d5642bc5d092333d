"""``loadline collector check``: which engine a target is, and what it shows, lacks or could show."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from collector.checking import Verdict, check_target
from collector.cli import app
from collector.model.errors import ConfigError, SourceError
from collector.speaking import Spoken

Pages = Mapping[str, tuple[str, str]]


def server(pages: Pages) -> httpx.Client:
    """A client of a server that answers these paths with (content type, body), and 404 otherwise."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        found = pages.get(environ["PATH_INFO"])
        if found is None:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"404 page not found"]
        start_response("200 OK", [("Content-Type", found[0])])
        return [found[1].encode()]

    return httpx.Client(transport=httpx.WSGITransport(app=application))


def check_page(text: str, tmp_path: Path) -> Verdict:
    path = tmp_path / "page.prom"
    path.write_text(text)
    with server({}) as http:
        return check_target(str(path), http)


def only(verdict: Verdict) -> Spoken:
    (spoken,) = verdict.speaks
    return spoken


def test_a_saved_page_of_vllm_is_recognised_with_its_states(shared_data: Path):
    with server({}) as http:
        verdict = check_target(str(shared_data / "expositions" / "vllm-0.32.0.prom"), http)
    vllm = only(verdict)
    assert (vllm.title, vllm.version) == ("vLLM", "0.32.0 or later")
    assert vllm.present["ttft"] == ("vllm:time_to_first_token_seconds",)
    assert vllm.switched_off["kv_block_lifetime"] == "--kv-cache-metrics"
    assert vllm.not_exposed["step_time"] == "vLLM does not expose the time of its engine steps"
    assert verdict.faults == verdict.unknown == ()


@pytest.mark.parametrize(
    ("file", "engines"),
    [
        ("dynamo-1.6.1-frontend.prom", ["dynamo"]),
        ("dynamo-1.6.1-mocker-worker.prom", ["dynamo", "vllm"]),
        ("litellm-1.99.4.prom", ["litellm"]),
    ],
)
def test_saved_pages_of_real_servers_are_recognised(file: str, engines: list[str], shared_data: Path):
    with server({}) as http:
        verdict = check_target(str(shared_data / "expositions" / file), http)
    assert [one.engine for one in verdict.speaks] == engines
    assert all(name.startswith("dynamo_") for name in verdict.unknown)


def test_an_address_without_a_path_is_asked_for_its_metrics_and_its_version():
    pages = {
        "/metrics": ("text/plain; version=0.0.4", 'vllm:num_requests_running{model_name="m"} 1\n'),
        "/version": ("application/json", '{"version": "0.32.1"}'),
    }
    with server(pages) as http:
        verdict = check_target("http://vllm:8000", http)
    assert verdict.target == "http://vllm:8000/metrics"
    assert only(verdict).version == "0.32.1"
    assert only(verdict).absent["ttft"] == "vllm:time_to_first_token_seconds"


def test_tensorrt_llms_page_is_found_where_it_lies():
    pages = {"/prometheus/metrics": ("text/plain", "trtllm_num_requests_running 1\n")}
    with server(pages) as http:
        assert only(check_target("http://t:8000/", http)).engine == "trtllm"


def test_ollama_is_recognised_by_its_api_and_told_so():
    pages = {
        "/api/ps": ("application/json", '{"models": []}'),
        "/api/version": ("application/json", '{"version": "0.33.0"}'),
    }
    with server(pages) as http:
        verdict = check_target("http://o:11434", http)
    ollama = only(verdict)
    assert (ollama.engine, ollama.version, ollama.present) == ("ollama", "0.33.0", {})
    assert "Put Loadline's gateway (loadline engine gateway) or LiteLLM before it" in verdict.faults[0]


def test_a_server_without_metrics_is_told_which_engines_want_a_flag():
    with server({"/metrics": ("text/html", "<html>")}) as http:
        verdict = check_target("http://s:30000", http)
    assert verdict.speaks == ()
    assert "/metrics answered 200 (text/html); /prometheus/metrics answered 404" in verdict.faults[0]
    assert "SGLang: --enable-metrics" in verdict.faults[0]
    assert "llama.cpp server: --metrics" in verdict.faults[0]


@pytest.mark.parametrize(
    ("page", "version"),
    [
        ('app_info{name="qdrant",version="1.16.0"} 1\nrest_responses_total 1\n', "1.16.0"),
        ('milvus_build_info{version="2.5.10"} 1\n', "2.5.10"),
        ("DCGM_FI_DEV_GPU_UTIL_RATIO 0.5\n", "4.9.0 or later"),
        ("DCGM_FI_DEV_GPU_UTIL 50\n", "4.8.3 or earlier"),
        ("redis_up 1\n", None),
    ],
)
def test_a_version_is_told_by_the_page_or_bounded_by_its_metrics(page: str, version: str | None, tmp_path: Path):
    assert only(check_page(page, tmp_path)).version == version


def test_signals_that_have_no_quantiles_or_no_event_yet_are_told_apart(tmp_path: Path):
    page = "nv_inference_request_success 1\nnv_inference_request_duration_us 5\n"
    triton = only(check_page(page, tmp_path))
    assert "e2e_latency" in triton.present
    assert triton.mean_only == ("e2e_latency",)
    assert triton.awaited == ("errors",)
    assert triton.switched_off["ttft"] == "--metrics-config histogram_latencies=true"


def test_metrics_that_nobody_knows_are_reported_by_family(tmp_path: Path):
    page = 'redis_up 1\nredis_new_thing 1\nodd_bucket{le="+Inf"} 1\nodd_sum 1\nodd_count 1\nprocess_open_fds 3\n'
    assert check_page(page, tmp_path).unknown == ("odd", "redis_new_thing")


def test_nothing_to_read_is_an_error(tmp_path: Path):
    with server({}) as http, pytest.raises(ConfigError, match="cannot be read"):
        check_target(str(tmp_path / "none"), http)
    with httpx.Client(trust_env=False) as http, pytest.raises(SourceError, match="cannot be reached"):
        check_target("http://127.0.0.1:9", http)


def test_the_command_tells_people_and_programs(tmp_path: Path):
    path = tmp_path / "page.prom"
    path.write_text('sglang:num_running_reqs{model_name="m"} 1\nmystery 1\n')
    done = CliRunner().invoke(app, ["check", str(path)])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[:3] == [f"{path}: ok: 2 series, 0 families", "  SGLang", "    present: running_requests"]
    assert "    not exposed: step_time: SGLang does not expose the time of its engine steps" in lines
    assert lines[-1] == "  not known: mystery"
    told = json.loads(CliRunner().invoke(app, ["check", "--json", str(path)]).stdout)
    assert told[0]["speaks"][0]["present"] == {"running_requests": ["sglang:num_running_reqs"]}
    assert told[0]["unknown"] == ["mystery"]


def test_of_several_targets_one_that_cannot_be_reached_does_not_hide_the_others(tmp_path: Path):
    path = tmp_path / "page.prom"
    path.write_text("redis_up 1\n")
    done = CliRunner().invoke(app, ["check", "http://127.0.0.1:9", str(path)])
    assert done.exit_code == 2
    assert "Redis (redis_exporter)" in done.stdout
    assert "http://127.0.0.1:9/metrics: cannot be reached" in done.stderr
