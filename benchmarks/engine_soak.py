"""A server under many streams for a long time, some of whose clients hang up: memory, blocks, and every other stream.

    python -m benchmarks.engine_soak [--minutes 10] [--streams 1000] [--disconnects 0.05] [--model tiny]

The server runs in a process of its own. ``--streams`` clients ask over and over for outputs of random length; a share
of them hangs up after a random number of events. Resident memory is read every second; its growth is the slope of a
line through the second half, over its length. Afterwards nothing may run or wait, every KV block must be free, and each
stream that was not left must have had all of its tokens. Exit code 1 if not.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field

import aiohttp
import numpy as np
import orjson
import psutil

from benchmarks._burst import until_ready
from benchmarks._servers import free_port, running

SEED = 17
PROMPT_TOKENS = (4, 96)
OUTPUT_TOKENS = (8, 96)
DRAIN_S = 60.0


@dataclass(slots=True)
class Tally:
    """What became of the streams."""

    whole: int = 0
    left: int = 0
    broken: list[str] = field(default_factory=list)
    resident_bytes: list[tuple[float, int]] = field(default_factory=list)


def main() -> None:
    """Soak, judge, print."""
    options = _options()
    port = free_port()
    command = [sys.executable, "-m", "loadline", "engine", "serve", "--model", options.model, "--port", str(port)]
    command += ["--dtype", options.dtype, "--max-queue", str(2 * options.streams), "--no-prefix-cache"]
    with running(command) as server:
        tally, idle = asyncio.run(_soak(f"http://127.0.0.1:{port}", server, options))
    growth = growth_bytes(tally.resident_bytes) / 2**20
    blocks = idle["kv_blocks"]
    rows = [
        {"what": f"resident memory, growth over {options.minutes / 2:g} min", "ours": growth, "unit": "MiB"},
        {"what": "KV blocks still taken", "ours": blocks["total"] - blocks["free"], "unit": "blocks"},
        {"what": "streams broken", "ours": len(tally.broken), "unit": "streams"},
        {"what": "streams complete", "ours": tally.whole, "unit": "streams"},
        {"what": "streams left by their client", "ours": tally.left, "unit": "streams"},
    ]
    for row in rows:
        row["lower_is_better"] = row["what"] != "streams complete"
        print(f"{row['what']:<48} {row['ours']:>12,.2f} {row['unit']}")
    print(json.dumps({"benchmark": "engine_soak", "rows": rows}))
    if tally.broken or blocks["total"] != blocks["free"]:
        sys.exit(f"broken: {tally.broken[:3]}; blocks: {blocks}")


async def _soak(base_url: str, server: "subprocess.Popen[bytes]", options: argparse.Namespace) -> tuple[Tally, dict]:
    await until_ready(f"{base_url}/ready")
    tally, until = Tally(), time.monotonic() + 60 * options.minutes
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(None)
    async with aiohttp.ClientSession(base_url, connector=connector, timeout=timeout) as session:
        watcher = asyncio.create_task(_watch(psutil.Process(server.pid), tally))
        clients = [
            _client(session, random.Random(SEED + number), options.disconnects, until, tally)
            for number in range(options.streams)
        ]
        await asyncio.gather(*clients)
        watcher.cancel()
        async with asyncio.timeout(DRAIN_S):
            while (idle := await (await session.get("/metadata")).json())["kv_blocks"]["free"] < (
                idle["kv_blocks"]["total"]
            ):
                await asyncio.sleep(0.2)
    return tally, idle


async def _client(
    session: aiohttp.ClientSession, rng: random.Random, disconnects: float, until: float, tally: Tally
) -> None:
    """One client: stream after stream until the time is up."""
    while time.monotonic() < until:
        wanted = rng.randint(*OUTPUT_TOKENS)
        leaves_after = rng.randint(0, wanted - 1) if rng.random() < disconnects else None
        body = {
            "prompt": [rng.randrange(256) for _ in range(rng.randint(*PROMPT_TOKENS))],
            "max_tokens": wanted,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        try:
            tokens = await _stream(session, body, leaves_after)
        except (aiohttp.ClientError, RuntimeError) as error:
            tally.broken.append(repr(error))
            await asyncio.sleep(1.0)
            continue
        if leaves_after is not None:
            tally.left += 1
        elif tokens == wanted:
            tally.whole += 1
        else:
            tally.broken.append(f"{tokens} tokens of {wanted}")


async def _stream(session: aiohttp.ClientSession, body: dict[str, object], leaves_after: int | None) -> int | None:
    """Read a stream; its tokens as its last event counts them, None where the client left."""
    seen, tokens = 0, None
    async with session.post("/v1/completions", json=body) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} {await answer.text()}"[:200])
        if leaves_after == 0:
            answer.close()
            return None
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            seen += 1
            if seen == leaves_after:
                answer.close()
                return None
            event = orjson.loads(line[6:])
            if not event.get("choices", True):
                tokens = event["usage"]["completion_tokens"]
    return tokens


async def _watch(process: psutil.Process, tally: Tally) -> None:
    started = time.monotonic()
    while True:
        tally.resident_bytes.append((time.monotonic() - started, process.memory_info().rss))
        if len(tally.resident_bytes) % 30 == 1:
            at_s, resident = tally.resident_bytes[-1]
            told = f"{at_s:5.0f} s: {resident / 2**20:,.0f} MiB, {tally.whole} whole, {tally.left} left"
            print(told, len(tally.broken), "broken", file=sys.stderr)
        await asyncio.sleep(1.0)


def growth_bytes(resident: list[tuple[float, int]]) -> float:
    """What a line through the second half of (seconds, bytes) grows by from its beginning to its end."""
    half = resident[len(resident) // 2 :]
    if len(half) < 2:
        return 0.0
    times, sizes = np.array(half, dtype=float).T
    slope = np.polyfit(times, sizes, 1)[0]
    return float(slope * (times[-1] - times[0]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--disconnects", type=float, default=0.05, help="Share of streams whose client hangs up.")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--dtype", default="float32")
    return parser.parse_args()


if __name__ == "__main__":
    main()
