"""How far the twin is from what real engines did, on requests that it was not fitted on.

    python -m benchmarks.twin_accuracy RUN… [--traces FOLDER]

Each run is calibrated on the first half of its requests and compared on the second: TTFT, time per token and end to
end, at the median and the 99th percentile. RUN is a run of ``loadline replay``, an LLMServingSim bench or vLLM's spans;
``--traces`` (or LOADLINE_TRACES) takes every measured run under a folder of public traces.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

from planner.sim import Twin
from planner.steps.measured import read_any
from planner.steps.validate import validate

PATTERNS = ("llmservingsim/bench/examples/*/*/vllm/requests.jsonl", "vllm_otel/*/traces.json")
METRICS = {"ttft_sent_s": "TTFT", "tpot_s": "time per token", "e2e_sent_s": "end to end"}


def main() -> None:
    """Print a table and, as the last line, JSON."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("runs", nargs="*", type=Path)
    arguments.add_argument("--traces", type=Path, default=os.environ.get("LOADLINE_TRACES"))
    given = arguments.parse_args()
    paths = list(given.runs)
    if given.traces is not None:
        paths += [path for pattern in PATTERNS for path in sorted(Path(given.traces).glob(pattern))]
    if not paths:
        print("no measured run given: unmeasured (name runs, or a folder with --traces)")
    rows = [row for path in paths for row in measure(path)]
    for row in rows:
        print(f"{row['what']:<90} {row['ours']:>9,.1f} {row['unit']}")
    print(json.dumps({"benchmark": "twin_accuracy", "rows": rows}))


def measure(path: Path) -> Iterator[dict[str, object]]:
    """Errors of one run's second half, percent, signed: above 0 the twin is too slow."""
    run = read_any(path)
    found = validate(run, str(path), split=0.5, model=None, fleet=lambda model: Twin.of(model, noise=False))
    name = "/".join(path.parts[-4:-1])
    for metric, words in METRICS.items():
        errors = found.comparison.metrics[metric].error
        for percentile in ("p50", "p99"):
            if percentile in errors:
                what = f"{name}: {words} {percentile}, error"
                yield {"what": what, "ours": round(errors[percentile] * 100, 1), "unit": "%"}


if __name__ == "__main__":
    main()
