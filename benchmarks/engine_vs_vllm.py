"""The engine's server beside vLLM's and transformers' continuous batching: one burst, one machine, one run.

    python -m benchmarks.engine_vs_vllm --vllm PATH_TO_ITS_VENV [--sizes 15m 110m] [--repeats 3] [--threads 2]

Both servers get 64 streaming completions at once over HTTP (128 tokens in, 64 out, greedy); transformers, whose server
takes neither token ids nor ``ignore_eos``, gets the same prompts in a process of its own, without HTTP. Rounds of the
sides alternate, the best round of each counts. CPU seconds are those of the server's whole process tree: read them
where other work shares the machine. ``--vllm`` names a virtual environment with vLLM's CPU build, started with its
defaults, which on two cores computes on one (``--vllm-cores 0-1``: on both); absent, its rows say why they are missing.
``--checkpoints`` takes directories ``llama-15m`` and ``llama-110m`` instead of making them.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks._burst import Burst, run_burst, until_ready
from benchmarks._checkpoints import SHAPES, make_checkpoint
from benchmarks._servers import free_port, running

VLLM_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}


@dataclass(frozen=True, slots=True)
class Round:
    """One burst through one side."""

    output_tokens_per_s: float
    cpu_s: float
    first_token_p50_s: float | None = None
    per_token_p50_s: float | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and its process."""

    base_url: str
    process: psutil.Process


def main() -> None:
    """Read the command line, measure every size, print."""
    options = _options()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in options.sizes:
            directory = (options.checkpoints or Path(scratch)) / f"llama-{size}"
            if options.checkpoints is None:
                make_checkpoint(directory, size, options.dtype, options.seed)
            rounds, missing = asyncio.run(compare(directory, options))
            rows += list(_rows(f"{size} {options.dtype}", rounds, missing))
    for row in rows:
        peer = f"{row['peer_name']} {row['peer']:,.0f}   {row['ours'] / row['peer']:.2f}x" if "peer" in row else ""
        print(f"{row['what']:<58} {row['ours']:>10,.1f} {row['unit']:<14} {peer}")
    print(json.dumps({"benchmark": "engine_vs_vllm", "rows": rows}))


async def compare(directory: Path, options: argparse.Namespace) -> tuple[dict[str, list[Round]], dict[str, str]]:
    """Rounds by side, and why sides are missing."""
    burst, missing = Burst(), {}
    rounds: dict[str, list[Round]] = {}
    with contextlib.ExitStack() as stack:
        servers = {"loadline": stack.enter_context(_server(_loadline(directory, options)))}
        if options.vllm is None:
            missing["vllm"] = "no --vllm"
        elif not (options.vllm / "bin" / "vllm").is_file():
            missing["vllm"] = f"{options.vllm} has no bin/vllm"
        else:
            bound = {} if options.vllm_cores is None else {"VLLM_CPU_OMP_THREADS_BIND": options.vllm_cores}
            servers["vllm"] = stack.enter_context(_server(_vllm(directory, options), VLLM_ENVIRONMENT | bound))
        for name, server in servers.items():
            _tell(f"{directory.name}: waiting for {name}")
            await until_ready(f"{server.base_url}/{'ready' if name == 'loadline' else 'health'}")
            await run_burst(server.base_url, directory.name, burst, options.seed - 1)  # what is made on first use
        for repeat in range(options.repeats):
            for name, server in servers.items():
                rounds.setdefault(name, []).append(await _round(server, directory.name, burst, options.seed + repeat))
                _tell(f"{directory.name} {name}: {rounds[name][-1]}")
            if options.transformers:
                found = _transformers(directory, burst, options, options.seed + repeat)
                if isinstance(found, str):
                    missing["transformers"] = found
                else:
                    rounds.setdefault("transformers", []).append(found)
                _tell(f"{directory.name} transformers: {found}")
    return rounds, missing


async def _round(server: Server, model: str, burst: Burst, seed: int) -> Round:
    before = _cpu_s(server.process)
    measured = await run_burst(server.base_url, model, burst, seed)
    cpu_s = _cpu_s(server.process) - before
    return Round(measured.output_tokens_per_s, cpu_s, measured.first_token_p50_s, measured.per_token_p50_s)


def _transformers(directory: Path, burst: Burst, options: argparse.Namespace, seed: int) -> Round | str:
    """A round of continuous batching in a fresh process; the reason where there is none."""
    command = [sys.executable, "-m", "benchmarks._transformers_burst", str(directory), options.dtype]
    command += [str(options.threads), str(seed)]
    waiting = os.environ | {"OMP_WAIT_POLICY": "passive"}  # as ours: spinning threads take each other's core
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=waiting)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it ended without a word"])[-1][:200]
    found = json.loads(done.stdout.splitlines()[-1])
    return Round(burst.requests * burst.output_tokens / found["wall_s"], found["cpu_s"])


def _rows(what: str, rounds: dict[str, list[Round]], missing: dict[str, str]) -> Iterator[dict[str, Any]]:
    tokens = Burst().requests * Burst().output_tokens
    best = {side: max(found, key=lambda one: one.output_tokens_per_s) for side, found in rounds.items()}
    least_cpu_s = {side: min(one.cpu_s for one in found) for side, found in rounds.items()}
    for peer in ("vllm", "transformers"):
        told = peer if peer in best else f"{peer} ({missing.get(peer, 'not asked for')})"
        pairs = (
            ("output, best round", "tok/s", {side: one.output_tokens_per_s for side, one in best.items()}),
            ("output per CPU second", "tok per CPU s", {side: tokens / spent for side, spent in least_cpu_s.items()}),
        )
        for figure, unit, values in pairs:
            row = {"what": f"{what}: {figure}", "ours": values["loadline"], "unit": unit, "peer_name": told}
            yield row | ({"peer": values[peer]} if peer in values else {})


def _loadline(directory: Path, options: argparse.Namespace) -> list[str]:
    command = [sys.executable, "-m", "loadline", "engine", "serve", "--model", str(directory), "--port", "PORT"]
    return [*command, "--dtype", options.dtype, "--threads", str(options.threads)]


def _vllm(directory: Path, options: argparse.Namespace) -> list[str]:
    command = [str(options.vllm / "bin" / "vllm"), "serve", str(directory), "--served-model-name", directory.name]
    command += ["--host", "127.0.0.1", "--port", "PORT", "--dtype", options.dtype]
    return [*command, "--max-model-len", "2048", "--max-num-seqs", str(Burst().requests)]


@contextlib.contextmanager
def _server(command: list[str], environment: dict[str, str] | None = None) -> Iterator[Server]:
    """A server of ``command``, in which ``PORT`` stands for its port."""
    port = str(free_port())
    with running([part if part != "PORT" else port for part in command], environment) as process:
        yield Server(f"http://127.0.0.1:{port}", psutil.Process(process.pid))


def _cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a process and everything that it started and that still runs."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system
    return total


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", type=Path, help="Virtual environment that has vLLM's CPU build.")
    parser.add_argument("--vllm-cores", help="Cores that vLLM computes on, such as 0-1; its own choice if absent.")
    parser.add_argument("--checkpoints", type=Path, help="Directory with llama-SIZE; made afresh if absent.")
    parser.add_argument("--sizes", nargs="+", choices=SHAPES, default=["15m"])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="Of ours and of transformers; all cores.")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--transformers", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
