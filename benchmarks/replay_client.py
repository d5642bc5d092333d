"""What playing costs a client, and how late it is: ``python -m benchmarks.replay_client``.

Cost: every client plays short streams against the same mock server (``benchmarks._mock_openai``, one core of its own if
there is one), once with few and once with many requests; the difference of the CPU seconds of its whole process tree
is what the requests cost, without start-up. The mock's true TTFT is 0, so the TTFT that a client reports is its own.

``--guidellm`` and ``--aiperf`` name the commands of peers to measure beside it, ``--tokenizer`` what they need.

On time: the first 1,000 arrivals of a trace at five times their speed; the mock notes when each had arrived.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from planner.readers import read_trace
from planner.result import read_run
from planner.traces.workload import Shaping

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "traces" / "azure_conv_10min.csv"
PROMPT = 16
CASES = {"1 token": (1, 0.0), "64 tokens at once": (64, 0.0), "64 tokens, one each 2 ms": (64, 0.002)}
RATE_PER_S = {0.0: 400.0, 0.002: 100.0}
"""Requests per second of our own trace, by the gap between tokens: what the mock can do beside the client."""
OURS, PEERS = (500, 5500), (200, 1000)


class Played(NamedTuple):
    """CPU seconds of a client's process tree, and the TTFT p50 and p99 (ms) that it reports, if any."""

    cpu_s: float
    ttft_p50_ms: float | None
    ttft_p99_ms: float | None


Client = Callable[[str, Path, int, int, float], Played]


def main() -> None:
    """Measure and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guidellm", type=Path, help="its command, in an environment of its own")
    parser.add_argument("--aiperf", type=Path, help="its command, in an environment of its own")
    parser.add_argument("--tokenizer", type=Path, help="folder of a tokenizer, which the peers need")
    parser.add_argument("--trace", type=Path, default=SAMPLE)
    parser.add_argument("--only", choices=["cost", "time"])
    parser.add_argument("--realtime", action="store_true", help="run before all else, on a machine that is busy")
    chosen = parser.parse_args()
    if chosen.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    rows = []
    if chosen.only != "time":
        rows += list(cost(chosen))
    if chosen.only != "cost":
        rows += list(on_time(chosen.trace))
    print(json.dumps({"benchmark": "replay_client", "rows": rows}))


def cost(chosen: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Requests per CPU-second and own TTFT of every client and case."""
    peers: dict[str, Client] = {}
    if chosen.guidellm:
        peers["GuideLLM"] = partial(guidellm, chosen.guidellm, chosen.tokenizer)
    if chosen.aiperf:
        peers["AIPerf"] = partial(aiperf, chosen.aiperf, chosen.tokenizer)
    for what, (tokens, gap_s) in CASES.items():
        ours, told = _marginal(loadline, tokens, gap_s, *OURS)
        theirs = {name: _marginal(client, tokens, gap_s, *PEERS) for name, client in peers.items()}
        best = max(theirs, key=lambda name: theirs[name][0], default=None)
        row: dict[str, object] = {"what": f"{what}: requests", "ours": round(ours), "unit": "per CPU-s"}
        if best:
            row |= {"peer": round(theirs[best][0]), "peer_name": best}
        yield row
        for name, (figure, played) in theirs.items():
            print(
                f"{what}: {name} {figure:.0f} per CPU-s, TTFT {played.ttft_p50_ms}/{played.ttft_p99_ms} ms",
                file=sys.stderr,
            )
        for quantile, mine, at in (("p50", told.ttft_p50_ms, 1), ("p99", told.ttft_p99_ms, 2)):
            row = {"what": f"{what}: own TTFT {quantile}", "ours": mine, "unit": "ms", "lower_is_better": True}
            known = {name: played[at] for name, (_, played) in theirs.items() if played[at] is not None}
            if known:
                least = min(known, key=lambda name: known[name] or 0.0)
                row |= {"peer": known[least], "peer_name": least}
            yield row


def _marginal(client: Client, tokens: int, gap_s: float, few: int, many: int) -> tuple[float, Played]:
    with mock(gap_s) as url, tempfile.TemporaryDirectory() as folder:
        first = client(url, Path(folder), few, tokens, gap_s)
        second = client(url, Path(folder), many, tokens, gap_s)
    per_s = (many - few) / max(second.cpu_s - first.cpu_s, 1e-9)
    print(f"{tokens} tokens: {first.cpu_s:.2f} s, then {second.cpu_s:.2f} s: {per_s:.0f} per CPU-s", file=sys.stderr)
    return per_s, second


def loadline(url: str, folder: Path, count: int, tokens: int, gap_s: float) -> Played:
    """Our own client: a Poisson trace of ``count`` requests."""
    gaps = np.random.default_rng(1).exponential(1 / RATE_PER_S[gap_s], count)
    lines = (f"{at:.6f},{PROMPT},{tokens}" for at in np.cumsum(gaps).tolist())
    trace, out = folder / "trace.csv", folder / "run.json"
    trace.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n" + "\n".join(lines) + "\n")
    command = [sys.executable, "-m", "planner.replay", "run", str(trace), "--target", url, "--out", str(out), "--json"]
    cpu_s = _cpu_of(command, ok=(0,))
    run = read_run(out)
    assert len(run.requests) == count, f"{len(run.requests)} of {count} in the report"
    found = run.summary().latency["ttft_sent_s"]
    assert found.p50 is not None
    assert found.p99 is not None
    return Played(cpu_s, round(found.p50 * 1e3, 3), round(found.p99 * 1e3, 3))


def guidellm(command: Path, tokenizer: Path, url: str, folder: Path, count: int, tokens: int, _: float) -> Played:
    """GuideLLM with one worker, 32 requests at once."""
    out = folder / "guidellm.json"
    words = [
        str(command),
        "run",
        "--backend",
        f"kind=openai_http,target={url},model=mock,request_format=/v1/completions",
    ]
    words += ["--profile", "kind=concurrent,streams=32", "--constraint", f"kind=max_requests,count={count}"]
    words += ["--tokenizer", f"kind=huggingface_auto,model={tokenizer}", "--disable-progress"]
    words += ["--data", f"kind=synthetic_text,prompt_tokens={PROMPT},output_tokens={tokens}"]
    words += ["--output", f"kind=json,path={out}"]
    cpu_s = _cpu_of(words, GUIDELLM__MAX_WORKER_PROCESSES="1", HF_HUB_OFFLINE="1")
    metrics = json.loads(out.read_text())["benchmarks"][0]["metrics"]["time_to_first_token_ms"]["successful"]
    return Played(cpu_s, round(metrics["median"], 3), round(metrics["percentiles"]["p99"], 3))


def aiperf(command: Path, tokenizer: Path, url: str, folder: Path, count: int, tokens: int, _: float) -> Played:
    """AIPerf with one worker, 32 requests at once."""
    out = folder / "aiperf"
    words = [str(command), "profile", "--url", url, "--model", "mock", "--tokenizer", str(tokenizer)]
    words += ["--endpoint-type", "completions", "--streaming", "--isl", str(PROMPT), "--isl-stddev", "0"]
    words += ["--osl", str(tokens), "--osl-stddev", "0", "--extra-inputs", "ignore_eos:true", "--workers-max", "1"]
    words += ["--use-server-token-count", "--concurrency", "32", "--request-count", str(count), "--no-gpu-telemetry"]
    words += ["--ui-type", "none", "--output-artifact-dir", str(out)]
    cpu_s = _cpu_of(words)
    found = json.loads(next(out.rglob("profile_export_aiperf.json")).read_text())["time_to_first_token"]
    return Played(cpu_s, round(found["p50"], 3), round(found["p99"], 3))


def on_time(path: Path) -> Iterator[dict[str, object]]:
    """When the server saw 1,000 arrivals at five times their speed, against when they were due."""
    shaping = Shaping(max_requests=1000, speed=5.0)
    trace = shaping.apply(read_trace(path).trace)
    with mock(0.0) as url, tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run.json"
        options = ["--speed", "5", "--max-requests", "1000", "--token-scale", "0.05", "--out", str(out), "--json"]
        _cpu_of([sys.executable, "-m", "planner.replay", "run", str(path), "--target", url, *options])
        with urllib.request.urlopen(f"{url}/arrivals") as answer:
            seen = json.loads(answer.read())
        lag = read_run(out).header.details["lag"]
    order = [int(name.rpartition("-")[2]) for name, _ in seen]
    due = dict(zip(trace.row_id.tolist(), (trace.arrival_ns / 1e9).tolist(), strict=True))
    late = np.array([at - due[row] for row, (_, at) in zip(order, seen, strict=True)])
    late = (late - late.min()) * 1e3
    for name, value in zip(("p50", "p90", "p99", "max"), np.percentile(late, (50, 90, 99, 100)).tolist(), strict=True):
        yield {"what": f"lag at the server, {name}", "ours": round(value, 3), "unit": "ms", "lower_is_better": True}
    inversions = int((np.diff(np.array(order)) < 0).sum())
    yield {"what": "requests seen out of order", "ours": inversions, "unit": "of 1,000", "lower_is_better": True}
    yield {"what": "requests seen", "ours": len(seen), "unit": "of 1,000"}
    yield {"what": "own lag p99, absolute", "ours": round(lag["p99_s"] * 1e3, 3), "unit": "ms", "lower_is_better": True}


@contextmanager
def mock(gap_s: float) -> Iterator[str]:
    """The mock server in a process of its own; its address."""
    command = [sys.executable, "-m", "benchmarks._mock_openai", "--gap-s", str(gap_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def _cpu_of(command: list[str], ok: tuple[int, ...] = (0,), **environment: str) -> float:
    """CPU seconds of a command and of all processes that it waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode not in ok:
        raise SystemExit(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
