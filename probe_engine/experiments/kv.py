"""``kv``: what paging the KV cache is worth against one contiguous slot of the longest length for each request.

The engine itself is the static allocator too: blocks of ``max_model_len`` tokens are contiguous slots, one a request,
as FasterTransformer and Orca (Max) reserve them. Everything is queued at once, so that memory is what binds.
"""

from probe_engine.experiments.drive import Outcome, drive
from probe_engine.experiments.figure import Bars
from probe_engine.experiments.options import Options
from probe_engine.experiments.report import Cell, Claim, Report
from probe_engine.experiments.steps import DATA_SHEET_GPU
from probe_engine.experiments.trace import paced
from probe_engine.sched import SchedulerConfig

MAX_MODEL_LEN = 4096
REQUESTS_PER_SLOT = 16  # so many requests share one static slot: memory is short from beginning to end
BLOCK_SIZES = (MAX_MODEL_LEN, 512, 128, 16)
STATIC, PAGED = 0, len(BLOCK_SIZES) - 1


def run(options: Options) -> Report:
    """Serve the same requests under each block size, on the engine and on a GPU off the data sheet."""
    trace = paced(options.taken(MAX_MODEL_LEN, 256, 64), 0)
    slots = max(2, len(trace) // REQUESTS_PER_SLOT)
    here: list[Outcome] = []
    with options.engine() as steps_of:
        for size in BLOCK_SIZES:
            options.tell(f"kv: {len(trace)} requests, blocks of {size} tokens")
            config = memory_of(size, slots)
            here.append(drive(config, trace, steps_of(config), watch_memory=True))
    gpu = [drive(memory_of(size, slots), trace, DATA_SHEET_GPU) for size in BLOCK_SIZES]
    shares = [outcome.memory.shares() for outcome in here]
    names = tuple(name_of(size) for size in BLOCK_SIZES)
    speed = here[PAGED].tokens_per_s / here[STATIC].tokens_per_s
    gpu_speed = gpu[PAGED].tokens_per_s / gpu[STATIC].tokens_per_s
    batch = here[PAGED].mean_batch / here[STATIC].mean_batch
    return Report(
        name="kv",
        title="Paged against static allocation of the KV cache",
        question=(
            "How much of the KV memory holds keys and values, how many requests fit, and what does that do to "
            "throughput, when each request owns blocks as it grows instead of a slot for the longest length?"
        ),
        answer=(
            f"KV memory holding tokens: {shares[STATIC]['held']:.0%} static, {shares[PAGED]['held']:.0%} paged; "
            f"{batch:.1f} times as many requests decode together."
        ),
        setup={
            **options.setup(),
            "requests": len(trace),
            "KV memory": f"{slots * MAX_MODEL_LEN} tokens ({slots} slots of {MAX_MODEL_LEN})",
            "arrivals": "all at once",
            "GPU": DATA_SHEET_GPU.source,
        },
        rows=[
            row(name, size, outcome, on_gpu)
            for name, size, outcome, on_gpu in zip(names, BLOCK_SIZES, here, gpu, strict=True)
        ],
        figures=(
            Bars(
                "Share of KV memory while requests wait for it (%)",
                names,
                tuple(
                    (told, tuple(100 * share[part] for share in shares))
                    for told, part in (
                        ("holds tokens", "held"),
                        ("reserved, used later", "reserved"),
                        ("never used", "wasted"),
                        ("free", "free"),
                    )
                ),
                "%",
            ),
            Bars("Requests decoding together (mean)", names, (("", tuple(one.mean_batch for one in here)),)),
        ),
        claims=claims(shares, speed, gpu_speed, batch),
        notes=(
            "Memory is weighed from the first finished request on, while others wait for it: what is held, what "
            "it will still fill, "
            "what it never will, and what is not allocated.",
            "Blocks are all of one size, so nothing is lost between slots; Orca's buddy allocator loses there as well.",
            f"tokens/s here is processor time of one thread; the GPU column is {DATA_SHEET_GPU.source}.",
        ),
        holds=shares[PAGED]["held"] > shares[STATIC]["held"] and batch > 1,
    )


def memory_of(block_size: int, slots: int) -> SchedulerConfig:
    """Memory of so many static slots, cut into blocks of this size."""
    return SchedulerConfig(
        num_blocks=slots * MAX_MODEL_LEN // block_size,
        block_size=block_size,
        max_model_len=MAX_MODEL_LEN,
        prefix_cache=False,
    )


def name_of(block_size: int) -> str:
    """A variant's name."""
    return f"static, {block_size} a request" if block_size == MAX_MODEL_LEN else f"paged, blocks of {block_size}"


def row(name: str, size: int, here: Outcome, gpu: Outcome) -> dict[str, Cell]:
    """A variant as a row."""
    shares = here.memory.shares()
    return {
        "allocation": name,
        "block tokens": size,
        "holds tokens %": 100 * shares["held"],
        "reserved %": 100 * shares["reserved"],
        "never used %": 100 * shares["wasted"],
        "free %": 100 * shares["free"],
        "most at once": here.most_running,
        "mean batch": here.mean_batch,
        "steps": here.steps,
        "preemptions": here.preemptions,
        "tokens/s here": here.tokens_per_s,
        "tokens/s GPU": gpu.tokens_per_s,
    }


def claims(shares: list[dict[str, float]], speed: float, gpu_speed: float, batch: float) -> tuple[Claim, ...]:
    """Ours beside the paper on PagedAttention."""
    paper = "Kwon et al., SOSP 2023 (vLLM)"
    return (
        Claim(
            "KV memory that holds tokens, static",
            "20.4% (Orca Max) to 38.2% (Orca Oracle)",
            paper,
            100 * shares[STATIC]["held"],
            "%",
            "it is the trace's mean length against the longest allowed, here 4,096 tokens; the paper's slots are "
            "2,048.",
        ),
        Claim(
            "KV memory that holds tokens, paged",
            "96.3%",
            paper,
            100 * shares[PAGED]["held"],
            "%",
            "what is missing is the half-filled last block of each request and blocks that are free because the next "
            "request in the queue wants more than are left.",
        ),
        Claim(
            "Throughput, paged against static, this engine",
            "2 to 4 times",
            paper,
            speed,
            "times",
            "on a CPU a step of a small model costs in proportion to its tokens, so a larger batch saves little; the "
            "paper's GPUs read all weights for each step whatever its batch.",
        ),
        Claim(
            "Throughput, paged against static, GPU off the data sheet",
            "2 to 4 times",
            paper,
            gpu_speed,
            "times",
            "prompts in this trace are several times as long as outputs, and computing a prompt gains nothing from a "
            "larger batch; the paper's ShareGPT has outputs twice as long as prompts.",
        ),
        Claim(
            "Requests decoding together, paged against static",
            "2.2 to 4.3 times as many as Orca's (Fig. 13)",
            paper,
            batch,
            "times",
            "the same for any hardware: it is what the throughput gains when a step's time does not depend on "
            "its batch.",
        ),
    )
