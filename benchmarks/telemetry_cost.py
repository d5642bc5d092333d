"""What the engine's telemetry costs: CPU seconds of a burst with it and without.

    python -m benchmarks.telemetry_cost [--model tiny] [--dtype bfloat16] [--rounds 8]

A burst of 64 requests (128 in, 64 out) runs through the engine's loop: metrics, records and their locks as in the
server, against the same loop that records nothing. Rounds alternate and the median of their ratios counts, so that a
busy machine disturbs both alike. ``--spans`` records each token's time too, as for traces. The goal is under 1%.
"""

import argparse
import json
import statistics
import sys
import time

import torch

from probe_engine.model.loading import LoadedModel, load_model
from probe_engine.model.sampling import SamplingParams
from probe_engine.profile.bench import burst_config, random_prompts
from probe_engine.runtime.engine import Engine
from probe_engine.runtime.generation import Generation
from probe_engine.runtime.runner import Runner
from probe_engine.telemetry.metrics import EngineMetrics

REQUESTS, PROMPT_TOKENS, OUTPUT_TOKENS = 64, 128, 64
SEED = 3


class SilentEngine(Engine):
    """The engine's loop without its records."""

    def _record(self, *told: object) -> None:
        self._resumed_s = self.clock()


def main() -> None:
    """Measure, print."""
    options = _options()
    torch.set_num_threads(1)
    loaded = load_model(options.model, options.dtype, "cpu")
    config = burst_config(REQUESTS, PROMPT_TOKENS, OUTPUT_TOKENS)
    runner = Runner(loaded, config)
    told = Engine(runner, loaded.tokenizer, config, EngineMetrics("bench"), record_tokens=options.spans)
    silent = SilentEngine(runner, loaded.tokenizer, config, EngineMetrics("bench"))
    for engine in (silent, told):
        burst_cpu_s(engine, loaded)  # what is made on first use
    ratios, spent = [], []
    for number in range(options.rounds):
        order = (told, silent) if number % 2 else (silent, told)
        cpu_s = {engine: burst_cpu_s(engine, loaded) for engine in order}
        ratios.append(cpu_s[told] / cpu_s[silent])
        spent.append(cpu_s[told])
        print(f"round {number}: {cpu_s[told]:.3f} s with, {cpu_s[silent]:.3f} s without", file=sys.stderr)
    steps = told.scheduler.steps / (options.rounds + 1)
    recording_s = recording_cpu_s(told)
    rows = [
        {"what": "CPU time of a burst, telemetry on over off", "ours": statistics.median(ratios), "unit": "ratio"},
        {
            "what": "recording one step of 64 decodes, over a step's CPU time",
            "ours": 100 * recording_s * steps / statistics.median(spent),
            "unit": "%",
        },
    ]
    for row in rows:
        row["lower_is_better"] = True
        print(f"{row['what']:<60} {row['ours']:.4f} {row['unit']}")
    print(json.dumps({"benchmark": "telemetry_cost", "rows": rows}))


def burst_cpu_s(engine: Engine, loaded: LoadedModel) -> float:
    """CPU seconds of this thread for one burst."""
    prompts = random_prompts(loaded.config.vocab_size, REQUESTS, PROMPT_TOKENS, SEED)
    before = time.thread_time()
    for index, prompt in enumerate(prompts):
        greedy = SamplingParams(temperature=0.0)
        engine.add(Generation(f"r{index}", prompt, OUTPUT_TOKENS, engine.clock(), greedy, ignore_eos=True))
    while engine.has_work:
        engine.step()
    return time.thread_time() - before


def recording_cpu_s(engine: Engine, times: int = 2000) -> float:
    """CPU seconds of recording one step of ``REQUESTS`` decodes."""
    for index in range(REQUESTS):
        greedy = SamplingParams(temperature=0.0)
        engine.add(Generation(f"s{index}", [1 + index], OUTPUT_TOKENS, engine.clock(), greedy, ignore_eos=True))
    engine.step()
    output = engine.scheduler.schedule(engine.clock())
    if output is None:
        raise RuntimeError("the scheduler found nothing to run")
    before = time.thread_time()
    for _ in range(times):
        scheduler, now = engine.scheduler, engine.clock()
        lengths = (scheduler.decoding.variance, scheduler.queued, scheduler.put_back)
        engine._record(output, (), (), now, now, lengths)
    return (time.thread_time() - before) / times


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="'tiny', whose steps are the shortest, or a directory.")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--spans", action="store_true", help="Record each token's time, as for traces.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
