"""``prefix-routing``: where a request goes, and how much of its prompt has been computed there already."""

from collections.abc import Sequence

from probe_engine.errors import ExperimentError
from probe_engine.experiments.drive import mean, quantile
from probe_engine.experiments.figure import Bars
from probe_engine.experiments.fleet import FleetOutcome, drive_fleet
from probe_engine.experiments.options import Options
from probe_engine.experiments.report import Cell, Claim, Report
from probe_engine.experiments.steps import DATA_SHEET_GPU, StepCost
from probe_engine.experiments.trace import PREFIX_BLOCK_TOKENS, TraceRequest, paced, spread_ticks
from probe_engine.gateway.router import ROUTERS
from probe_engine.sched import SchedulerConfig

REPLICAS = 4
LOAD = 0.85  # of the fleet, if nothing were ever found in a cache
MAX_MODEL_LEN = 131_072
# Of a replica: what an H100 of 80 GB has left beside an 8B model in bf16; and with 210 GB of host memory behind it.
MEMORIES = {"GPU memory": 400_000, "GPU and host memory": 2_000_000}
# name: router, its bound, blocks of the prompt that are hashed
VARIANTS = {
    "round robin": ("round_robin", 1.25, 1),
    "least load": ("least_load", 1.25, 1),
    "CHWBL, first 512 tokens": ("prefix", 1.25, 1),
    "CHWBL, first 1,024 tokens": ("prefix", 1.25, 2),
    "CHWBL, first 1,024, bound 2": ("prefix", 2.0, 2),
}
CHOSEN = "CHWBL, first 1,024 tokens"  # the gateway's default bound, and a prefix beyond the common beginning


def run(options: Options) -> Report:
    """The gateway's routers in front of 4 replicas, on the engine's step times and on a GPU's."""
    trace = spread_ticks(options.taken(MAX_MODEL_LEN, 2048, 400), options.seed)
    if not any(row.prefix for row in trace):
        raise ExperimentError(
            f"{options.trace_name}: tells of no shared prefixes; prefix-routing wants a trace with hash_ids (Mooncake)"
        )
    options.tell(f"prefix-routing: {len(trace)} requests over {REPLICAS} replicas, {len(VARIANTS)} ways")
    cost = options.cost()
    served = {
        memory: {name: serve(trace, name, tokens, DATA_SHEET_GPU) for name in VARIANTS}
        for memory, tokens in MEMORIES.items()
    }
    small, large = served.values()
    here = {name: serve(trace, name, max(MEMORIES.values()), cost) for name in VARIANTS}
    names = tuple(VARIANTS)
    rr, chwbl = large["round robin"], large[CHOSEN]
    return Report(
        name="prefix-routing",
        title="Routing by prefix over four replicas",
        question=(
            "When requests whose prompts begin alike go to one replica (consistent hashing with bounded loads), how "
            "much more of the prompts is found in its cache than with round robin or least load, and what is it worth?"
        ),
        answer=(
            f"Prompt tokens found in a cache, with host memory behind the GPU's: {rr.hit_ratio:.1%} round robin, "
            f"{large['least load'].hit_ratio:.1%} least load, {chwbl.hit_ratio:.1%} CHWBL (bound 2: "
            f"{large['CHWBL, first 1,024, bound 2'].hit_ratio:.1%}); at most {reusable(trace):.1%} could be."
        ),
        setup={
            **options.setup(),
            "requests": len(trace),
            "replicas": REPLICAS,
            "KV memory of each": ", ".join(f"{name}: {tokens:,} tokens" for name, tokens in MEMORIES.items()),
            "load": f"{LOAD:.0%} of the fleet if nothing were cached (the trace's arrivals, faster or slower)",
            "GPU": DATA_SHEET_GPU.source,
            "this engine": cost.source,
            "error of the step times": None if cost.error_ratio is None else f"{cost.error_ratio:.0%}",
        },
        rows=[
            row(name, memory, outcomes[name], here[name] if outcomes is large else None)
            for memory, outcomes in served.items()
            for name in names
        ],
        figures=(
            Bars(
                "Prompt tokens found in a replica's cache (%)",
                names,
                tuple((memory, tuple(100 * by[name].hit_ratio for name in names)) for memory, by in served.items()),
                "%",
            ),
            Bars(
                "Time to first token, mean, GPU off the data sheet (s)",
                names,
                tuple((memory, tuple(mean(by[name].ttft_s) for name in names)) for memory, by in served.items()),
                "s",
            ),
        ),
        claims=claims(rr, large["least load"], chwbl, reusable(trace)),
        notes=(
            "Routers, ring and bound are the gateway's own; schedulers and prefix caches are the engine's, one "
            "for each "
            "replica. Steps take what the engine's were measured to take or what a data sheet says: prompts of 12,000 "
            "tokens on four replicas of this CPU would take hours.",
            "Nearly every conversation of the trace begins with the same 512 tokens. Hashing no more than those sends "
            "all of them to one place on the ring, and only the bound spreads them: set --prefix-characters beyond the "
            "system prompt.",
            "With GPU memory alone most blocks are evicted before the next turn comes (half of all reuse is later than "
            "two minutes), whoever routes: memory, not routing, is what binds then. Host memory is taken as large and "
            "free to read; fetching from it is not charged.",
            "Blocks of generated tokens are not in the trace, so a later turn finds its earlier prompt in the "
            "cache but "
            "not the earlier answer: all routings are understated alike.",
            "The trace's clock ticks every 3 s; arrivals of a tick are spread over it (seeded).",
        ),
        holds=all(one[CHOSEN].hit_ratio > one[plain].hit_ratio for one in (small, large) for plain in names[:2]),
    )


def serve(trace: Sequence[TraceRequest], name: str, kv_tokens: int, cost: StepCost) -> FleetOutcome:
    """One variant, at ``LOAD``."""
    router, bound, blocks = VARIANTS[name]
    config = SchedulerConfig(
        num_blocks=kv_tokens // PREFIX_BLOCK_TOKENS,
        block_size=PREFIX_BLOCK_TOKENS,
        max_num_batched_tokens=8192,
        max_num_seqs=256,
        max_model_len=MAX_MODEL_LEN,
    )
    work_s = sum(cost.alone_s(row.prompt_tokens, row.output_tokens) for row in trace) / REPLICAS
    pace = LOAD * (trace[-1].arrival_s or 1.0) / work_s
    return drive_fleet(paced(trace, pace), REPLICAS, ROUTERS[router](bound), config, cost, blocks)


def reusable(trace: Sequence[TraceRequest]) -> float:
    """Share of prompt tokens that were there before in the trace: what one endless cache would find."""
    seen: set[int] = set()
    found = 0
    for row in trace:
        known = [block for block in row.prefix[: row.prompt_tokens // PREFIX_BLOCK_TOKENS] if block in seen]
        found += len(known) * PREFIX_BLOCK_TOKENS
        seen.update(row.prefix)
    return found / sum(row.prompt_tokens for row in trace)


def row(name: str, memory: str, gpu: FleetOutcome, here: FleetOutcome | None) -> dict[str, Cell]:
    """A variant as a row."""
    return {
        "routing": name,
        "memory": memory,
        "hit %": 100 * gpu.hit_ratio,
        "busiest replica / mean": gpu.unevenness,
        "TTFT p50 s GPU": quantile(gpu.ttft_s, 0.5),
        "TTFT mean s GPU": mean(gpu.ttft_s),
        "TTFT p95 s GPU": quantile(gpu.ttft_s, 0.95),
        "prompt tokens computed": sum(gpu.prefill_tokens),
        "hit % here": None if here is None else 100 * here.hit_ratio,
        "TTFT mean s here": None if here is None else mean(here.ttft_s),
    }


def claims(rr: FleetOutcome, least: FleetOutcome, chwbl: FleetOutcome, endless: float) -> tuple[Claim, ...]:
    """Ours beside SGLang's and KubeAI's figures."""
    kubeai, sglang = "KubeAI, 2025: prefix-aware load balancing", "LMSYS, 2024: SGLang v0.4"
    return (
        Claim(
            "Hit ratio, CHWBL against round robin",
            "3.8 times",
            sglang,
            chwbl.hit_ratio / rr.hit_ratio,
            "times",
            "their workload has long prefixes shared by many requests, so nearly everything can be found; of this "
            f"trace, conversations with a few turns each, an endless cache would find {endless:.0%}.",
        ),
        Claim(
            "Mean time to first token, less than with least load",
            "95% less than Kubernetes' random choice",
            kubeai,
            100 * (1 - mean(chwbl.ttft_s) / mean(least.ttft_s)),
            "%",
            "their baseline chose at random, as Kubernetes does, and their prompts were nearly all shared. Against a "
            f"router that knows the queues, {chwbl.hit_ratio:.0%} of prompts found must make up for the longer queue "
            "at the replica that has it: both count requests, and a prompt of this trace has 7,000 to 120,000 tokens.",
        ),
        Claim(
            "Mean time to first token, less than with round robin",
            "95%",
            kubeai,
            100 * (1 - mean(chwbl.ttft_s) / mean(rr.ttft_s)),
            "%",
            "round robin also does not look at how long a prompt is, so a replica that got two long ones holds "
            "up others.",
        ),
        Claim(
            "Prompt tokens computed, round robin against CHWBL",
            "up to 1.9 times the throughput (SGLang), 2.27 times (KubeAI)",
            f"{sglang}; {kubeai}",
            sum(rr.prefill_tokens) / sum(chwbl.prefill_tokens),
            "times",
            "the bound on what throughput can gain, since outputs cost the same everywhere.",
        ),
    )
