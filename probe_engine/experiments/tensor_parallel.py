"""``tensor-parallel``: one model in one and in two processes: the same tokens, and at what cost."""

from probe_engine.experiments.figure import Bars
from probe_engine.experiments.options import Options
from probe_engine.experiments.report import Claim, Report
from probe_engine.experiments.trace import TraceRequest
from probe_engine.sched import SchedulerConfig

RANKS = (1, 2)
MAX_MODEL_LEN = 1024
CONFIG = SchedulerConfig(num_blocks=4096, max_model_len=MAX_MODEL_LEN, max_num_seqs=64, prefix_cache=False)


def run(options: Options) -> Report:
    """Serve the same prompts greedily with each number of processes."""
    from probe_engine.experiments.engine_steps import Decoded, greedy
    from probe_engine.profile.threads import torch_threads
    from probe_engine.runtime.parallel import load

    trace: tuple[TraceRequest, ...] = options.taken(MAX_MODEL_LEN, 32, 6)
    decoded: list[Decoded] = []
    weights: list[int] = []
    with torch_threads(1):
        for ranks in RANKS:
            options.tell(f"tensor-parallel: {ranks} processes")
            loaded = load(options.model, options.dtype, seed=options.seed, tensor_parallel=ranks)
            try:
                decoded.append(greedy(loaded, trace, CONFIG, options.seed))
                weights.append(loaded.model.weight_bytes)
            finally:
                loaded.model.close()
    tokens = [sum(map(len, one.tokens)) for one in decoded]
    speed = [count / one.wall_s for count, one in zip(tokens, decoded, strict=True)]
    alike = sum(one == other for one, other in zip(decoded[0].tokens, decoded[1].tokens, strict=True))
    names = tuple(f"{ranks} process{'es' if ranks > 1 else ''}" for ranks in RANKS)
    return Report(
        name="tensor-parallel",
        title="One model in two processes",
        question="Do two processes that share a model give the tokens that one gives, and what do they cost and save?",
        answer=(
            f"{alike} of {len(trace)} outputs are the same, token by token; each of two processes holds "
            f"{weights[1] / weights[0]:.0%} of the weights; {speed[1] / speed[0]:.2f} times the speed."
        ),
        setup={**options.setup(), "requests": len(trace), "threads": "one in each process", "decoding": "greedy"},
        rows=[
            {
                "processes": ranks,
                "outputs as with one": alike if ranks > 1 else len(trace),
                "of": len(trace),
                "weights of a process MB": held / 1e6,
                "tokens/s (wall clock)": fast,
            }
            for ranks, held, fast in zip(RANKS, weights, speed, strict=True)
        ],
        figures=(
            Bars("Output tokens per second (wall clock)", names, (("", tuple(speed)),)),
            Bars("Weights that a process holds (MB)", names, (("", tuple(one / 1e6 for one in weights)),), "MB"),
        ),
        claims=(
            Claim(
                "Speed with 2 processes, per process, against 1",
                "77% with 8 GPUs (weak scaling)",
                "Shoeybi et al., 2019 (Megatron-LM)",
                100 * speed[1] / speed[0] / RANKS[1],
                "%",
                "two all-reduces a layer go over gloo and loopback, some tens of microseconds each, between products "
                "of "
                "a small model that take less; Megatron's take milliseconds over NVLink.",
            ),
            Claim(
                "Weights that each of 2 processes holds",
                "half",
                "Shoeybi et al., 2019 (Megatron-LM)",
                100 * weights[1] / weights[0],
                "%",
                "norms are in every process, and a vocabulary or a head count that doesn't divide is kept twice.",
            ),
        ),
        notes=(
            "Sums are added in another order than in one process, so in bfloat16 a token may differ where two are as "
            "good as equal; in float32 hardly ever.",
            "The wall's clock on a shared machine: the speed is to be taken as its order of magnitude.",
        ),
        holds=alike == len(trace) if options.dtype == "float32" else alike > 0,
    )
