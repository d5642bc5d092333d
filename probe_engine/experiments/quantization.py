"""``quantization``: weights of 8 and 4 bits, by what they take, how like the model stays itself, and how fast it is."""

from dataclasses import dataclass

from probe_engine.experiments.drive import drive
from probe_engine.experiments.figure import Bars
from probe_engine.experiments.options import Options
from probe_engine.experiments.report import Cell, Claim, Report
from probe_engine.experiments.trace import TraceRequest, paced
from probe_engine.sched import SchedulerConfig

KINDS = ("none", "int8", "int4")
MAX_MODEL_LEN = 2048
WRITTEN_TOKENS = 1024  # that the unrounded model writes, to be judged by the rounded ones
QUICK_WRITTEN_TOKENS = 256
WINDOW = 128


@dataclass(frozen=True, slots=True)
class Weighed:
    """One precision of the weights. perplexity: of the text that the unrounded model wrote."""

    kind: str
    weight_bytes: int
    perplexity: float
    tokens_per_s: float


def run(options: Options) -> Report:
    """Each precision on the same requests and the same text."""
    trace = paced(options.taken(MAX_MODEL_LEN, 48, 12), 0)
    found = measure(options, trace)
    plain = found[0]
    names = tuple(one.kind for one in found)
    growth = [100 * (one.perplexity / plain.perplexity - 1) for one in found]
    return Report(
        name="quantization",
        title="Weights of 8 and 4 bits",
        question="What do rounded weights save in memory, how far does the model stray from itself, and is it faster?",
        answer="; ".join(
            f"{one.kind}: {one.weight_bytes / plain.weight_bytes:.0%} of the memory, perplexity {more:+.2f}%, "
            f"{one.tokens_per_s / plain.tokens_per_s:.2f} times the speed"
            for one, more in zip(found[1:], growth[1:], strict=True)
        ),
        setup={
            **options.setup(),
            "requests": len(trace),
            "text": "written by the unrounded model itself at temperature 1 (seeded): its own perplexity is the least",
            "tokens/s": "processor time of one thread, all requests at once",
        },
        rows=[row(one, plain, more) for one, more in zip(found, growth, strict=True)],
        figures=(
            Bars("Memory of the weights (MB)", names, (("", tuple(one.weight_bytes / 1e6 for one in found)),), "MB"),
            Bars("Perplexity above the unrounded model's (%)", names, (("", tuple(map(_at_least_0, growth))),), "%"),
            Bars("Output tokens per second", names, (("", tuple(one.tokens_per_s for one in found)),)),
        ),
        claims=claims(found, growth, options.dtype),
        notes=(
            "The perplexity's growth is e to the Kullback-Leibler divergence from the unrounded model, less 1, "
            "estimated "
            "on its own text. A model of random weights has little to lose: give a trained one with --model.",
            "Embedding, norms and a tied head stay exact, which weighs much in a small model.",
            "benchmarks/quantisation.py trains a small model first and asks for text that it has not seen.",
        ),
        holds=found[2].weight_bytes < found[1].weight_bytes < plain.weight_bytes,
    )


def measure(options: Options, trace: tuple[TraceRequest, ...]) -> list[Weighed]:
    """Load each precision in turn, serve the trace, and judge the text that the first wrote."""
    from probe_engine.experiments.engine_steps import EngineSteps, step_clock, written
    from probe_engine.profile.perplexity import perplexity
    from probe_engine.profile.threads import torch_threads
    from probe_engine.runtime.parallel import load

    config = SchedulerConfig(num_blocks=8192, max_model_len=MAX_MODEL_LEN, max_num_seqs=64, prefix_cache=False)
    found: list[Weighed] = []
    text: list[int] = []
    with torch_threads(1):
        for kind in KINDS:
            options.tell(f"quantization: {kind}")
            loaded = load(options.model, options.dtype, seed=options.seed, quantization=kind)
            if not text:
                tokens = QUICK_WRITTEN_TOKENS if options.quick else WRITTEN_TOKENS
                text = written(loaded, tokens, WINDOW, options.seed)
            steps = EngineSteps(loaded, config, options.seed, step_clock(loaded.device))
            speed = drive(config, trace, steps).tokens_per_s
            found.append(Weighed(kind, loaded.model.weight_bytes, perplexity(loaded, text, WINDOW), speed))
    return found


def row(one: Weighed, plain: Weighed, more: float) -> dict[str, Cell]:
    """A precision as a row."""
    return {
        "weights": one.kind,
        "MB": one.weight_bytes / 1e6,
        "of the memory %": 100 * one.weight_bytes / plain.weight_bytes,
        "perplexity": one.perplexity,
        "above %": more,
        "tokens/s": one.tokens_per_s,
    }


def claims(found: list[Weighed], growth: list[float], dtype: str) -> tuple[Claim, ...]:
    """Ours beside LLM.int8() and GPTQ."""
    int8, gptq = "Dettmers et al., NeurIPS 2022 (LLM.int8())", "Frantar et al., ICLR 2023 (GPTQ)"
    plain, eight, four = found
    return (
        Claim(
            "Memory, 8 bits against unrounded",
            "half",
            int8,
            eight.weight_bytes / plain.weight_bytes,
            "times",
            f"unrounded is {dtype} here; scales and what stays exact are in it.",
        ),
        Claim(
            "Perplexity, 8 bits",
            "no degradation",
            int8,
            growth[1],
            "% more",
            "one scale a row and 127 steps: below what sampling noise can show.",
        ),
        Claim(
            "Perplexity, 4 bits",
            "negligible (models of 175 billion)",
            gptq,
            growth[2],
            "% more",
            "ours rounds to the nearest in groups of 32; GPTQ moves the rounding errors to weights that can bear them, "
            "in groups of 128 or whole rows.",
        ),
        Claim(
            "Speed, 4 bits",
            "3.25 times (A100), 4.5 times (A6000)",
            gptq,
            four.tokens_per_s / plain.tokens_per_s,
            "times",
            "a GPU that waits for weights gains what is not read; here a weight is brought back to the model's dtype "
            "before its product, which costs about what reading less saves, and a busy machine moves the figure more.",
        ),
    )


def _at_least_0(value: float) -> float:
    return max(0.0, value)
