"""Throughput and scheduler: tokens per second, what runs and waits, how full the steps are, how requests end.

And what people and judges said of the answers.
"""

from dashboard import board, plots, quantity, ratings, theme
from dashboard.board import Ask, Board
from dashboard.parts.panel import Panel
from dashboard.words import say

TOKENS = Panel("th-tokens", "Tokens per second", "tok/s", span=6)
DECODED = Panel("th-decoded", "Generated tokens, by pool", "tok/s")
PREFILLED = Panel("th-prompt", "Prompt tokens, by pool", "tok/s")
RUNNING = Panel("th-running", "Running requests")
WAITING = Panel("th-waiting", "Waiting requests")
RATE = Panel("th-rate", "Finished requests", "req/s")
PREEMPTIONS = Panel("th-preemptions", "Preemptions", "/s")
BATCH = Panel("th-batch", "Sequences per decode step")
ITERATION = Panel("th-iteration", "Tokens per step")
STEP = Panel("th-step", "Step time")
LENGTHS = Panel("th-output", "Generated tokens per request")
FINISHED = Panel("th-finished", "Finished requests by reason", "req/s", span=6)
TENANTS = Panel("th-tenants", "Finished requests, by tenant", "req/s", span=4)
TENANT_PROMPTS = Panel("th-tenant-prompts", "Prompt tokens, by tenant", "tok/s", span=4)
TENANT_TOKENS = Panel("th-tenant-tokens", "Generated tokens, by tenant", "tok/s", span=4)
TENANT = ("tenant",)
FAILED = Panel("th-failed", "Errors and rejections by reason", "req/s", span=6)
GOOD = Panel("th-good", "Good ratings", "%")
MADE_UP = Panel("th-made-up", "Hallucination score, mean")
RETRIED = Panel("th-retried", "Asked again", "/h")
TRUNCATED = Panel("th-truncated", "Said to be cut short", "/h")


def prefill(ask: Ask) -> str:
    """Tokens computed by prefill, where the engine counts them; else prompt tokens taken in, cached ones among them."""
    signal = "step_prefill_tokens" if ask.vocabulary.present("step_prefill_tokens") else "prompt_tokens"
    return ask.vocabulary.rate(signal, ask.rate_window, where=ask.where)


def batch(ask: Ask) -> str:
    """Sequences decoded per engine step."""
    vocabulary, window, where = ask.vocabulary, ask.rate_window, ask.where
    sequences = vocabulary.rate("step_decode_sequences", window, where=where)
    return f"({sequences} / {vocabulary.rate('step_time', window, where=where)})"


def failures(ask: Ask) -> str:
    """Errors and rejections by reason, those that the engine counts."""
    vocabulary = ask.vocabulary
    counted = [name for name in ("errors", "rejections") if vocabulary.present(name)] or ["errors"]
    parts = [
        f'label_replace({vocabulary.rate(name, ask.rate_window, by=("reason",), where=ask.where)}, '
        f'"kind", "{name.removesuffix("s")}", "", "")'
        for name in counted
    ]  # fmt: skip
    return " or ".join(parts)


BOARD = Board(
    key="th",
    title="Throughput",
    parts=(
        plots.whole(
            TOKENS, {say("decode"): plots.rate("generated_tokens"), say("prefill"): prefill},
            colors=(theme.PHASES["decode"], theme.PHASES["prefill"]),
        ),
        plots.lines(DECODED, plots.rate("generated_tokens"), summed=True),
        plots.lines(PREFILLED, plots.rate("prompt_tokens"), summed=True),
        plots.lines(RUNNING, plots.gauge("running_requests"), floor_top=4, summed=True),
        plots.lines(WAITING, plots.gauge("waiting_requests"), floor_top=4, summed=True),
        plots.lines(RATE, plots.rate("requests"), summed=True),
        plots.lines(PREEMPTIONS, plots.rate("preemptions"), floor_top=0.1, summed=True),
        plots.lines(BATCH, batch, floor_top=1),
        plots.fan(ITERATION, "iteration_tokens", write=quantity.count),
        plots.fan(STEP, "step_time"),
        plots.fan(LENGTHS, "output_length", write=quantity.count),
        plots.lines(
            FINISHED, plots.rate("finished_by_reason", ("finished_reason",)), by=("finished_reason",), sub="by reason",
            summed=True,
        ),
        plots.lines(FAILED, failures, by=("kind", "reason"), sub="by reason", floor_top=0.01, summed=True),
        plots.lines(TENANTS, plots.rate("tenant_requests", TENANT), by=TENANT, summed=True),
        plots.lines(TENANT_PROMPTS, plots.rate("tenant_prompt_tokens", TENANT), by=TENANT, summed=True),
        plots.lines(TENANT_TOKENS, plots.rate("tenant_generated_tokens", TENANT), by=TENANT, summed=True),
        plots.shares(GOOD, ratings.good),
        plots.lines(MADE_UP, ratings.made_up, floor_top=1),
        plots.lines(RETRIED, ratings.retried, floor_top=1, summed=True),
        plots.lines(TRUNCATED, ratings.truncated, floor_top=1, summed=True),
    ),
)  # fmt: skip

PAGE = board.page(BOARD, path="/throughput", icon="stack-2", key="t")
