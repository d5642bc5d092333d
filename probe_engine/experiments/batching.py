"""``batching``: static, dynamic and continuous batching of the same requests on the same engine."""

from dataclasses import replace

from probe_engine.experiments.drive import Outcome, drive, mean, quantile
from probe_engine.experiments.figure import Bars
from probe_engine.experiments.options import Options, StepsOf
from probe_engine.experiments.report import Cell, Claim, Report
from probe_engine.experiments.steps import DATA_SHEET_GPU
from probe_engine.experiments.trace import TraceRequest, paced
from probe_engine.sched import SchedulerConfig

MAX_MODEL_LEN = 4096
BATCH = 32
LOAD = 0.7  # of what continuous batching can do: the pace at which latencies are compared
BASE = SchedulerConfig(
    num_blocks=BATCH * MAX_MODEL_LEN // 16, max_model_len=MAX_MODEL_LEN, max_num_seqs=BATCH, prefix_cache=False
)
VARIANTS = {
    "static": replace(BASE, policy="static"),
    "dynamic": replace(
        BASE, policy="dynamic", preferred_batch_sizes=(8, 16, 32), max_queue_delay_s=0.05, length_buckets=(512, 1536)
    ),
    "continuous": BASE,
}


def run(options: Options) -> Report:
    """All at once for the throughput, then at the trace's own rhythm for the latency; on the engine and on a GPU."""
    trace = options.taken(MAX_MODEL_LEN, 256, 64)
    with options.engine() as steps_of:
        options.tell(f"batching: {len(trace)} requests at once and then at {LOAD:.0%} load")
        at_once, in_time = both(trace, steps_of)
    gpu, gpu_in_time = both(trace, lambda config: DATA_SHEET_GPU)
    names = tuple(VARIANTS)
    last = names[-1]
    steps = at_once["static"].decode_steps / at_once[last].decode_steps
    idle = {name: 1 - outcome.mean_batch / BATCH for name, outcome in at_once.items()}
    return Report(
        name="batching",
        title="Static, dynamic and continuous batching",
        question=(
            "What is it worth that a request joins and leaves the running batch at any step, instead of waiting for "
            "a batch to form and to end?"
        ),
        answer=(
            f"Places that stand idle in decode steps: {idle['static']:.0%} static, {idle['dynamic']:.0%} dynamic, "
            f"{idle[last]:.0%} continuous; {steps:.1f} times as many decode steps without it."
        ),
        setup={
            **options.setup(),
            "requests": len(trace),
            "largest batch": BATCH,
            "pace for latency": f"{LOAD:.0%} of what continuous batching serves",
            "GPU": DATA_SHEET_GPU.source,
        },
        rows=[row(name, at_once[name], in_time[name], gpu[name], gpu_in_time[name]) for name in names],
        figures=(
            Bars("Output tokens per second, all at once", names, speeds(at_once, gpu, names)),
            Bars(
                "Latency per output token at the same pace, mean (ms)",
                names,
                (
                    ("this engine", tuple(1000 * mean(in_time[name].per_token_s) for name in names)),
                    ("GPU off the data sheet", tuple(1000 * mean(gpu_in_time[name].per_token_s) for name in names)),
                ),
                "ms",
            ),
        ),
        claims=claims(at_once, gpu, in_time, steps),
        notes=(
            "Our static batch lets go of requests that have ended, so it computes nothing for them: kinder to static "
            "batching than engines that pad every sequence to the longest.",
            "dynamic is Triton's: preferred sizes 8, 16 and 32, at most 50 ms of waiting, buckets up to 512 and 1,536 "
            "prompt tokens.",
        ),
        holds=steps > 1 and at_once["static"].mean_batch < at_once[last].mean_batch,
    )


def both(trace: tuple[TraceRequest, ...], steps_of: StepsOf) -> tuple[dict[str, Outcome], dict[str, Outcome]]:
    """Each variant with everything at once, and at ``LOAD`` of the pace that continuous batching then kept."""
    backlog = paced(trace, 0)
    at_once = {name: drive(config, backlog, steps_of(config)) for name, config in VARIANTS.items()}
    spread_s = trace[-1].arrival_s or 1.0
    rhythm = paced(trace, LOAD * spread_s / at_once["continuous"].makespan_s)
    return at_once, {name: drive(config, rhythm, steps_of(config)) for name, config in VARIANTS.items()}


def speeds(
    here: dict[str, Outcome], gpu: dict[str, Outcome], names: tuple[str, ...]
) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Tokens per second as a chart's series."""
    return (
        ("this engine", tuple(here[name].tokens_per_s for name in names)),
        ("GPU off the data sheet", tuple(gpu[name].tokens_per_s for name in names)),
    )


def row(name: str, here: Outcome, in_time: Outcome, gpu: Outcome, gpu_in_time: Outcome) -> dict[str, Cell]:
    """A variant as a row."""
    return {
        "batching": name,
        "mean batch": here.mean_batch,
        "decode steps": here.decode_steps,
        "tokens/s here": here.tokens_per_s,
        "tokens/s GPU": gpu.tokens_per_s,
        "TTFT p50 ms here": 1000 * quantile(in_time.ttft_s, 0.5),
        "TTFT p95 ms here": 1000 * quantile(in_time.ttft_s, 0.95),
        "latency per token ms here": 1000 * mean(in_time.per_token_s),
        "latency per token ms GPU": 1000 * mean(gpu_in_time.per_token_s),
    }


def claims(
    here: dict[str, Outcome], gpu: dict[str, Outcome], in_time: dict[str, Outcome], steps: float
) -> tuple[Claim, ...]:
    """Ours beside Orca's paper and Anyscale's measurements."""
    orca, anyscale = "Yu et al., OSDI 2022 (Orca)", "Anyscale, 2023: continuous batching"
    fast = here["continuous"].tokens_per_s / here["static"].tokens_per_s
    gpu_fast = gpu["continuous"].tokens_per_s / gpu["static"].tokens_per_s
    latency = mean(in_time["static"].per_token_s) / mean(in_time["continuous"].per_token_s)
    return (
        Claim(
            "Throughput, continuous against static, GPU off the data sheet",
            "8 times naive static batching; 23 times with paging too",
            anyscale,
            gpu_fast,
            "times",
            "their outputs vary from 1 to 1,536 tokens and their static batch pads to the longest; this trace's "
            "prompts "
            "are long, which no batching makes cheaper, and our static batch drops who has ended.",
        ),
        Claim(
            "Throughput, continuous against static, this engine",
            "8 times",
            anyscale,
            fast,
            "times",
            "a CPU's step costs in proportion to its sequences: idle places cost nothing here, and all of it on a GPU.",
        ),
        Claim(
            "Decode steps for the same tokens, static against continuous",
            "36.9 times the throughput at equal latency (GPT-3 175B)",
            orca,
            steps,
            "times",
            "the bound of what continuous batching can give where a step costs the same however full it is; Orca's "
            "figure also has larger batches and pipelining over GPUs in it.",
        ),
        Claim(
            "Latency per output token at the same pace, static against continuous",
            "reduced p50 latency",
            anyscale,
            latency,
            "times",
            "who comes while a batch runs waits for all of it.",
        ),
    )
