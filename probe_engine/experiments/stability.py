"""``stability``: many streams at once against a real server process, some of whose clients hang up."""

import asyncio
import resource
import time
from collections import Counter

from probe_engine.experiments.drive import quantile
from probe_engine.experiments.figure import Bars
from probe_engine.experiments.options import Options
from probe_engine.experiments.report import Cell, Report
from probe_engine.experiments.server_process import Server, Serving, running, serve_command
from probe_engine.experiments.streams import jobs_of, run_streams

LEVELS = (100, 1000, 5000)
QUICK_LEVELS = (20, 100)
LONGEST = (64, 32)  # prompt and output tokens: what 5,000 streams at once leave time for on a CPU
LEAVING = 0.05
QUEUE = 8192
FILES = 16384  # descriptors that 5,000 streams need, on either side


def run(options: Options, serving: Serving = running) -> Report:
    """Each level in turn against one server."""
    raise_file_limit()
    usual: tuple[int, ...] = QUICK_LEVELS if options.quick else LEVELS
    levels = (options.requests,) if options.requests else usual
    arguments = ("--model", options.model, "--dtype", options.dtype, "--max-queue", str(QUEUE))
    rows: list[dict[str, Cell]] = []
    with serving(serve_command(*arguments)) as server:
        for level in levels:
            options.tell(f"stability: {level} streams at once")
            rows.append(at_level(server, options, level))
    names = tuple(f"{row['streams']} streams" for row in rows)
    whole = all(not row["failed"] and not row["refused"] for row in rows)
    clean = all(row["KV in use after %"] == 0 and row["alive"] for row in rows)
    return Report(
        name="stability",
        title="Many streams at once",
        question=(
            "Does every stream that its client stays for get all of its tokens, and every block come back from those "
            f"who leave, with {', '.join(f'{level:,}' for level in levels)} streams at once?"
        ),
        answer=(
            f"Up to {levels[-1]:,} streams at once: {sum(int(str(row['complete'])) for row in rows):,} complete, "
            f"{sum(int(str(row['failed'])) for row in rows)} broken, "
            f"{'no block lost' if clean else 'blocks or the server were lost'}."
        ),
        setup={
            **options.setup(),
            "lengths": f"the trace's, at most {LONGEST[0]} prompt and {LONGEST[1]} output tokens",
            "clients that hang up": f"{LEAVING:.0%}, at a token drawn with the seed",
            "server": "loadline engine serve, a process of its own, max_num_seqs 256, a queue of 8,192",
        },
        rows=rows,
        figures=(
            Bars(
                "Time to first token (s)",
                names,
                tuple(
                    (quantile_, tuple(float(str(row[f"TTFT {quantile_} s"])) for row in rows))
                    for quantile_ in ("p50", "p99")
                ),
                "s",
            ),
            Bars(
                "Memory of the server (MB)", names, (("", tuple(float(str(row["server MB"])) for row in rows)),), "MB"
            ),
        ),
        notes=(
            "256 of them run at a time; the others wait in the queue, which is why the time to the first token grows "
            "in proportion.",
            "Client and server share the machine: times are theirs together, and say nothing about the server alone.",
            "A stream is complete when all the tokens that were asked for and the end have come.",
        ),
        holds=whole and clean,
    )


def at_level(server: Server, options: Options, level: int) -> dict[str, Cell]:
    """One level as a row."""
    jobs = jobs_of(options.trace, level, longest=LONGEST, leaving=LEAVING, seed=options.seed)
    began_s = time.perf_counter()
    streamed = asyncio.run(run_streams(server.url, jobs, at_once=level))
    took_s = time.perf_counter() - began_s
    endings = Counter(one.ending for one in streamed)
    first_s = [one.ttft_s for one in streamed if one.ttft_s is not None]
    after = server.settled()
    return {
        "streams": level,
        "complete": endings["complete"],
        "hung up": endings["hung up"],
        "refused": endings["refused"],
        "failed": endings["failed"],
        "TTFT p50 s": quantile(first_s, 0.5),
        "TTFT p99 s": quantile(first_s, 0.99),
        "tokens/s": sum(one.tokens for one in streamed) / took_s,
        "server MB": server.memory_bytes() / 1e6,
        "running after": int(after["running"] + after["waiting"]),
        "KV in use after %": 100 * after["kv_usage"],
        "alive": server.alive,
    }


def raise_file_limit() -> None:
    """As many descriptors as the machine allows, up to ``FILES``; the server's process inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
