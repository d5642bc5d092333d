"""How fast prompts are written, as ids and as text: ``python -m benchmarks.prompt_speed [TRACE] [--tokenizer FILE]``.

Tokens per CPU-second of this process, over the whole trace, after start-up; and whether each prompt of the text mode
has its length under the tokenizer, for the first ``--check`` rows.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import tokenizers

from planner.prompts import WordPool, prompt_lengths, text_prompts, token_prompts
from planner.prompts.words import of_tokenizer
from planner.readers import read_trace
from planner.traces.trace import Trace

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "traces" / "azure_conv_10min.csv"
PEERS = {"AIPerf 0.13": 0.22, "GuideLLM 0.8.1": 0.064}
"""Million tokens per CPU-second, start-up included, measured on a machine of 2 cores."""


def main() -> None:
    """Write every prompt of a trace twice and tell the speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path, nargs="?", default=SAMPLE)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--check", type=int, default=300)
    chosen = parser.parse_args()
    trace = read_trace(chosen.trace).trace
    total = int(prompt_lengths(trace).sum())
    print(f"{len(trace)} prompts, {total} tokens", file=sys.stderr)
    began = time.process_time()
    written = sum(len(prompt) for prompt in token_prompts(trace, 0, 32_000))
    rows = [_row("token ids", written / (time.process_time() - began))]
    if chosen.tokenizer is not None:
        pool = of_tokenizer(chosen.tokenizer)
        print(f"{len(pool.words)} words", file=sys.stderr)
        began = time.process_time()
        for _ in text_prompts(trace, pool):
            pass
        rows.append(_row("text", total / (time.process_time() - began)))
        wrong = _wrong(trace, pool, chosen)
        rows.append({"what": f"length errors, {chosen.check} rows", "ours": wrong, "unit": "tokens"})
    print(json.dumps({"benchmark": "prompt_speed", "rows": rows}))


def _wrong(trace: Trace, pool: WordPool, chosen: argparse.Namespace) -> int:
    tokenizer = tokenizers.Tokenizer.from_file(str(chosen.tokenizer))
    pairs = zip(range(chosen.check), prompt_lengths(trace).tolist(), text_prompts(trace, pool), strict=False)
    return sum(abs(len(tokenizer.encode(text, add_special_tokens=False).ids) - length) for _, length, text in pairs)


def _row(what: str, per_s: float) -> dict[str, object]:
    peer, figure = max(PEERS.items(), key=lambda item: item[1])
    return {
        "what": f"prompts, {what}",
        "ours": round(per_s / 1e6, 2),
        "unit": "M tokens/CPU-s",
        "peer": figure,
        "peer_name": peer,
    }


if __name__ == "__main__":
    main()
