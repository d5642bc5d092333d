"""``loadline engine``: serve a model, stand before replicas, bench and profile."""

import json
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from probe_engine.errors import EngineError
from probe_engine.experiment_cli import experiment
from probe_engine.gateway.errors import GatewayError
from probe_engine.sched import SchedulerError
from probe_engine.settings import EngineSettings

app = typer.Typer(help="Serve a model; bench and profile it.", no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(experiment)

DEFAULTS = EngineSettings()
BEFORE_TORCH = {  # read when torch is imported
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16",  # the library's 1,024 hold a kernel for every batch size seen
    "LRU_CACHE_CAPACITY": "16",  # torch's own cache in front of it, as large and for every batch size too
    "OMP_WAIT_POLICY": "passive",  # threads that spin take the cores that the server and the others need
}


def option(name: str, text: str, flag: str | None = None) -> Any:
    """A typer option with its environment variable."""
    return typer.Option(flag or f"--{name.replace('_', '-')}", help=text, envvar=f"LOADLINE_ENGINE_{name.upper()}")


def gateway_option(name: str, text: str) -> Any:
    """A typer option of the gateway, with its environment variable."""
    return typer.Option(f"--{name.replace('_', '-')}", help=text, envvar=f"LOADLINE_GATEWAY_{name.upper()}")


def bench_option(name: str, text: str) -> Any:
    """A typer option of the measuring commands, with its environment variable."""
    return typer.Option(f"--{name.replace('_', '-')}", help=text, envvar=f"LOADLINE_ENGINE_BENCH_{name.upper()}")


def prepare_torch() -> None:
    """Set what torch's libraries read from the environment, where nobody has; before torch is imported."""
    for name, value in BEFORE_TORCH.items():
        os.environ.setdefault(name, value)


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what cannot be used into one line each on stderr and exit code 2."""
    try:
        yield
    except ValidationError as error:
        for detail in error.errors():
            flag = "--" + str(detail["loc"][0]).replace("_", "-")
            if detail["type"] == "missing":
                print(f"{flag} is missing; give at least one", file=sys.stderr)
                continue
            message = detail["msg"].removeprefix("Value error, ")
            print(f"{flag} is {detail['input']!r}; {message[0].lower()}{message[1:]}", file=sys.stderr)
        raise typer.Exit(2) from error
    except (EngineError, GatewayError, SchedulerError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error


@app.command()
def serve(
    model: Annotated[str, option("model", "'tiny' (built in) or a Hugging Face model directory.")] = DEFAULTS.model,
    host: Annotated[str, option("host", "Address to listen on.")] = DEFAULTS.host,
    port: Annotated[int, option("port", "Port to listen on; 0 picks a free one.")] = DEFAULTS.port,
    dtype: Annotated[str, option("dtype", "float32, bfloat16, float16 or auto (the checkpoint's).")] = DEFAULTS.dtype,
    device: Annotated[str, option("device", "auto, cpu, cuda or cuda:N.")] = DEFAULTS.device,
    threads: Annotated[int | None, option("threads", "CPU threads of the model; all cores but one if absent.")] = None,
    kv_memory: Annotated[str, option("kv_memory", "Memory for keys and values, as 256MiB.")] = DEFAULTS.kv_memory,
    num_blocks: Annotated[int | None, option("num_blocks", "KV blocks; instead of --kv-memory.")] = None,
    block_size: Annotated[int, option("block_size", "Tokens in a KV block.")] = DEFAULTS.block_size,
    max_num_batched_tokens: Annotated[
        int, option("max_num_batched_tokens", "Most tokens computed in one step.")
    ] = DEFAULTS.max_num_batched_tokens,
    max_num_seqs: Annotated[int, option("max_num_seqs", "Most requests running at once.")] = DEFAULTS.max_num_seqs,
    max_model_len: Annotated[
        int | None, option("max_model_len", "Most tokens of one request, prompt and output; the model's if absent.")
    ] = None,
    prefix_cache: Annotated[
        bool, option("prefix_cache", "Share KV blocks of equal prefixes.", "--prefix-cache/--no-prefix-cache")
    ] = DEFAULTS.prefix_cache,
    served_model_name: Annotated[
        str | None, option("served_model_name", "Name that requests use; the model's own if absent.")
    ] = None,
    otlp_endpoint: Annotated[
        str | None, option("otlp_endpoint", "Base URL that takes spans over OTLP/HTTP, as http://127.0.0.1:9190.")
    ] = None,
    auth_token_file: Annotated[
        Path | None, option("auth_token_file", "File with the token that callers must show; needed beyond loopback.")
    ] = None,
    max_queue: Annotated[int, option("max_queue", "Most requests that may wait; more get 429.")] = DEFAULTS.max_queue,
    policy: Annotated[
        str, option("policy", "Who is admitted next: fcfs, priority, fair, slo; to compare with: static, dynamic.")
    ] = DEFAULTS.policy,
    priority_ageing_s: Annotated[
        float, option("priority_ageing_s", "priority: seconds of waiting that make up for one class.")
    ] = DEFAULTS.priority_ageing_s,
    fair_output_weight: Annotated[
        float, option("fair_output_weight", "fair: what an output token counts against a prompt token.")
    ] = DEFAULTS.fair_output_weight,
    ttft_slo_s: Annotated[
        float, option("ttft_slo_s", "slo: time to first token promised to requests without a deadline.")
    ] = DEFAULTS.ttft_slo_s,
    prefill_s_per_token: Annotated[
        float, option("prefill_s_per_token", "slo: time that computing a prompt's token takes.")
    ] = DEFAULTS.prefill_s_per_token,
    preferred_batch_sizes: Annotated[
        list[int] | None, option("preferred_batch_sizes", "dynamic: a size at which a batch goes at once; repeatable.")
    ] = None,
    max_queue_delay_s: Annotated[
        float, option("max_queue_delay_s", "dynamic: how long a request waits for company.")
    ] = DEFAULTS.max_queue_delay_s,
    length_buckets: Annotated[
        list[int] | None, option("length_buckets", "dynamic: most prompt tokens of a bucket; repeatable.")
    ] = None,
    itl_slo_s: Annotated[
        float | None, option("itl_slo_s", "Let only so many run that tokens follow each other within it.")
    ] = None,
    seed: Annotated[int, option("seed", "Seeds tiny's weights and unseeded sampling.")] = DEFAULTS.seed,
    dummy_weights: Annotated[
        bool, option("dummy_weights", "Random weights in the shapes of the model's config.json.", "--dummy-weights")
    ] = False,
    log_format: Annotated[str, option("log_format", "Log lines on stderr: text or json.")] = DEFAULTS.log_format,
    quantization: Annotated[str, option("quantization", "Weights in fewer bits: none, int8 or int4.")] = "none",
    tensor_parallel: Annotated[int, option("tensor_parallel", "Processes that share the model.")] = 1,
) -> None:
    """Serve a model over the OpenAI API, with metrics and traces."""
    arguments = dict(locals())
    for name in ("preferred_batch_sizes", "length_buckets"):
        arguments[name] = tuple(arguments[name] or ())
    prepare_torch()
    with refusals():
        settings = EngineSettings.model_validate(arguments)
        from probe_engine.server.address import bind, read_token

        token = read_token(settings.host, settings.auth_token_file)
        listener = bind(settings.host, settings.port)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, leave)  # while loading; uvicorn takes over and raises again what it caught
        from probe_engine.server.serve import serve as run
        from probe_engine.telemetry.logs import write_logs

        write_logs(settings.log_format)
        logging.getLogger("httpx").setLevel(logging.WARNING)
        raise typer.Exit(run(settings, token, listener))


def leave(signal_number: int, frame: FrameType | None) -> None:
    """End the process at once: an exception might be swallowed by whatever is being imported."""
    os._exit(0)


@app.command()
def gateway(
    upstream: Annotated[
        list[str] | None, gateway_option("upstream", "A replica: URL[,weight=2][,gpu=METRICS_URL]; repeatable.")
    ] = None,
    config: Annotated[
        Path | None, gateway_option("config", "TOML file with these settings under [gateway]; what is given here wins.")
    ] = None,
    host: Annotated[str | None, gateway_option("host", "Address to listen on; 127.0.0.1.")] = None,
    port: Annotated[int | None, gateway_option("port", "Port to listen on; 8008. 0 picks a free one.")] = None,
    routing: Annotated[
        str | None,
        gateway_option("routing", "round_robin, least_load (default) or prefix (bounded hashing)."),
    ] = None,
    prefix_characters: Annotated[
        int | None, gateway_option("prefix_characters", "prefix: how much of the prompt is hashed; 256.")
    ] = None,
    load_bound: Annotated[
        float | None, gateway_option("load_bound", "prefix: most load of a replica, as a multiple of the mean; 1.25.")
    ] = None,
    user_requests_per_min: Annotated[
        float | None, gateway_option("user_requests_per_min", "Requests that a user may send in a minute.")
    ] = None,
    user_tokens_per_min: Annotated[
        float | None, gateway_option("user_tokens_per_min", "Tokens that a user may use in a minute.")
    ] = None,
    user_tokens_per_day: Annotated[
        float | None, gateway_option("user_tokens_per_day", "Tokens that a user may use in 24 hours.")
    ] = None,
    model_concurrency: Annotated[
        int | None, gateway_option("model_concurrency", "Requests of one model at once.")
    ] = None,
    tokens_per_s: Annotated[float | None, gateway_option("tokens_per_s", "Tokens per second of all together.")] = None,
    burst_s: Annotated[
        float | None, gateway_option("burst_s", "Seconds of --tokens-per-s that may come at once; 5.")
    ] = None,
    max_in_flight: Annotated[int | None, gateway_option("max_in_flight", "Requests at once, in all; 1024.")] = None,
    max_body_bytes: Annotated[int | None, gateway_option("max_body_bytes", "Largest body; 16777216.")] = None,
    breaker_error_ratio: Annotated[
        float | None, gateway_option("breaker_error_ratio", "Share of errors above which a breaker opens; 0.5.")
    ] = None,
    breaker_error_window_s: Annotated[
        float | None, gateway_option("breaker_error_window_s", "Seconds over which errors are counted; 10.")
    ] = None,
    breaker_least_requests: Annotated[
        int | None, gateway_option("breaker_least_requests", "Answers without which errors prove nothing; 10.")
    ] = None,
    breaker_p99_s: Annotated[
        float | None, gateway_option("breaker_p99_s", "p99 of the first byte above which a breaker opens; 10.")
    ] = None,
    breaker_slow_for_s: Annotated[
        float | None, gateway_option("breaker_slow_for_s", "How long it must be above; 60.")
    ] = None,
    breaker_gpu_memory_ratio: Annotated[
        float | None, gateway_option("breaker_gpu_memory_ratio", "GPU memory use above which a breaker opens; 0.95.")
    ] = None,
    breaker_queue: Annotated[
        int | None, gateway_option("breaker_queue", "Waiting requests above which a breaker opens; 1000.")
    ] = None,
    breaker_open_s: Annotated[
        float | None, gateway_option("breaker_open_s", "Seconds until an open breaker tries again; 30.")
    ] = None,
    breaker_trials: Annotated[int | None, gateway_option("breaker_trials", "Good answers that close it; 3.")] = None,
    probe_interval_s: Annotated[
        float | None, gateway_option("probe_interval_s", "Seconds between probes of a replica; 2.")
    ] = None,
    probe_timeout_s: Annotated[
        float | None, gateway_option("probe_timeout_s", "Seconds that a probe may take; 1.")
    ] = None,
    unhealthy_after: Annotated[
        int | None, gateway_option("unhealthy_after", "Failed probes in a row that make a replica unhealthy; 2.")
    ] = None,
    retries: Annotated[
        int | None, gateway_option("retries", "Further replicas tried while no answer has begun; 2.")
    ] = None,
    connect_timeout_s: Annotated[
        float | None, gateway_option("connect_timeout_s", "Seconds to connect to a replica; 2.")
    ] = None,
    answer_timeout_s: Annotated[
        float | None, gateway_option("answer_timeout_s", "Seconds of silence before an answer is given up; 600.")
    ] = None,
    cache_entries: Annotated[
        int | None, gateway_option("cache_entries", "Greedy whole answers that are kept; 0, no cache.")
    ] = None,
    cache_ttl_s: Annotated[float | None, gateway_option("cache_ttl_s", "Seconds that an answer is kept; 300.")] = None,
    cache_redis_url: Annotated[
        str | None, gateway_option("cache_redis_url", "Keep answers in this Redis, as redis://127.0.0.1:6379/0.")
    ] = None,
    auth_token_file: Annotated[
        Path | None, gateway_option("auth_token_file", "File with the token that callers show; needed beyond loopback.")
    ] = None,
    admin_token_file: Annotated[
        Path | None, gateway_option("admin_token_file", "File with the token of /admin; the callers' if absent.")
    ] = None,
    upstream_token_file: Annotated[
        Path | None, gateway_option("upstream_token_file", "File with the token that the replicas want.")
    ] = None,
    restart_command: Annotated[
        str | None,
        gateway_option("restart_command", "What POST /admin/restart runs, with the replica's URL in LOADLINE_REPLICA."),
    ] = None,
) -> None:
    """Stand in front of replicas of any OpenAI-compatible engine: limits, breaker, routing, cache."""
    arguments = {name: value for name, value in locals().items() if value is not None and value != []}
    from probe_engine.gateway.serve import serve as run
    from probe_engine.gateway.settings import GatewaySettings, read_config
    from probe_engine.server.address import bind, read_secret, read_token

    with refusals():
        arguments.pop("config", None)
        settings = GatewaySettings.model_validate({**(read_config(config) if config else {}), **arguments})
        admin, onward = settings.admin_token_file, settings.upstream_token_file
        tokens = {
            "auth": read_token(settings.host, settings.auth_token_file),
            "admin": None if admin is None else read_secret(admin),
            "upstream": None if onward is None else read_secret(onward),
        }
        listener = bind(settings.host, settings.port)
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, leave)  # uvicorn raises again what it caught, once it has stopped
        raise typer.Exit(run(settings, tokens, listener))


@app.command()
def bench(
    model: Annotated[str, option("model", "'tiny' (built in) or a Hugging Face model directory.")] = DEFAULTS.model,
    requests: Annotated[int, bench_option("requests", "Requests, all there at once.")] = 64,
    prompt_tokens: Annotated[int, bench_option("prompt_tokens", "Tokens of each prompt.")] = 128,
    output_tokens: Annotated[int, bench_option("output_tokens", "Tokens that each request gets.")] = 64,
    dtype: Annotated[str, option("dtype", "float32, bfloat16, float16 or auto (the checkpoint's).")] = DEFAULTS.dtype,
    device: Annotated[str, option("device", "auto, cpu, cuda or cuda:N.")] = DEFAULTS.device,
    threads: Annotated[int | None, option("threads", "CPU threads of the model; torch's choice if absent.")] = None,
    seed: Annotated[int, option("seed", "Seeds prompts and tiny's weights.")] = DEFAULTS.seed,
    quantization: Annotated[str, option("quantization", "Weights in fewer bits: none, int8 or int4.")] = "none",
    tensor_parallel: Annotated[int, option("tensor_parallel", "Processes that share the model.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure output tokens per second on a burst of equal requests, without the server."""
    prepare_torch()
    with refusals():
        from probe_engine.profile.bench import run_bench

        result = run_bench(
            model,
            requests,
            prompt_tokens,
            output_tokens,
            dtype=dtype,
            threads=threads,
            seed=seed,
            device=device,
            quantization=quantization,
            tensor_parallel=tensor_parallel,
        )
    report(result.to_json(), as_json)


@app.command()
def profile(
    model: Annotated[str, option("model", "'tiny' (built in) or a Hugging Face model directory.")] = DEFAULTS.model,
    dtype: Annotated[str, option("dtype", "float32, bfloat16, float16 or auto (the checkpoint's).")] = DEFAULTS.dtype,
    device: Annotated[str, option("device", "auto, cpu, cuda or cuda:N.")] = DEFAULTS.device,
    threads: Annotated[int | None, option("threads", "CPU threads of the model; torch's choice if absent.")] = None,
    repeats: Annotated[int, bench_option("repeats", "Measurements of each point of the grid.")] = 3,
    kv_memory: Annotated[str, option("kv_memory", "Memory for keys and values, as 1GiB.")] = "1GiB",
    seed: Annotated[int, option("seed", "Seeds the order of the grid and tiny's weights.")] = DEFAULTS.seed,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure single steps over a grid of sizes; the planner fits its step-time model to the JSON."""
    prepare_torch()
    with refusals():
        memory_bytes = EngineSettings(kv_memory=kv_memory).kv_memory_bytes
        from probe_engine.profile.steps import profile_steps

        result = profile_steps(
            model,
            dtype=dtype,
            threads=threads,
            seed=seed,
            repeats=repeats,
            memory_bytes=memory_bytes,
            device=device,
        )
    report(result.to_json(), as_json)


def report(result: Mapping[str, object], as_json: bool) -> None:
    """Print a result: JSON, or a line per field."""
    if as_json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        if isinstance(value, list | tuple):
            for row in value:
                print("  ".join(f"{key} {_number(cell)}" for key, cell in row.items()))
        else:
            print(f"{name:24} {_number(value)}")


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
