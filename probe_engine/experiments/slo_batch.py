"""``slo-batch``: a batch size that follows a latency promise, against batch sizes that were set once."""

from dataclasses import replace

from probe_engine.experiments.drive import Outcome, drive, quantile
from probe_engine.experiments.figure import Bars
from probe_engine.experiments.options import Options
from probe_engine.experiments.report import Cell, Claim, Report
from probe_engine.experiments.steps import DATA_SHEET_GPU
from probe_engine.experiments.trace import TraceRequest, paced
from probe_engine.sched import Request, SchedulerConfig

MAX_MODEL_LEN = 4096
MOST = 128
BUDGET = 512  # tokens a step: a prompt is cut fine enough not to hold up the decodes for long
BASE = SchedulerConfig(
    num_blocks=MOST * MAX_MODEL_LEN // 16,
    max_model_len=MAX_MODEL_LEN,
    max_num_seqs=MOST,
    max_num_batched_tokens=BUDGET,
    prefix_cache=False,
)


def run(options: Options) -> Report:
    """One at a time and all at once set the scale; the promise lies between them."""
    trace = paced(options.taken(MAX_MODEL_LEN, 256, 96), 0)
    with options.engine() as steps_of:
        options.tell(f"slo-batch: {len(trace)} requests at once")
        largest = drive(BASE, trace, steps_of(BASE), shape=recorded)
        slo_s = 0.5 * quantile(largest.gaps_s, 0.5)
        configs = {
            "one at a time": replace(BASE, max_num_seqs=1),
            f"follows {1000 * slo_s:.2f} ms": replace(BASE, itl_slo_s=slo_s),
        }
        served = {name: drive(config, trace, steps_of(config), shape=recorded) for name, config in configs.items()}
    served[f"always {MOST}"] = largest
    names = tuple(served)
    kept = [within(one, slo_s) for one in served.values()]
    single, follows, _ = served.values()
    gpu_single, gpu_follows = on_gpu(trace)
    return Report(
        name="slo-batch",
        title="A batch size that follows a latency promise",
        question=(
            "Can the engine find by itself how many requests may run, so that tokens follow each other within the "
            "promise, and how much of the largest batch's throughput does it keep?"
        ),
        answer=(
            f"Of {1000 * slo_s:.2f} ms between tokens: kept for {kept[1]:.0%} of tokens, against {kept[2]:.0%} at the "
            f"largest batch, with {follows.tokens_per_s / largest.tokens_per_s:.0%} of its throughput."
        ),
        setup={
            **options.setup(),
            "requests": len(trace),
            "arrivals": "all at once",
            "promise": f"{1000 * slo_s:.3f} ms between tokens: half the median of the largest batch",
            "largest batch": MOST,
            "tokens a step": BUDGET,
        },
        rows=[row(name, outcome, slo_s) for name, outcome in served.items()],
        figures=(
            Bars("Gaps between tokens within the promise (%)", names, (("", tuple(100 * one for one in kept)),), "%"),
            Bars("Output tokens per second", names, (("", tuple(one.tokens_per_s for one in served.values())),)),
        ),
        claims=(
            Claim(
                "Throughput within the promise against one at a time, GPU off the data sheet",
                "up to 26 times (adaptive batching against none)",
                "Crankshaw et al., NSDI 2017 (Clipper)",
                gpu_follows.tokens_per_s / gpu_single.tokens_per_s,
                "times",
                "Clipper's 26 is its best case, a small model where nearly all cost is per batch; here each prompt "
                "must "
                "be computed too, and no batch makes that cheaper.",
            ),
            Claim(
                "The same on this engine",
                "up to 26 times",
                "Crankshaw et al., NSDI 2017 (Clipper)",
                follows.tokens_per_s / single.tokens_per_s,
                "times",
                "on one CPU thread a step costs nearly in proportion to its tokens, so there is little to gain.",
            ),
        ),
        notes=(
            "Rule: every 8 decode steps the limit grows by 1/32 of the most while the mean gap keeps the promise and "
            "the limit binds, and halves when it does not. So it swings about the promise: a share of the tokens "
            "is late by design, and a promise on p95 wants a limit set below it.",
            "Steps that compute prompts are long whatever the batch; no limit on the batch keeps their gaps.",
        ),
        holds=kept[1] > kept[2] and single.mean_batch < follows.mean_batch < largest.mean_batch,
    )


def on_gpu(trace: tuple[TraceRequest, ...]) -> tuple[Outcome, Outcome]:
    """One at a time, and following 20 ms, on a GPU off the data sheet."""
    single = drive(replace(BASE, max_num_seqs=1), trace, DATA_SHEET_GPU)
    return single, drive(replace(BASE, itl_slo_s=0.02), trace, DATA_SHEET_GPU)


def recorded(at: int, request: Request) -> None:
    """Keep each token's time."""
    request.timeline.token_times = []


def within(outcome: Outcome, slo_s: float) -> float:
    """Share of gaps within the promise."""
    gaps = outcome.gaps_s
    return sum(gap <= slo_s for gap in gaps) / len(gaps)


def row(name: str, outcome: Outcome, slo_s: float) -> dict[str, Cell]:
    """A variant as a row."""
    gaps = outcome.gaps_s
    return {
        "batch": name,
        "mean batch": outcome.mean_batch,
        "within promise %": 100 * within(outcome, slo_s),
        "gap p50 ms": 1000 * quantile(gaps, 0.5),
        "gap p95 ms": 1000 * quantile(gaps, 0.95),
        "tokens/s": outcome.tokens_per_s,
        "TTFT p50 s": quantile(outcome.ttft_s, 0.5),
    }
